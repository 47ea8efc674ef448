#include "base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace hadal {
namespace {

// Known answers of the Random123 distribution (philox4x32, 10 rounds).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, 0),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Rng, AnIndexResumesTheSequence) {
  Rng a(7, 3);
  for (int i = 0; i < 11; ++i) a.Next32();
  Rng b(7, 3);
  b.set_index(11);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(a.Next32(), b.Next32());
}

TEST(Rng, StreamsAndSeedsDiffer) {
  EXPECT_NE(Rng(1, 0).Next64(), Rng(1, 1).Next64());
  EXPECT_NE(Rng(1, 0).Next64(), Rng(2, 0).Next64());
}

TEST(Rng, BelowIsUniform) {
  Rng rng(42);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) {
    const uint64_t draw = rng.Below(7);
    ASSERT_LT(draw, 7u);
    ++counts[draw];
  }
  double chi2 = 0;
  for (const int c : counts) chi2 += (c - 10000.0) * (c - 10000.0) / 10000.0;
  EXPECT_LT(chi2, 22.5);  // 6 degrees of freedom, p = 0.001
}

TEST(Rng, NormalHasMeanZeroAndVarianceOne) {
  Rng rng(5);
  double sum = 0, squares = 0;
  constexpr int kDraws = 100000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.NextNormal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 0.015);
  EXPECT_NEAR(squares / kDraws, 1.0, 0.02);
}

TEST(Rng, FloatsStayBelowOne) {
  Rng rng(9);
  for (int i = 0; i < 100000; ++i) {
    const float f = rng.NextFloat();
    ASSERT_GE(f, 0.0f);
    ASSERT_LT(f, 1.0f);
  }
}

}  // namespace
}  // namespace hadal
