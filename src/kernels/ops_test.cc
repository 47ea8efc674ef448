#include "kernels/ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "base/rng.h"

namespace hadal {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
const std::vector<int64_t> kWidths = {1, 2, 7, 16, 17, 31, 64, 576, 1000, 7168};
const std::vector<int64_t> kRows = {0, 1, 3, 40};

// A matrix with a few columns of padding after each row.
struct Padded {
  Padded(int64_t r, int64_t c, uint64_t seed, float scale = 1.0f)
      : rows(r), cols(c), values(static_cast<size_t>(r * (c + 5) + 1), 123.0f) {
    Rng rng(seed);
    for (int64_t t = 0; t < rows; ++t) {
      for (float& x : (*this)()[t]) x = scale * static_cast<float>(rng.NextNormal());
    }
  }
  View2<float> operator()() { return {values.data(), rows, cols, cols + 5}; }

  int64_t rows, cols;
  std::vector<float> values;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y) ||
           (std::isnan(x) && std::isnan(y));
  });
}

std::vector<float> Random(int64_t n, uint64_t seed) {
  Padded p(1, n, seed);
  return {p.values.begin(), p.values.begin() + n};
}

void OnEvery(const std::function<void(const Exec&)>& body) {
  for (const Isa isa : SupportedIsas()) {
    for (const int threads : {1, 2, 3}) {
      SCOPED_TRACE(std::string(IsaName(isa)) + " threads " + std::to_string(threads));
      body(Exec(threads, isa));
    }
  }
}

TEST(Exp, RelativeErrorOverADenseSweep) {
  double worst = 0;
  for (int64_t i = -880000; i <= 880000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    if (std::abs(x) > 88.0f) continue;
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(ExpRef(x) - exact) / exact);
  }
  EXPECT_LT(worst, 0x1p-22);
}

TEST(Exp, Edges) {
  EXPECT_EQ(ExpRef(0.0f), 1.0f);
  EXPECT_EQ(ExpRef(-0.0f), 1.0f);
  EXPECT_EQ(ExpRef(-kInf), 0.0f);
  EXPECT_EQ(ExpRef(-88.001f), 0.0f);
  EXPECT_GT(ExpRef(-88.0f), 0.0f);
  EXPECT_EQ(ExpRef(kInf), ExpRef(88.0f));
  EXPECT_EQ(ExpRef(1e30f), ExpRef(88.0f));
  EXPECT_TRUE(std::isnan(ExpRef(kNaN)));
}

TEST(RmsNorm, EqualsTheReferenceOnEveryIsa) {
  OnEvery([](const Exec& exec) {
    for (const int64_t cols : kWidths) {
      for (const int64_t rows : kRows) {
        for (const float scale : {1.0f, 1e-18f, 1e15f}) {
          Padded x(rows, cols, 1, scale), want(rows, cols, 2), got = want;
          const std::vector<float> w = Random(cols, 3);
          RmsNormRef(x(), w, 1e-6f, want());
          RmsNorm(exec, x(), w, 1e-6f, got());
          ASSERT_TRUE(SameBits(want.values, got.values)) << rows << " x " << cols;
          RmsNorm(exec, x(), w, 1e-6f, x());  // in place
          for (int64_t t = 0; t < rows; ++t) {
            ASSERT_TRUE(std::equal(x()[t].begin(), x()[t].end(), want()[t].begin()));
          }
        }
      }
    }
  });
}

TEST(RmsNorm, CloseToDoublePrecision) {
  for (const bool constant : {false, true}) {
    Padded x(1, 7168, 1), y(1, 7168, 2);
    if (constant) std::fill(x.values.begin(), x.values.end(), 0.1f);
    const std::vector<float> w(7168, 1.0f);
    double sum = 0;
    for (const float v : x()[0]) sum += double{v} * v;
    const double scale = 1 / std::sqrt(sum / 7168 + 1e-6);
    RmsNormRef(x(), w, 1e-6f, y());
    for (int64_t d = 0; d < 7168; ++d) {
      EXPECT_NEAR(y()[0][d], x()[0][d] * scale, 0x1p-17 * std::abs(x()[0][d] * scale));
    }
  }
}

TEST(AddRmsNorm, EqualsAddThenNorm) {
  OnEvery([](const Exec& exec) {
    for (const int64_t cols : kWidths) {
      for (const int64_t rows : kRows) {
        Padded x(rows, cols, 1), y(rows, cols, 2), want(rows, cols, 3), got = want;
        Padded sum = x, added = x;
        const std::vector<float> w = Random(cols, 4);
        for (int64_t t = 0; t < rows; ++t) {
          for (int64_t d = 0; d < cols; ++d) sum()[t][d] += y()[t][d];
        }
        RmsNormRef(sum(), w, 1e-5f, want());
        AddRmsNorm(exec, x(), y(), w, 1e-5f, got());
        Add(exec, added(), y());
        ASSERT_TRUE(SameBits(sum.values, x.values)) << cols;
        ASSERT_TRUE(SameBits(sum.values, added.values)) << cols;
        ASSERT_TRUE(SameBits(want.values, got.values)) << cols;
      }
    }
  });
}

TEST(RmsNorm, NaNAndInfStayInTheirRow) {
  OnEvery([](const Exec& exec) {
    Padded x(4, 50, 1), clean(4, 50, 2), got(4, 50, 2);
    const std::vector<float> w = Random(50, 3);
    RmsNormRef(x(), w, 1e-5f, clean());
    x()[1][3] = kNaN;
    x()[2][49] = kInf;
    RmsNorm(exec, x(), w, 1e-5f, got());
    for (const int64_t t : {0, 3}) {
      EXPECT_TRUE(std::equal(got()[t].begin(), got()[t].end(), clean()[t].begin()));
    }
    EXPECT_TRUE(std::isnan(got()[1][0]));
    EXPECT_TRUE(std::isnan(got()[2][49]));
  });
}

TEST(Rope, EqualsTheReferenceOnEveryIsa) {
  OnEvery([](const Exec& exec) {
    for (const bool interleaved : {false, true}) {
      for (const int64_t dim : {2, 6, 32, 34, 64, 128}) {
        for (const int64_t rows : kRows) {
          const RopeShape shape = {.heads = 5,
                                   .head_stride = dim + 3,
                                   .dim = dim,
                                   .offset = 4,
                                   .interleaved = interleaved};
          Padded x(rows, 4 + 5 * (dim + 3), 1), table(9, dim, 2);
          std::vector<int32_t> positions;
          for (int64_t t = 0; t < rows; ++t) positions.push_back(static_cast<int32_t>(t * 5 % 9));
          Padded want = x;
          RopeRef(want(), positions, table(), shape);
          Rope(exec, x(), positions, table(), shape);
          ASSERT_TRUE(SameBits(want.values, x.values)) << interleaved << " " << dim;
        }
      }
    }
  });
}

TEST(Rope, RotatesThePairsOfEachForm) {
  std::vector<float> table = {0, 1, 1, 0};  // angles 90 and 0 degrees
  const std::vector<int32_t> position = {0};
  std::vector<float> half = {1, 2, 3, 4}, pairs = half;
  RopeRef({half.data(), 1, 4}, position, {table.data(), 1, 4}, {1, 4, 4, 0, false});
  EXPECT_EQ(half, (std::vector<float>{-3, 2, 1, 4}));
  RopeRef({pairs.data(), 1, 4}, position, {table.data(), 1, 4}, {1, 4, 4, 0, true});
  EXPECT_EQ(pairs, (std::vector<float>{-2, 1, 3, 4}));
}

TEST(SwiGlu, EqualsTheReferenceOnEveryIsa) {
  OnEvery([](const Exec& exec) {
    for (const int64_t cols : kWidths) {
      for (const int64_t rows : kRows) {
        Padded gate(rows, cols, 1, 30.0f), up(rows, cols, 2), want(rows, cols, 3), got = want;
        if (rows > 0) gate()[0][0] = -0.0f;
        if (rows > 1) gate()[1][cols - 1] = kNaN;
        if (rows > 2) gate()[2][cols / 2] = -kInf;
        SwiGluRef(gate(), up(), want());
        SwiGlu(exec, gate(), up(), got());
        ASSERT_TRUE(SameBits(want.values, got.values)) << cols;
        SwiGlu(exec, gate(), up(), gate());
        for (int64_t t = 0; t < rows; ++t) {
          ASSERT_TRUE(
              SameBits({gate()[t].begin(), gate()[t].end()}, {want()[t].begin(), want()[t].end()}));
        }
      }
    }
  });
}

TEST(SwiGlu, CloseToDoublePrecision) {
  Padded gate(1, 1000, 1, 10.0f), up(1, 1000, 2), y(1, 1000, 3);
  SwiGluRef(gate(), up(), y());
  for (int64_t i = 0; i < 1000; ++i) {
    const double g = gate()[0][i], want = g / (1 + std::exp(-g)) * up()[0][i];
    EXPECT_NEAR(y()[0][i], want, 1e-6 * std::abs(want));
  }
}

TEST(Softmax, SumsToOneAndLeavesTheRest) {
  Padded x(3, 40, 1, 20.0f);
  const Padded before = x;
  const std::vector<int64_t> n = {40, 17, 0};
  SoftmaxRef(x(), n);
  for (int64_t t = 0; t < 3; ++t) {
    double sum = 0;
    for (int64_t i = 0; i < n[static_cast<size_t>(t)]; ++i) sum += x()[t][i];
    EXPECT_NEAR(sum, n[static_cast<size_t>(t)] > 0 ? 1 : 0, 1e-6);
    for (int64_t i = n[static_cast<size_t>(t)]; i < 45; ++i) {
      const auto at = static_cast<size_t>(t * 45 + i);
      EXPECT_EQ(x.values[at], before.values[at]);
    }
  }
}

TEST(RowsFinite, FindsTheRows) {
  OnEvery([](const Exec& exec) {
    for (const int64_t cols : kWidths) {
      Padded x(40, cols, 1, 1e38f);
      for (int64_t t = 0; t < 40; ++t) {
        for (float& v : x()[t]) v = std::clamp(v, -3e38f, 3e38f);
      }
      x()[3][cols - 1] = kNaN;
      x()[7][0] = kInf;
      x()[9][cols / 2] = -kInf;
      std::vector<uint8_t> ok(40, 2);
      RowsFinite(exec, x(), ok);
      for (size_t t = 0; t < 40; ++t) EXPECT_EQ(ok[t], t != 3 && t != 7 && t != 9) << t;
    }
  });
}

}  // namespace
}  // namespace hadal
