#include "kernels/gemm.h"

#include <algorithm>
#include <limits>

#include "kernels/fp8.h"
#include "kernels/matmul.h"
#include "kernels/train_test.h"
#include "tensor/half.h"

namespace hadal {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr ComputeType kTypes[] = {ComputeType::kF32, ComputeType::kBF16, ComputeType::kF8};

// An operand of I x K: stored that way or transposed, with rows picked from a larger matrix or not.
struct Operand {
  Operand(int64_t i, int64_t k, bool transposed, bool picked, uint64_t seed)
      : m((transposed ? k : i) + (picked ? 7 : 0), transposed ? i : k, seed) {
    arg = {m(), transposed};
    if (!picked) return;
    Rng rng(seed);
    for (int64_t r = 0; r < (transposed ? k : i); ++r) {
      ids.push_back(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(m.rows))));
    }
    arg.ids = ids;
  }
  Padded m;
  std::vector<int32_t> ids;
  GemmArg arg;
};

struct Size {
  int64_t m, n, k;
};

TEST(Gemm, EqualsTheReference) {
  const std::vector<Size> sizes = {{1, 1, 1},    {3, 17, 5},     {6, 16, 256},   {7, 33, 129},
                                   {50, 40, 31}, {97, 150, 300}, {200, 18, 513}, {13, 400, 70}};
  OnEvery([&](const Exec& exec, std::vector<float>& result) {
    uint64_t seed = 0;
    for (const Size& s : sizes) {
      for (int form = 0; form < 4; ++form) {
        const ComputeType type = kTypes[++seed % 3];
        const bool weight = type == ComputeType::kF8 && form < 2;
        Operand a(s.m, s.k, form % 2 == 1, seed % 2 == 1, 2 * seed);
        Operand b(s.n, s.k, form / 2 == 1, !weight && seed % 4 < 2, 2 * seed + 1);
        const GemmOptions options = {type, form == 3, weight};
        Padded c(s.m, s.n, 3), want = c;
        Gemm(exec, a.arg, b.arg, c(), options);
        // The definition is slow: once is enough, OnEvery compares the rest.
        if (exec.threads() == 1 && exec.isa() != Isa::kScalar) {
          GemmRef(a.arg, b.arg, want(), options);
          ASSERT_TRUE(SameBits(want.values, c.values))
              << s.m << " x " << s.n << " x " << s.k << " form " << form << " type "
              << static_cast<int>(type);
        }
        Append(result, c.values);
      }
    }
  });
}

TEST(Gemm, EveryTypeAndFormAtOneSize) {
  const Exec exec(2, SupportedIsas().back());
  for (const ComputeType type : kTypes) {
    for (int form = 0; form < 16; ++form) {
      const bool weight = form >= 8;
      if (weight && form % 2 == 1) continue;
      Operand a(37, 260, form / 2 % 2 == 1, form % 2 == 1, 5);
      Operand b(150, 260, form / 4 % 2 == 1, form % 2 == 1, 6);
      for (const bool accumulate : {false, true}) {
        Padded c(37, 150, 7), want = c;
        const GemmOptions options = {type, accumulate, weight};
        Gemm(exec, a.arg, b.arg, c(), options);
        GemmRef(a.arg, b.arg, want(), options);
        ASSERT_TRUE(SameBits(want.values, c.values)) << form << " " << static_cast<int>(type);
      }
    }
  }
}

// Operands, products and sums near the least normal number: all that is less is 0.
TEST(Gemm, DenormalsAreZeroInBf16) {
  OnEvery([&](const Exec& exec, std::vector<float>& result) {
    for (int form = 0; form < 4; ++form) {
      Operand a(30, 77, form % 2 == 1, false, 1), b(50, 77, form / 2 == 1, false, 2);
      for (float& x : a.m.values) x *= 0x1p-64f;
      for (float& x : b.m.values) x *= 0x1p-62f;
      for (size_t i = 0; i < a.m.values.size(); i += 5) a.m.values[i] *= 0x1p-64f;
      for (const bool accumulate : {false, true}) {
        Padded c(30, 50, 3), want = c;
        for (float& x : c.values) x *= 0x1p-126f;
        want = c;
        const GemmOptions options = {ComputeType::kBF16, accumulate};
        Gemm(exec, a.arg, b.arg, c(), options);
        GemmRef(a.arg, b.arg, want(), options);
        ASSERT_TRUE(SameBits(want.values, c.values)) << form;
        Append(result, c.values);
      }
    }
  });
}

// Half is computed, half copied; beside other products of the same jobs.
TEST(Gemm, OfAMatrixWithItself) {
  const std::vector<Size> sizes = {
      {1, 1, 3}, {17, 17, 5}, {64, 64, 300}, {150, 150, 40}, {203, 203, 530}};
  OnEvery([&](const Exec& exec, std::vector<float>& result) {
    for (const ComputeType type : kTypes) {
      for (const bool transposed : {false, true}) {
        std::vector<Operand> x;
        std::vector<Padded> c, want;
        std::vector<GemmJob> jobs;
        for (const Size& s : sizes) {
          x.emplace_back(s.m, s.k, transposed, false, x.size());
          want.push_back(c.emplace_back(s.m, s.m, 3));
        }
        for (size_t i = 0; i < sizes.size(); ++i) {
          x[i].arg.m = x[i].m();
          jobs.push_back({x[i].arg, x[i].arg, c[i]()});
        }
        const Operand other(20, sizes[0].k, transposed, false, 9);
        Padded plain(1, 20, 4);
        jobs.insert(jobs.begin() + 2, {x[0].arg, other.arg, plain()});
        GemmJobs(exec, jobs, {.type = type});
        for (size_t i = 0; i < sizes.size(); ++i) {
          if (exec.threads() == 1 && exec.isa() != Isa::kScalar) {
            GemmRef(x[i].arg, x[i].arg, want[i](), {.type = type});
            ASSERT_TRUE(SameBits(want[i].values, c[i].values)) << sizes[i].m;
          }
          Append(result, c[i].values);
        }
        Append(result, plain.values);
      }
    }
  });
}

TEST(Gemm, GivesTheBitsOfMatMul) {
  const Exec exec(2, SupportedIsas().back());
  Padded x(75, 700, 1), y(75, 130, 2), c = y;
  const std::vector<float> w = RandomFloats(130 * 700, 3);
  auto packed = PackedMatrix::Pack(exec, DType::kF32, w.data(), 130, 700);
  ASSERT_TRUE(packed.ok());
  MatMul(exec, x(), *packed, y());
  Gemm(exec, {x()}, {{w.data(), 130, 700}}, c());
  EXPECT_TRUE(SameBits(y.values, c.values));
}

TEST(Gemm, NothingToDo) {
  const Exec exec(2, SupportedIsas().back());
  Padded a(3, 4, 1), b(5, 4, 2), none(0, 4, 3), c(3, 5, 4), empty(0, 5, 5), thin(3, 0, 6);
  Gemm(exec, {none()}, {b()}, empty());
  Gemm(exec, {a()}, {none()}, thin());
  Padded a0(3, 0, 1), b0(5, 0, 2), kept = c;
  Gemm(exec, {a0()}, {b0()}, c(), {.accumulate = true});
  EXPECT_TRUE(SameBits(kept.values, c.values));
  Gemm(exec, {a0()}, {b0()}, c());
  for (int64_t i = 0; i < 3; ++i) {
    for (const float v : c()[i]) EXPECT_EQ(v, 0.0f);
  }
  GemmJobs(exec, {});
}

// Without k there are no scales: what lies in the scratch memory must not count.
TEST(Gemm, NoDepthIsZeroInFp8) {
  const Exec exec(2, SupportedIsas().back());
  for (int worker = 0; worker < 2; ++worker) {
    Workspace& scratch = exec.scratch(worker);
    scratch.Reset();
    std::fill_n(scratch.Take<float>(1 << 16), 1 << 16, kNaN);
  }
  Padded a(0, 40, 1), b(0, 300, 2), c(40, 300, 3), kept = c;
  Gemm(exec, {a(), true}, {b(), true}, c(), {.type = ComputeType::kF8, .accumulate = true});
  EXPECT_TRUE(SameBits(kept.values, c.values));
}

TEST(Gemm, JobsOfUnequalSizes) {
  const std::vector<Size> sizes = {{300, 64, 20}, {1, 1, 1}, {0, 8, 3}, {2, 500, 64}, {64, 64, 64}};
  OnEvery([&](const Exec& exec, std::vector<float>& result) {
    std::vector<Operand> a, b;
    std::vector<Padded> c, want;
    std::vector<GemmJob> jobs;
    for (const Size& s : sizes) {
      a.emplace_back(s.m, s.k, false, false, a.size());
      b.emplace_back(s.n, s.k, true, false, 9 + b.size());
      want.push_back(c.emplace_back(s.m, s.n, 3));
    }
    for (size_t i = 0; i < sizes.size(); ++i) {
      a[i].arg.m = a[i].m();
      b[i].arg.m = b[i].m();
      jobs.push_back({a[i].arg, b[i].arg, c[i]()});
      Gemm(exec, a[i].arg, b[i].arg, want[i](), {.accumulate = true});
    }
    GemmJobs(exec, jobs, {.accumulate = true});
    for (size_t i = 0; i < sizes.size(); ++i) {
      ASSERT_TRUE(SameBits(want[i].values, c[i].values)) << i;
      Append(result, c[i].values);
    }
  });
}

TEST(Gemm, MoreColumnsThanArePackedAtOnce) {
  const Exec exec(2, SupportedIsas().back());
  Padded a(7, 9000, 1), b(600, 9000, 2), c(7, 600, 3), want = c;
  Gemm(exec, {a()}, {b()}, c());
  for (const int64_t j : {0, 127, 128, 383, 384, 599}) {
    for (int64_t i = 0; i < 7; ++i) {
      float acc = 0;
      for (int64_t k = 0; k < 9000; ++k) acc = std::fma(a()[i][k], b()[j][k], acc);
      ASSERT_EQ(acc, c()[i][j]) << i << " " << j;
    }
  }
}

TEST(Gemm, NaNStaysWithItsRowAndColumn) {
  const Exec exec(2, SupportedIsas().back());
  for (const ComputeType type : kTypes) {
    Padded a(20, 300, 1), b(40, 300, 2), c(20, 40, 3);
    a()[4][299] = kNaN;
    b()[33][5] = std::numeric_limits<float>::infinity();
    Gemm(exec, {a()}, {b()}, c(), {.type = type});
    for (int64_t i = 0; i < 20; ++i) {
      for (int64_t j = 0; j < 40; ++j) {
        EXPECT_EQ(std::isfinite(c()[i][j]), i != 4 && j != 33) << i << " " << j;
      }
    }
  }
}

TEST(Fp8, RoundsToTheNearestValue) {
  std::vector<float> values;
  for (int code = 0; code < 0x7f; ++code) values.push_back(E4M3ToF32(static_cast<uint8_t>(code)));
  for (int i = 0; i < 200000; ++i) {
    const float x = static_cast<float>(i) * (i < 100000 ? 1e-6f : 0.0025f);
    // Of two equally near, the even code.
    size_t best = 0;
    for (size_t c = 1; c < values.size(); ++c) {
      const double d = std::abs(double{values[c]} - double{x});
      const double least = std::abs(double{values[best]} - double{x});
      if (d < least || (d == least && c % 2 == 0)) best = c;
    }
    ASSERT_EQ(RoundE4M3(x), values[best]) << x;
    ASSERT_EQ(RoundE4M3(-x), -values[best]) << x;
    ASSERT_EQ(E4M3Code(values[best]), best);
    ASSERT_EQ(E4M3Code(-values[best]), best | 0x80);
  }
  EXPECT_EQ(RoundE4M3(1e9f), 448.0f);
}

TEST(Fp8, GroupsAndBlocks) {
  for (const bool blocks : {false, true}) {
    OnEvery([&](const Exec& exec, std::vector<float>& result) {
      Padded x(150, 300, 1);
      x()[3][130] = kNaN;
      std::fill_n(x.values.begin(), 100, 0.0f);  // all of the first group but 28
      for (int64_t i = 0; i < 128; ++i) x()[1][i] = 0.0f;
      const int64_t rows = blocks ? 2 : 150;
      std::vector<uint8_t> codes(150 * 300);
      std::vector<float> scales(static_cast<size_t>(rows * 3));
      const View2<uint8_t> code(codes.data(), 150, 300);
      const View2<float> scale(scales.data(), rows, 3);
      (blocks ? QuantizeBlocks : QuantizeRows)(exec, x(), code, scale);
      for (int64_t r = 0; r < 150; ++r) {
        for (int64_t c = 0; c < 300; ++c) {
          const float s = scale[blocks ? r / 128 : r][c / 128];
          const float got = E4M3ToF32(code[r][c]) * s;
          if (c / 128 == 1 && (blocks ? r < 128 : r == 3)) {
            ASSERT_TRUE(std::isnan(got));
          } else {
            // Three bits of mantissa, and the least step of the group.
            ASSERT_NEAR(got, x()[r][c], std::abs(x()[r][c]) / 16 + s * 0x1p-10f);
          }
        }
      }
      if (!blocks) {
        EXPECT_EQ(scale[1][0], 1.0f);
        EXPECT_EQ(code[1][5], 0);
      }
      Append(result, scales);
    });
  }
}

}  // namespace
}  // namespace hadal
