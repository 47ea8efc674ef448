// Bodies of the row operations over sixteen lanes. Included only inside the region compiled for
// L's instruction set.
#pragma once

#include "kernels/cpu/lanes_math.h"
#include "kernels/cpu/ops_table.h"

namespace hadal::internal {

template <typename L>
struct OpsKernels {
  using F = typename L::F;
  using Math = LanesMath<L>;

  HADAL_INLINE void Scale(const float* x, const float* w, float mean_square_eps, int64_t n,
                          float* y) {
    const float scale = 1.0f / __builtin_sqrtf(mean_square_eps);
    const F s = L::Set(scale);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      L::Store(y + i, L::Mul(L::Mul(L::Load(x + i), s), L::Load(w + i)));
    }
    for (; i < n; ++i) y[i] = x[i] * scale * w[i];
  }

  static void RmsNorm(const float* x, const float* w, float eps, int64_t n, float* y) {
    F sum = L::Zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const F v = L::Load(x + i);
      sum = L::Fma(v, v, sum);
    }
    if (i < n) {
      const F v = Math::LoadPart(x + i, n - i);
      sum = L::Fma(v, v, sum);
    }
    Scale(x, w, Math::Sum(sum) / static_cast<float>(n) + eps, n, y);
  }

  static void AddRmsNorm(float* x, const float* y, const float* w, float eps, int64_t n,
                         float* out) {
    F sum = L::Zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const F v = L::Add(L::Load(x + i), L::Load(y + i));
      L::Store(x + i, v);
      sum = L::Fma(v, v, sum);
    }
    if (i < n) {
      const F v = L::Add(Math::LoadPart(x + i, n - i), Math::LoadPart(y + i, n - i));
      Math::StorePart(x + i, v, n - i);
      sum = L::Fma(v, v, sum);
    }
    Scale(x, w, Math::Sum(sum) / static_cast<float>(n) + eps, n, out);
  }

  static void Add(float* x, const float* y, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) L::Store(x + i, L::Add(L::Load(x + i), L::Load(y + i)));
    for (; i < n; ++i) x[i] += y[i];
  }

  HADAL_INLINE F SwiGlu16(F gate, F up) {
    const F minus = L::Sub(L::Set(-0.0f), gate);
    const F silu = L::Div(gate, L::Add(L::Set(1.0f), Math::Exp(minus)));
    return L::Mul(silu, up);
  }

  static void SwiGlu(const float* gate, const float* up, int64_t n, float* y) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) L::Store(y + i, SwiGlu16(L::Load(gate + i), L::Load(up + i)));
    if (i < n) {
      const F v = SwiGlu16(Math::LoadPart(gate + i, n - i), Math::LoadPart(up + i, n - i));
      Math::StorePart(y + i, v, n - i);
    }
  }

  // A product with zero is NaN for Inf and NaN alone, and NaN stays in a sum.
  static bool Finite(const float* x, int64_t n) {
    F sum = L::Zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) sum = L::Fma(L::Load(x + i), L::Zero(), sum);
    if (i < n) sum = L::Fma(Math::LoadPart(x + i, n - i), L::Zero(), sum);
    return Math::Sum(sum) == 0.0f;
  }

  static void Axpy(float w, const float* x, int64_t n, float* y) {
    const F s = L::Set(w);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) L::Store(y + i, L::Fma(s, L::Load(x + i), L::Load(y + i)));
    if (i < n) {
      const F v = L::Fma(s, Math::LoadPart(x + i, n - i), Math::LoadPart(y + i, n - i));
      Math::StorePart(y + i, v, n - i);
    }
  }

  static void RopeHalf(float* x, const float* cos, const float* sin, int64_t dim) {
    const int64_t half = dim / 2;
    int64_t i = 0;
    for (; i + 16 <= half; i += 16) {
      const F a = L::Load(x + i), b = L::Load(x + half + i);
      const F c = L::Load(cos + i), s = L::Load(sin + i);
      L::Store(x + i, L::Sub(L::Mul(a, c), L::Mul(b, s)));
      L::Store(x + half + i, L::Add(L::Mul(b, c), L::Mul(a, s)));
    }
    for (; i < half; ++i) {
      const float a = x[i], b = x[half + i];
      x[i] = a * cos[i] - b * sin[i];
      x[half + i] = b * cos[i] + a * sin[i];
    }
  }

  static void RopePairs(float* x, const float* cos, const float* sin, int64_t dim) {
    int64_t i = 0;
    for (; i + 16 <= dim; i += 16) {
      const F v = L::Load(x + i);
      L::Store(x + i,
               L::Add(L::Mul(v, L::Load(cos + i)), L::Mul(L::SwapPairs(v), L::Load(sin + i))));
    }
    for (; i < dim; i += 2) {
      const float a = x[i], b = x[i + 1];
      x[i] = a * cos[i] + b * sin[i];
      x[i + 1] = b * cos[i + 1] + a * sin[i + 1];
    }
  }

  static constexpr OpsTable Table() {
    return {RmsNorm, AddRmsNorm, Add, SwiGlu, Finite, Axpy, RopeHalf, RopePairs};
  }
};

}  // namespace hadal::internal
