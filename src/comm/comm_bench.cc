// Speed of ReduceScatter + AllGather beside memcpy.
//   mpirun -n 2 comm_bench [MEGABYTES]
// GB/s: bytes of the vector a second, each way once (one ReduceScatter and one AllGather).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "comm/world.h"
#include "tensor/buffer.h"

namespace hadal {
namespace {

double Seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// Seconds of the fastest of ten runs; all ranks begin together.
template <typename Body>
double Fastest(World& world, const Body& body) {
  double best = 1e9;
  for (int i = 0; i < 10; ++i) {
    world.Barrier();
    const double begin = Seconds();
    body();
    double seconds[] = {Seconds() - begin};
    world.Max(seconds);
    best = std::min(best, seconds[0]);
  }
  return best;
}

void Report(World& world, int64_t floats) {
  const auto bytes = static_cast<size_t>(floats) * sizeof(float);
  const Buffer a(bytes), b(bytes);
  const std::span<float> data(a.as<float>(), static_cast<size_t>(floats));
  const double gigabytes = static_cast<double>(bytes) * 1e-9;
  const double copy = Fastest(world, [&] { std::memcpy(b.data(), a.data(), bytes); });
  const double reduce = Fastest(world, [&] { world.ReduceScatter(data, 16); });
  const double gather = Fastest(world, [&] { world.AllGather(data, 16); });
  if (world.rank() != 0) return;
  std::printf(
      "%d ranks, %8.3f MB: memcpy (all ranks at once) %6.2f GB/s   ReduceScatter %6.2f   "
      "AllGather %6.2f   both %6.2f GB/s = %.2f of memcpy\n",
      world.size(), gigabytes * 1e3, gigabytes / copy, gigabytes / reduce, gigabytes / gather,
      gigabytes / (reduce + gather), copy / (reduce + gather));
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  auto world = hadal::World::Start();
  if (!world.ok()) {
    std::fprintf(stderr, "%s\n", world.error().message.c_str());
    return 1;
  }
  const double most = argc > 1 ? std::atof(argv[1]) : 256;
  for (double megabytes = 0.016; megabytes <= most; megabytes *= 8) {
    hadal::Report(**world, static_cast<int64_t>(megabytes * 250000));
  }
  (*world)->Finish();
}
