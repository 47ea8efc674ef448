#include "tensor/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace hadal {
namespace {

bool AllZero(const Buffer& b) {
  return std::all_of(b.data(), b.data() + b.bytes(), [](std::byte v) { return v == std::byte{0}; });
}

TEST(Buffer, IsAlignedAndZero) {
  for (const size_t bytes : {size_t{1}, size_t{63}, size_t{4097}, (size_t{2} << 20) + 1}) {
    const Buffer b(bytes);
    EXPECT_EQ(b.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data()) % 64, 0u);
    EXPECT_TRUE(AllZero(b));
  }
}

TEST(Buffer, EmptyHoldsNothing) {
  const Buffer b(0);
  EXPECT_EQ(b.data(), nullptr);
  EXPECT_EQ(b.bytes(), 0u);
}

TEST(Buffer, MoveHandsTheMemoryOver) {
  Buffer a(128);
  std::byte* data = a.data();
  Buffer b(std::move(a));
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(b.bytes(), 128u);
  Buffer c(64);
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.bytes(), 128u);
}

// Small blocks share memory, which grows; a large one comes alone between them.
TEST(Arena, LendsZeroedAlignedBlocksThatDoNotOverlapOrMove) {
  constexpr size_t kSmall = 1000001, kLarge = size_t{3} << 20;
  Arena arena;
  std::vector<std::byte*> blocks;
  for (int i = 0; i < 60; ++i) {
    const size_t bytes = i == 30 ? kLarge : kSmall;
    std::byte* block = arena.Take(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 64, 0u);
    EXPECT_TRUE(std::all_of(block, block + bytes, [](std::byte b) { return b == std::byte{0}; }));
    std::fill_n(block, bytes, static_cast<std::byte>(i + 1));
    blocks.push_back(block);
  }
  const Arena moved = std::move(arena);
  for (int i = 0; i < 60; ++i) {
    const auto own = static_cast<std::byte>(i + 1);
    const size_t bytes = i == 30 ? kLarge : kSmall;
    EXPECT_TRUE(std::all_of(blocks[static_cast<size_t>(i)], blocks[static_cast<size_t>(i)] + bytes,
                            [own](std::byte b) { return b == own; }))
        << i;
  }
}

TEST(Workspace, TakesAreAlignedAndApart) {
  Workspace w(1024);
  char* a = w.Take<char>(1);
  auto* b = w.Take<float>(7);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b) % 64, 0u);
  EXPECT_GE(reinterpret_cast<char*>(b) - a, 64);
}

TEST(Workspace, GrowsWithoutMovingWhatItLent) {
  Workspace w(64);
  int* first = w.Take<int>(4);
  first[0] = 42;
  int* large = w.Take<int>(100000);
  std::fill_n(large, 100000, 7);
  EXPECT_EQ(first[0], 42);
  EXPECT_GE(w.capacity(), 400064u);
}

TEST(Workspace, ResetMergesSlabsSoThatTheNextStepFits) {
  Workspace w;
  for (int i = 0; i < 5; ++i) w.Take<float>(1000);
  w.Reset();
  const size_t capacity = w.capacity();
  for (int step = 0; step < 3; ++step) {
    for (int i = 0; i < 5; ++i) w.Take<float>(1000);
    EXPECT_EQ(w.capacity(), capacity);
    w.Reset();
  }
}

TEST(Workspace, ReleaseGivesBackWhatWasTakenSinceTheMark) {
  Workspace w(4096);
  w.Take<char>(64);
  const Workspace::Position mark = w.Mark();
  char* a = w.Take<char>(64);
  w.Release(mark);
  EXPECT_EQ(w.Take<char>(64), a);
}

TEST(Workspace, MatrixIsContiguous) {
  Workspace w;
  const View2<float> m = w.Matrix(3, 5);
  EXPECT_EQ(m.rows, 3);
  EXPECT_EQ(m.cols, 5);
  EXPECT_EQ(m.row(2) - m.row(0), 10);
}

}  // namespace
}  // namespace hadal
