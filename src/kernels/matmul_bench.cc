// Speed of the matrix products alone, beside the limits of the machine measured in the same run.
//   matmul_bench [THREADS [TYPE...]]
// share: of the read bandwidth for M = 1, of the dot or fma peak of the type for larger M.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>
#include <vector>

#include "kernels/exec.h"
#include "kernels/limits.h"
#include "kernels/matmul.h"
#include "tensor/buffer.h"

namespace hadal {
namespace {

struct Shape {
  int64_t m, n, k;
};

// Decode shapes exceed any cache; K types skip what is not a multiple of 256.
constexpr Shape kShapes[] = {{1, 102400, 1024}, {1, 49152, 576},  {16, 102400, 1024},
                             {16, 1536, 576},   {512, 1536, 576}, {512, 576, 1536},
                             {512, 2048, 1024}};

double Seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

// Any bytes do for speed, so long as no scale is NaN: no byte has both high exponent bits.
std::vector<uint8_t> RandomBytes(size_t count) {
  std::mt19937_64 random(1);
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(random() >> 32) & 0xbb;
  return bytes;
}

void Run(const Exec& exec, const MachineLimits& limits, DType type, const Shape& shape) {
  const int64_t bytes = shape.n * RowBytes(type, shape.k);
  const std::vector<uint8_t> source = RandomBytes(static_cast<size_t>(bytes));
  const std::vector<float> fp8_scale(static_cast<size_t>((shape.n / 128 + 1) * (shape.k / 128 + 1)),
                                     0.01f);
  const double pack_start = Seconds();
  const auto packed =
      PackedMatrix::Pack(exec, type, source.data(), shape.n, shape.k, fp8_scale.data());
  const double pack_time = Seconds() - pack_start;
  if (!packed) {
    std::printf("%s: %s\n", Info(type).name.data(), packed.error().message.c_str());
    return;
  }
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(shape.m * shape.k));
  for (float& v : x) v = normal(random);
  std::vector<float> y(static_cast<size_t>(shape.m * shape.n));
  double best = 1e9, begin = Seconds();
  for (int i = 0; i < 200 && (i < 4 || Seconds() - begin < 0.5); ++i) {
    const double start = Seconds();
    MatMul(exec, {x.data(), shape.m, shape.k}, *packed, {y.data(), shape.m, shape.n});
    best = std::min(best, Seconds() - start);
  }
  const double ops = 2.0 * static_cast<double>(shape.m * shape.n * shape.k);
  const double read = static_cast<double>(packed->bytes());
  const double peak = PeakOps(limits, type);
  const double share = shape.m == 1 ? read / best / limits.read_bytes : ops / best / peak;
  std::printf(
      "%-8s %4ld %7ld %5ld %9.1f us %7.1f GB/s %8.1f GOP/s  share %5.1f %%  pack %4.2f GB/s\n",
      Info(type).name.data(), static_cast<long>(shape.m), static_cast<long>(shape.n),
      static_cast<long>(shape.k), best * 1e6, read / best / 1e9, ops / best / 1e9, 100 * share,
      static_cast<double>(bytes) / pack_time / 1e9);
}

int Main(int argc, char** argv) {
  const auto isa = ChooseIsa();
  if (!isa) {
    std::fprintf(stderr, "%s\n", isa.error().message.c_str());
    return 1;
  }
  const Exec exec(argc > 1 ? std::atoi(argv[1]) : 0, *isa);
  const MachineLimits limits = MeasureLimits(exec);
  std::printf(
      "%d threads, %s: read %.1f GB/s, f32 %.0f GFLOP/s, int8 %.0f GOP/s, wide %.0f GOP/s\n",
      exec.threads(), IsaName(*isa).data(), limits.read_bytes / 1e9, limits.f32_ops / 1e9,
      limits.int8_ops / 1e9, limits.wide_int8_ops / 1e9);
  for (int i = 0; i <= static_cast<int>(DType::kMXFP4); ++i) {
    const auto type = static_cast<DType>(i);
    const std::string_view name = Info(type).name;
    if (argc > 2 && std::none_of(argv + 2, argv + argc, [&](const char* a) { return name == a; })) {
      continue;
    }
    for (const Shape& shape : kShapes) {
      if (shape.k % Info(type).block == 0) Run(exec, limits, type, shape);
    }
  }
  return 0;
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) { return hadal::Main(argc, argv); }
