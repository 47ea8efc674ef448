// Every body of every table against the plain one, bit by bit. AVX-512 bodies run through SIMDe
// where the machine lacks them: the same source over emulated intrinsics.
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <gtest/gtest.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/exec.h"
#include "kernels/ops.h"
#include "tensor/half.h"

// What this SIMDe lacks, or does with two roundings.
#undef __mmask16
#define __mmask16 simde__mmask16
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps(x, y, z) SimdeFma(x, y, z)
#define _mm512_shuffle_f32x4(x, y, order) SimdeShuffleQuarters(x, y, order)
#define _mm512_srai_epi32(x, n) SimdeShiftRight(x, n)
#define _mm512_cvtph_ps(x) SimdeWiden(x)
#define _mm512_cvtps_ph(x, rounding) SimdeNarrow(x)

namespace {

inline __m512 SimdeFma(const __m512& x, const __m512& y, const __m512& z) {
  float a[16], b[16], c[16];
  std::memcpy(a, &x, sizeof a);
  std::memcpy(b, &y, sizeof b);
  std::memcpy(c, &z, sizeof c);
  for (int i = 0; i < 16; ++i) c[i] = std::fma(a[i], b[i], c[i]);
  return _mm512_loadu_ps(c);
}

inline __m512 SimdeShuffleQuarters(const __m512& x, const __m512& y, int order) {
  float a[16], b[16], r[16];
  std::memcpy(a, &x, sizeof a);
  std::memcpy(b, &y, sizeof b);
  for (int i = 0; i < 4; ++i) {
    const float* from = (i < 2 ? a : b) + 4 * (order >> (2 * i) & 3);
    std::memcpy(r + 4 * i, from, 4 * sizeof(float));
  }
  return _mm512_loadu_ps(r);
}

inline __m512i SimdeShiftRight(const __m512i& x, int n) {
  int32_t lane[16];
  std::memcpy(lane, &x, sizeof lane);
  for (int32_t& v : lane) v >>= n;
  return _mm512_loadu_si512(lane);
}

inline __m512 SimdeWiden(const __m256i& x) {
  uint16_t half[16];
  float lane[16];
  std::memcpy(half, &x, sizeof half);
  for (int i = 0; i < 16; ++i) lane[i] = hadal::F16ToF32(half[i]);
  return _mm512_loadu_ps(lane);
}

inline __m256i SimdeNarrow(const __m512& x) {
  float lane[16];
  uint16_t half[16];
  std::memcpy(lane, &x, sizeof lane);
  for (int i = 0; i < 16; ++i) half[i] = hadal::F32ToF16(lane[i]);
  __m256i r;
  std::memcpy(&r, half, sizeof half);
  return r;
}

}  // namespace

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/ops_kernels.h"
#include "kernels/cpu/train_kernels.h"

namespace hadal::internal {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Tables {
  std::string name;
  OpsTable ops;
  AttentionTable attention;
  TrainTable train;
};

// All but the plain one.
std::vector<Tables> Fast() {
  std::vector<Tables> tables = {{"avx512 through simde", OpsKernels<LanesAvx512>::Table(),
                                 AttentionKernels<LanesAvx512>::Table(),
                                 TrainKernels<LanesAvx512>::Table()}};
#if defined(__x86_64__)
  for (const Isa isa : SupportedIsas()) {
    if (isa == Isa::kAvx2) tables.push_back({"avx2", kOpsAvx2, kAttentionAvx2, kTrainAvx2});
    if (isa == Isa::kAvx512)
      tables.push_back({"avx512", kOpsAvx512, kAttentionAvx512, kTrainAvx512});
  }
#endif
  return tables;
}

using Floats = std::vector<float>;

Floats Random(int64_t n, uint64_t seed, float scale = 1.0f) {
  Rng rng(seed);
  Floats v(static_cast<size_t>(n));
  for (float& x : v) x = scale * static_cast<float>(rng.NextNormal());
  return v;
}

std::vector<uint16_t> Halves(int64_t n, uint64_t seed) {
  std::vector<uint16_t> v;
  for (const float x : Random(n, seed)) v.push_back(F32ToF16(x));
  return v;
}

void ExpectEqual(const Floats& want, const Floats& got, const std::string& name) {
  ASSERT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i]) && std::isnan(got[i])) continue;
    ASSERT_EQ(std::bit_cast<uint32_t>(want[i]), std::bit_cast<uint32_t>(got[i]))
        << name << " element " << i << ": " << want[i] << " and " << got[i];
  }
}

// run(tables) returns everything that the bodies computed.
void ExpectSame(const std::function<Floats(const OpsTable&, const AttentionTable&)>& run) {
  const Floats want = run(kOpsScalar, kAttentionScalar);
  for (const Tables& t : Fast()) ExpectEqual(want, run(t.ops, t.attention), t.name);
}

void ExpectSameTraining(const std::function<Floats(const TrainTable&)>& run) {
  const Floats want = run(kTrainScalar);
  for (const Tables& t : Fast()) ExpectEqual(want, run(t.train), t.name);
}

TEST(Lanes, RowOperations) {
  for (const int64_t n : {1, 15, 16, 17, 100, 576}) {
    ExpectSame([n](const OpsTable& ops, const AttentionTable&) {
      Floats x = Random(n, 1), y = Random(n, 2, 30.0f);
      const Floats w = Random(n, 3);
      x[0] = -0.0f;
      if (n > 20) y[16] = kNaN, y[17] = kInf, y[18] = -kInf, y[19] = 1e-40f;
      Floats all, out(static_cast<size_t>(n));
      const auto keep = [&](const Floats& v) { all.insert(all.end(), v.begin(), v.end()); };
      ops.rms_norm(x.data(), w.data(), 1e-5f, n, out.data());
      keep(out);
      ops.swiglu(y.data(), w.data(), n, out.data());
      keep(out);
      ops.axpy(0.7f, y.data(), n, out.data());
      keep(out);
      all.push_back(ops.finite(x.data(), n));
      all.push_back(ops.finite(y.data(), n));
      ops.add_rms_norm(x.data(), w.data(), w.data(), 1e-5f, n, out.data());
      keep(x);
      keep(out);
      ops.add(x.data(), w.data(), n);
      keep(x);
      return all;
    });
  }
  for (const int64_t dim : {2, 30, 32, 64, 66}) {
    ExpectSame([dim](const OpsTable& ops, const AttentionTable&) {
      Floats x = Random(dim, 1), y = x;
      const Floats cos = Random(dim, 2), sin = Random(dim, 3);
      ops.rope_half(x.data(), cos.data(), sin.data(), dim);
      ops.rope_pairs(y.data(), cos.data(), sin.data(), dim);
      x.insert(x.end(), y.begin(), y.end());
      return x;
    });
  }
}

TEST(Lanes, SoftmaxOverDenseArguments) {
  for (const int64_t n : {1, 16, 17, 5000}) {
    for (const float scale : {1.0f, 30.0f}) {
      ExpectSame([=](const OpsTable&, const AttentionTable& attention) {
        Floats x = Random(n + 16, 1, scale);
        x.push_back(attention.softmax(x.data(), n));
        x.erase(x.begin() + (n + 15) / 16 * 16, x.end() - 1);
        return x;
      });
    }
  }
  // Every part of [-88.1, 0], where the cheaper form of exp must be the same function.
  ExpectSame([](const OpsTable&, const AttentionTable& attention) {
    Floats x;
    for (int i = 0; i <= 881000; ++i) x.push_back(-1e-4f * static_cast<float>(i));
    const auto n = static_cast<int64_t>(x.size());
    x.resize(x.size() + 16);
    Floats weight = x;
    attention.softmax(weight.data(), n);
    weight.resize(static_cast<size_t>(n));
    for (size_t i = 0; i < weight.size(); ++i) EXPECT_EQ(weight[i], ExpRef(x[i])) << x[i];
    return weight;
  });
  for (const float odd : {kNaN, kInf, -kInf}) {
    ExpectSame([odd](const OpsTable&, const AttentionTable& attention) {
      Floats x = Random(48, 1);
      x[17] = odd;
      x.push_back(attention.softmax(x.data(), 40));
      return x;
    });
  }
}

TEST(Lanes, ScoresAndValues) {
  constexpr int64_t kBlocks = 9, kDim = 33, kStride = 80;
  const std::vector<uint16_t> half = Halves(kBlocks * 16 * kStride, 1);
  Floats full;
  for (const uint16_t h : half) full.push_back(F16ToF32(h));
  const Floats q = Random(6 * kDim, 2), weight = Random(6 * kBlocks * 16, 3);
  const std::vector<int32_t> table = {3, 1, 8, 0, 2, 7, 4, 6, 5};
  for (int64_t rows = 1; rows <= kTileRows; ++rows) {
    for (const bool f16 : {false, true}) {
      const auto* base = f16 ? reinterpret_cast<const std::byte*>(half.data())
                             : reinterpret_cast<const std::byte*>(full.data());
      const BlockList blocks = {base, table.data(), 16 * kStride * (f16 ? 2 : 4)};
      ExpectSame([&](const OpsTable&, const AttentionTable& attention) {
        Floats out(static_cast<size_t>(rows * kBlocks * 16), 7.0f);
        ScoreArgs s = {.q = {},
                       .rows = rows,
                       .k_dim = kDim,
                       .keys = blocks,
                       .blocks = kBlocks,
                       .scale = 0.3f,
                       .out = out.data(),
                       .out_stride = kBlocks * 16};
        for (int64_t r = 0; r < rows; ++r) s.q[r] = q.data() + r * kDim;
        (f16 ? attention.scores_f16 : attention.scores_f32)(s);
        return out;
      });
      for (const int64_t first : {0, 5, 17}) {
        ExpectSame([&](const OpsTable&, const AttentionTable& attention) {
          Floats acc = Random(rows * 80, 4);
          (f16 ? attention.values_f16 : attention.values_f32)({.weight = weight.data(),
                                                               .weight_stride = kBlocks * 16,
                                                               .rows = rows,
                                                               .values = blocks,
                                                               .key_stride = kStride,
                                                               .vec_stride = 16,
                                                               .first = first,
                                                               .end = 131,
                                                               .vecs = 5,
                                                               .acc = acc.data(),
                                                               .acc_stride = 80});
          return acc;
        });
      }
    }
  }
}

TEST(Lanes, LayoutsAndConversions) {
  for (const int64_t n : {1, 16, 33, 64}) {
    const std::vector<uint16_t> half = Halves(16 * 70, 1);
    const Floats full = Random(16 * 70, 2);
    ExpectSame([&](const OpsTable&, const AttentionTable& attention) {
      Floats all;
      const auto keep = [&](const Floats& v) { all.insert(all.end(), v.begin(), v.end()); };
      const int64_t vecs = (n + 15) / 16;
      Floats columns(static_cast<size_t>(n * 16)), slabs(static_cast<size_t>(vecs * 300), 7.0f);
      attention.transpose_f32(full.data(), 70, n, columns.data());
      keep(columns);
      for (int64_t i = 0; i < n * 16; ++i) {
        EXPECT_EQ(columns[static_cast<size_t>(i)], full[static_cast<size_t>(i % 16 * 70 + i / 16)]);
      }
      attention.transpose_f16(half.data(), 70, n, columns.data());
      keep(columns);
      attention.slabs_f32(full.data(), 70, n, slabs.data(), 300);
      keep(slabs);
      attention.slabs_f16(half.data(), 70, n, slabs.data(), 300);
      keep(slabs);
      attention.divide(full.data(), 1.7f, n, columns.data());
      keep(columns);
      return all;
    });
  }
  // All f16 values there and back, and awkward f32 values on the way down.
  ExpectSame([](const OpsTable&, const AttentionTable& attention) {
    std::vector<uint16_t> half;
    for (int i = 0; i < 65536; ++i) half.push_back(static_cast<uint16_t>(i));
    Floats wide(65536);
    attention.widen(half.data(), 65536, wide.data());
    Floats awkward = Random(10000, 1, 1e-5f);
    for (const float x : {65519.996f, 65520.0f, 1e30f, kInf, -kInf, kNaN, 0x1p-25f, 0x1.8p-25f}) {
      awkward.push_back(x);
    }
    wide.insert(wide.end(), awkward.begin(), awkward.end());
    half.resize(wide.size());
    attention.narrow(wide.data(), static_cast<int64_t>(wide.size()), half.data());
    for (const uint16_t h : half) wide.push_back(h);
    return wide;
  });
}

TEST(Lanes, TrainingRows) {
  for (const int64_t n : {1, 15, 16, 17, 100, 576}) {
    ExpectSameTraining([n](const TrainTable& train) {
      Floats x = Random(n, 1), y = Random(n, 2, 30.0f), w = Random(n, 3), v = Random(n, 4);
      if (n > 20) y[16] = kNaN, y[17] = kInf, y[18] = -kInf, y[19] = 1e-40f;
      for (float& e : v) e = std::abs(e);
      Floats all, a(x), b(x), c(x);
      const auto keep = [&](std::initializer_list<const Floats*> parts) {
        for (const Floats* p : parts) all.insert(all.end(), p->begin(), p->end());
      };
      all.push_back(train.dot(x.data(), w.data(), n));
      all.push_back(train.max(w.data(), n));
      train.swiglu_grad(x.data(), y.data(), w.data(), n, a.data(), b.data());
      keep({&a, &b});
      all.push_back(
          train.expert_grad(x.data(), y.data(), w.data(), 0.3f, n, a.data(), b.data(), c.data()));
      keep({&a, &b, &c});
      train.rms_norm_grad(x.data(), w.data(), v.data(), 1e-5f, n, a.data(), b.data());
      keep({&a, &b});
      train.sigmoid(y.data(), n, a.data());
      train.scale(b.data(), n, 0.7f);
      train.add(b.data(), n, a.data());
      keep({&a, &b});
      const AdamWStep step = {0.5f, 0.99f, 0.1f, 0.95f, 0.05f, 0.01f, 0.3f, 1e-8f};
      train.adamw(x.data(), w.data(), c.data(), v.data(), n, step);
      keep({&x, &c, &v});
      all.push_back(train.exp_sum(w.data(), n, 1.5f, 1.5f * train.max(w.data(), n)));
      keep({&w});
      return all;
    });
  }
}

TEST(Lanes, TrainingTiles) {
  for (const int64_t n : {1, 16, 33}) {
    for (const int64_t count : {1, 16}) {
      ExpectSameTraining([=](const TrainTable& train) {
        const Floats x = Random(16 * 40, 1);
        const float* rows[16] = {};
        for (int64_t r = 0; r < count; ++r) rows[r] = x.data() + r * 40;
        Floats all(static_cast<size_t>(n * 16)), wide(static_cast<size_t>(n * 20), 7.0f);
        train.transpose(rows, count, n, all.data(), 16);
        train.transpose(rows, count, n, wide.data(), 20);
        for (int64_t i = 0; i < n * 16; ++i) {
          const int64_t c = i / 16, r = i % 16;
          const float want = r < count ? rows[r][c] : 0.0f;
          EXPECT_EQ(all[static_cast<size_t>(i)], want);
          EXPECT_EQ(wide[static_cast<size_t>(c * 20 + r)], want);
        }
        return all;
      });
    }
  }
  ExpectSameTraining([](const TrainTable& train) {
    Floats acc = Random(96, 1), w = Random(64, 4);
    const Floats partial = Random(96, 2), scale = Random(22, 3);
    train.fold(partial.data(), scale.data(), scale.data() + 6, 6, acc.data());
    Floats dp = Random(64, 5);
    train.softmax_grad(w.data(), dp.data(), 64, 3.0f, 0.2f);
    for (const Floats* p : {&w, &dp}) acc.insert(acc.end(), p->begin(), p->end());
    return acc;
  });
}

}  // namespace
}  // namespace hadal::internal
