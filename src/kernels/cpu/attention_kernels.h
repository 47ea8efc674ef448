// Bodies of the attention micro-kernels over sixteen lanes: outer products that keep one fma chain
// an output in registers. Included only inside the region compiled for L's instruction set.
#pragma once

#include "kernels/cpu/attention_table.h"
#include "kernels/cpu/lanes_math.h"

namespace hadal::internal {

template <typename L>
struct AttentionKernels {
  using F = typename L::F;
  using Math = LanesMath<L>;

  // How many vectors go with `rows` rows so that accumulators and vectors fill the registers: a
  // power of two, at most 8. One more would spill an accumulator and double the time.
  static constexpr int Vectors(int rows) {
    int n = 1;
    while (n < 8 && 2 * n * (rows + 1) <= L::kRegisters) n *= 2;
    return n;
  }

  template <typename T, int kRows, int kBlocks>
  static void ScoreTile(const ScoreArgs& a, int64_t block) {
    const T* key[kBlocks];
    F acc[kRows][kBlocks];
#pragma GCC unroll 8
    for (int b = 0; b < kBlocks; ++b) {
      key[b] = reinterpret_cast<const T*>(a.keys[block + b]);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) acc[r][b] = L::Zero();
    }
    const float* q[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) q[r] = a.q[r];
    for (int64_t d = 0; d < a.k_dim; ++d) {
      F k[kBlocks];
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) k[b] = L::Load(key[b] + d * 16);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const F qr = L::Set(q[r][d]);
#pragma GCC unroll 8
        for (int b = 0; b < kBlocks; ++b) acc[r][b] = L::Fma(qr, k[b], acc[r][b]);
      }
    }
    const F scale = L::Set(a.scale);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks; ++b) {
        L::Store(a.out + r * a.out_stride + (block + b) * 16, L::Mul(acc[r][b], scale));
      }
    }
  }

  template <typename T, int kRows, int kBlocks>
  static void ScoreBlocks(const ScoreArgs& a, int64_t block) {
    for (; block + kBlocks <= a.blocks; block += kBlocks) ScoreTile<T, kRows, kBlocks>(a, block);
    if constexpr (kBlocks > 1) ScoreBlocks<T, kRows, kBlocks / 2>(a, block);
  }

  template <typename T, int kRows = 1>
  static void Scores(const ScoreArgs& a) {
    if (a.rows == kRows) {
      ScoreBlocks<T, kRows, Vectors(kRows)>(a, 0);
    } else if constexpr (kRows < kTileRows) {
      Scores<T, kRows + 1>(a);
    }
  }

  template <typename T, int kRows, int kVecs>
  static void ValueTile(const ValueArgs& a, int64_t vec) {
    F acc[kRows][kVecs];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; ++v) {
        acc[r][v] = L::Load(a.acc + r * a.acc_stride + (vec + v) * 16);
      }
    }
    for (int64_t j = a.first; j < a.end;) {
      const int64_t in_block = j % 16;
      const int64_t stop = j - in_block + 16 < a.end ? j - in_block + 16 : a.end;
      const T* value = reinterpret_cast<const T*>(a.values[j / 16]) + in_block * a.key_stride +
                       vec * a.vec_stride;
      for (; j < stop; ++j, value += a.key_stride) {
        F x[kVecs];
#pragma GCC unroll 8
        for (int v = 0; v < kVecs; ++v) x[v] = L::Load(value + v * a.vec_stride);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const F w = L::Set(a.weight[r * a.weight_stride + j]);
#pragma GCC unroll 8
          for (int v = 0; v < kVecs; ++v) acc[r][v] = L::Fma(w, x[v], acc[r][v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVecs; ++v) {
        L::Store(a.acc + r * a.acc_stride + (vec + v) * 16, acc[r][v]);
      }
    }
  }

  template <typename T, int kRows, int kVecs>
  static void ValueVecs(const ValueArgs& a, int64_t vec) {
    for (; vec + kVecs <= a.vecs; vec += kVecs) ValueTile<T, kRows, kVecs>(a, vec);
    if constexpr (kVecs > 1) ValueVecs<T, kRows, kVecs / 2>(a, vec);
  }

  template <typename T, int kRows = 1>
  static void Values(const ValueArgs& a) {
    if (a.rows == kRows) {
      ValueVecs<T, kRows, Vectors(kRows)>(a, 0);
    } else if constexpr (kRows < kTileRows) {
      Values<T, kRows + 1>(a);
    }
  }

  static float Softmax(float* score, int64_t n) {
    const int64_t padded = (n + 15) / 16 * 16;
    for (int64_t j = n; j < padded; ++j) score[j] = -__builtin_inff();
    F max = L::Set(-__builtin_inff());
    for (int64_t j = 0; j < padded; j += 16) max = L::Max(L::Load(score + j), max);
    float lane[16];
    L::Store(lane, max);
    float m = lane[0];
    for (int i = 1; i < 16; ++i) m = lane[i] > m ? lane[i] : m;
    const F shift = L::Set(m);
    F sum = L::Zero();
    for (int64_t j = 0; j < padded; j += 16) {
      const F w = Math::ExpNotPositive(L::Sub(L::Load(score + j), shift));
      L::Store(score + j, w);
      sum = L::Add(sum, w);
    }
    return Math::Sum(sum);
  }

  static void Divide(const float* x, float by, int64_t n, float* y) {
    const F d = L::Set(by);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) L::Store(y + i, L::Div(L::Load(x + i), d));
    if (i < n) Math::StorePart(y + i, L::Div(Math::LoadPart(x + i, n - i), d), n - i);
  }

  static void Narrow(const float* x, int64_t n, uint16_t* y) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) L::Store(y + i, L::Load(x + i));
    if (i < n) Math::StorePart(y + i, Math::LoadPart(x + i, n - i), n - i);
  }

  static void Widen(const uint16_t* x, int64_t n, float* y) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) L::Store(y + i, L::Load(x + i));
    if (i < n) Math::StorePart(y + i, Math::LoadPart(x + i, n - i), n - i);
  }

  template <typename T>
  static void Transpose(const T* x, int64_t stride, int64_t n, float* y) {
    F row[16];
    int64_t d = 0;
    for (; d + 16 <= n; d += 16) {
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) row[r] = L::Load(x + r * stride + d);
      L::Transpose(row, y + d * 16);
    }
    if (d == n) return;
    float tail[256];
    for (int r = 0; r < 16; ++r) row[r] = Math::LoadPart(x + r * stride + d, n - d);
    L::Transpose(row, tail);
    for (int64_t i = 0; i < (n - d) * 16; ++i) y[d * 16 + i] = tail[i];
  }

  template <typename T>
  static void Slabs(const T* x, int64_t stride, int64_t n, float* y, int64_t vec_stride) {
    for (int64_t r = 0; r < 16; ++r, x += stride, y += 16) {
      int64_t i = 0;
      float* to = y;
      for (; i + 16 <= n; i += 16, to += vec_stride) L::Store(to, L::Load(x + i));
      if (i < n) L::Store(to, Math::LoadPart(x + i, n - i));
    }
  }

  static constexpr AttentionTable Table() {
    return {.vectors = Vectors(kTileRows),
            .scores_f32 = Scores<float>,
            .scores_f16 = Scores<uint16_t>,
            .values_f32 = Values<float>,
            .values_f16 = Values<uint16_t>,
            .softmax = Softmax,
            .divide = Divide,
            .narrow = Narrow,
            .widen = Widen,
            .transpose_f32 = Transpose<float>,
            .transpose_f16 = Transpose<uint16_t>,
            .slabs_f32 = Slabs<float>,
            .slabs_f16 = Slabs<uint16_t>};
  }
};

}  // namespace hadal::internal
