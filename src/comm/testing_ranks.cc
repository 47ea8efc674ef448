// What the ranks of the tests run: comm_ranks CASE [NUMBER]. Exit status 0 when all is as it
// should.
#include <algorithm>
#include <bit>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "comm/leaf_tree.h"
#include "comm/world.h"

namespace hadal {
namespace {

// Values whose sums depend on their order: random mantissas over many magnitudes.
std::vector<float> Leaf(int64_t index, int64_t length) {
  std::vector<float> values(static_cast<size_t>(length));
  uint64_t state = static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15 + 1;
  for (float& v : values) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const auto bits = static_cast<uint32_t>(state >> 32);
    v = std::bit_cast<float>((bits & 0x807fffff) | (110 + bits % 31) << 23);
  }
  return values;
}

std::vector<float> TreeOf(int64_t first, int64_t count, int64_t length) {
  std::vector<std::vector<float>> leaves;
  std::vector<std::span<float>> parts;
  for (int64_t i = 0; i < count; ++i) leaves.push_back(Leaf(first + i, length));
  for (auto& leaf : leaves) parts.emplace_back(leaf);
  TreeSum(parts);
  return std::move(leaves[0]);
}

void Expect(World& world, bool holds, const std::string& what) {
  if (!holds) world.Abort("wrong: " + what);
}

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

void CheckVectors(World& world, int64_t length, int64_t align) {
  const std::string where = std::to_string(length) + " by " + std::to_string(align);
  std::vector<float> data = Leaf(world.rank(), length);
  const std::vector<float> all = TreeOf(0, world.size(), length);
  world.ReduceScatter(data, align);
  const Range mine = world.Shard(length, align, world.rank());
  const auto begin = static_cast<size_t>(mine.begin), size = static_cast<size_t>(mine.size());
  Expect(world, SameBits(std::span(data).subspan(begin, size), std::span(all).subspan(begin, size)),
         "ReduceScatter of " + where);
  for (size_t i = 0; i < data.size(); ++i) {
    if (i < begin || i >= begin + size) data[i] = -1;
  }
  world.AllGather(data, align);
  Expect(world, SameBits(data, all), "AllGather of " + where);
}

void CheckSmall(World& world) {
  const int rank = world.rank(), size = world.size();
  std::vector<double> sums(7);
  std::vector<double> all;
  for (int r = 0; r < size; ++r) {
    for (int i = 0; i < 7; ++i) all.push_back(1.0 / (3 + r * 7 + i));
  }
  std::copy_n(all.begin() + rank * 7, 7, sums.begin());
  world.AllReduce(sums);
  TreeSum(all, 7, size);
  Expect(world, std::equal(sums.begin(), sums.end(), all.begin()), "AllReduce of doubles");

  std::vector<int64_t> counts = {rank + 1, int64_t{1} << 60, -rank};
  world.Max(counts);
  Expect(world, counts == std::vector<int64_t>{size, int64_t{1} << 60, 0}, "Max of integers");
  counts = {rank, int64_t{1} << 53, 1};
  world.AllReduce(counts);
  Expect(world,
         counts == std::vector<int64_t>{size * (size - 1) / 2, (int64_t{1} << 53) * size, size},
         "AllReduce of integers");

  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> most = {-1.0 - rank, rank == size - 1 ? nan : 5.0, rank == 0 ? nan : 5.0};
  world.Max(most);
  Expect(world, most[0] == -1 && most[1] != most[1] && most[2] != most[2], "Max of doubles");

  for (int root = 0; root < size; ++root) {
    std::vector<int32_t> words(1000, rank);
    world.Broadcast(std::as_writable_bytes(std::span(words)), root);
    Expect(world, words == std::vector<int32_t>(1000, root), "Broadcast");
  }
  const std::string line(static_cast<size_t>(rank * 1000), static_cast<char>('a' + rank));
  const std::vector<std::string> lines = world.GatherStrings(line);
  Expect(world, lines.size() == (rank == 0 ? static_cast<size_t>(size) : 0), "GatherStrings");
  for (size_t r = 0; r < lines.size(); ++r) {
    Expect(world, lines[r] == std::string(r * 1000, static_cast<char>('a' + r)), "GatherStrings");
  }
  world.Barrier();
}

// Rank a sends to rank b (7a + 3b) mod 5 * scale numbers, among them none at all.
template <typename T>
void CheckAllToAll(World& world, size_t scale) {
  const auto size = static_cast<size_t>(world.size()), rank = static_cast<size_t>(world.rank());
  const auto count = [&](size_t a, size_t b) { return (7 * a + 3 * b) % 5 * scale; };
  const auto value = [](size_t a, size_t b, size_t i) {
    return static_cast<T>(a * 1000 + b * 100 + i % 90);
  };
  std::vector<int64_t> lengths(size), announced(size);
  std::vector<std::vector<T>> out(size), in(size);
  for (size_t r = 0; r < size; ++r) {
    lengths[r] = static_cast<int64_t>(count(rank, r));
    for (size_t i = 0; i < count(rank, r); ++i) out[r].push_back(value(rank, r, i));
  }
  world.AllToAllCounts(lengths, announced);
  for (size_t r = 0; r < size; ++r) {
    Expect(world, announced[r] == static_cast<int64_t>(count(r, rank)), "AllToAllCounts");
    in[r].resize(static_cast<size_t>(announced[r]));
  }
  world.AllToAll(std::vector<std::span<const T>>(out.begin(), out.end()),
                 std::vector<std::span<T>>(in.begin(), in.end()));
  for (size_t r = 0; r < size; ++r) {
    for (size_t i = 0; i < in[r].size(); ++i) {
      Expect(world, in[r][i] == value(r, rank, i), "AllToAll");
    }
  }
}

void Numbers(World& world) {
  for (const int64_t align : {1, 16, 96}) {
    for (const int64_t length : {0, 1, 2, 3, 5, 17, 33, 1000, 4099}) {
      CheckVectors(world, length, align);
    }
  }
  CheckVectors(world, 1234567, 64);       // several messages a shard
  CheckVectors(world, 1000000, 1000000);  // all of it one rank's
  CheckSmall(world);
  CheckAllToAll<float>(world, 1);
  CheckAllToAll<int32_t>(world, 1);
  CheckAllToAll<float>(world, 50000);
}

// One line of a checksum a rank, over the sum of `leaves` leaves in rank order.
void Leaves(World& world, int64_t leaves) {
  constexpr int64_t kLength = 300007;
  const int64_t each = leaves / world.size(), first = each * world.rank();
  LeafTree tree(kLength, each);
  std::vector<float> data;
  std::vector<double> norms;
  for (int64_t i = 0; i < each; ++i) {
    data = Leaf(first + i, kLength);
    norms.push_back(data[0]);
    tree.Add(i, data);
  }
  world.ReduceScatter(data, 64);
  world.AllGather(data, 64);
  TreeSum(norms, 1, each);
  norms.resize(1);
  world.AllReduce(norms);
  Sha256 hash;
  hash.Update(data.data(), data.size() * sizeof(float));
  hash.Update(norms.data(), sizeof(double));
  for (const std::string& line : world.GatherStrings(hash.Hex())) std::printf("%s\n", line.c_str());
}

// The last rank fails in a way while the others wait for it.
int Fail(World& world, std::string_view how) {
  std::vector<float> data(1 << 20);
  world.ReduceScatter(data, 64);
  if (world.rank() == world.size() - 1) {
    if (how == "kill") std::raise(SIGKILL);
    if (how == "abort") world.Abort("disk full");
    if (how == "leave") return 3;
  }
  if (how == "mismatch") {
    std::vector<float> more(world.rank() == 0 ? 3 : 2);
    const std::vector<World::ConstFloats> send(static_cast<size_t>(world.size()), {data.data(), 2});
    std::vector<std::span<float>> receive(static_cast<size_t>(world.size()), {data.data() + 2, 2});
    if (world.rank() == 0) receive.back() = more;
    world.AllToAll(send, receive);
  }
  world.ReduceScatter(data, 64);
  world.Barrier();
  std::printf("still here\n");
  return 0;
}

int Run(int argc, char** argv) {
  auto started = World::Start();
  if (!started.ok()) {
    std::fprintf(stderr, "%s\n", started.error().message.c_str());
    return 4;
  }
  World& world = **started;
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "numbers") {
    Numbers(world);
  } else if (name == "leaves") {
    Leaves(world, argc > 2 ? std::atoll(argv[2]) : 4);
  } else if (const int status = Fail(world, name); status != 0) {
    return status;
  }
  const int ranks = world.size();
  world.Finish();
  if (world.rank() == 0) std::printf("%d ranks done\n", ranks);
  return 0;
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) { return hadal::Run(argc, argv); }
