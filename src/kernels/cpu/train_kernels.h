// Bodies of the training row operations over sixteen lanes. Included only inside the region
// compiled for L's instruction set.
#pragma once

#include "kernels/cpu/lanes_math.h"
#include "kernels/cpu/train_table.h"

namespace hadal::internal {

template <typename L>
struct TrainKernels {
  using F = typename L::F;
  using Math = LanesMath<L>;

  static void Transpose(const float* const* rows, int64_t count, int64_t n, float* y,
                        int64_t y_stride) {
    for (int64_t c = 0; c < n; c += 16) {
      const int64_t cols = n - c < 16 ? n - c : 16;
      if (cols == 16 && count == 16) {
        L::TransposeRows(rows, c, y + c * y_stride, y_stride);
        continue;
      }
      F row[16];
      for (int64_t r = 0; r < 16; ++r) {
        row[r] = r < count ? Math::LoadPart(rows[r] + c, cols) : L::Zero();
      }
      float block[256];
      L::Transpose(row, block);
      for (int64_t i = 0; i < cols; ++i) L::Store(y + (c + i) * y_stride, L::Load(block + 16 * i));
    }
  }

  static void Fold(const float* partial, const float* a, const float* b, int64_t rows, float* acc) {
    const F scale_b = L::Load(b);
    for (int64_t r = 0; r < rows; ++r) {
      const F scale = L::Mul(L::Set(a[r]), scale_b);
      L::Store(acc + 16 * r, L::Fma(L::Load(partial + 16 * r), scale, L::Load(acc + 16 * r)));
    }
  }

  static float Dot(const float* x, const float* y, int64_t n) {
    F sum = L::Zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) sum = L::Fma(L::Load(x + i), L::Load(y + i), sum);
    if (i < n) sum = L::Fma(Math::LoadPart(x + i, n - i), Math::LoadPart(y + i, n - i), sum);
    return Math::Sum(sum);
  }

  static void SoftmaxGrad(float* w, float* dp, int64_t n, float sum, float scale) {
    const F total = L::Set(sum);
    F dot = L::Zero();
    for (int64_t i = 0; i < n; i += 16) {
      const F p = L::Div(L::Load(w + i), total);
      L::Store(w + i, p);
      dot = L::Fma(p, L::Load(dp + i), dot);
    }
    const F delta = L::Set(Math::Sum(dot)), factor = L::Set(scale);
    for (int64_t i = 0; i < n; i += 16) {
      const F d = L::Mul(L::Load(w + i), L::Sub(L::Load(dp + i), delta));
      L::Store(dp + i, L::Mul(d, factor));
    }
  }

  struct Silu {
    F value, slope;
  };
  HADAL_INLINE Silu SiluOf(F gate) {
    const F one = L::Set(1.0f);
    const F below = L::Add(one, Math::Exp(L::Sub(L::Set(-0.0f), gate)));
    const F value = L::Div(gate, below), s = L::Div(one, below);
    return {value, L::Fma(value, L::Sub(one, s), s)};
  }

  struct Pair {
    F gate, up;
  };
  HADAL_INLINE Pair SwiGluGrad16(F dy, F gate, F up) {
    const Silu silu = SiluOf(gate);
    return {L::Mul(L::Mul(dy, up), silu.slope), L::Mul(dy, silu.value)};
  }

  static void SwiGluGrad(const float* dy, const float* gate, const float* up, int64_t n,
                         float* dgate, float* dup) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const Pair d = SwiGluGrad16(L::Load(dy + i), L::Load(gate + i), L::Load(up + i));
      L::Store(dgate + i, d.gate);
      L::Store(dup + i, d.up);
    }
    if (i == n) return;
    const int64_t rest = n - i;
    const Pair d = SwiGluGrad16(Math::LoadPart(dy + i, rest), Math::LoadPart(gate + i, rest),
                                Math::LoadPart(up + i, rest));
    Math::StorePart(dgate + i, d.gate, rest);
    Math::StorePart(dup + i, d.up, rest);
  }

  struct ExpertGrads16 {
    F gate, up, scaled, h;
  };
  HADAL_INLINE ExpertGrads16 ExpertGrad16(F g, F gate, F up, F w) {
    const Silu silu = SiluOf(gate);
    const F dh = L::Mul(w, g), h = L::Mul(silu.value, up);
    return {L::Mul(L::Mul(dh, up), silu.slope), L::Mul(dh, silu.value), L::Mul(w, h), h};
  }

  static float ExpertGrad(const float* g, const float* gate, const float* up, float w, int64_t n,
                          float* dgate, float* dup, float* scaled) {
    const F weight = L::Set(w);
    F dot = L::Zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const F gi = L::Load(g + i);
      const ExpertGrads16 d = ExpertGrad16(gi, L::Load(gate + i), L::Load(up + i), weight);
      dot = L::Fma(gi, d.h, dot);
      L::Store(dgate + i, d.gate);
      L::Store(dup + i, d.up);
      L::Store(scaled + i, d.scaled);
    }
    if (i < n) {
      const int64_t rest = n - i;
      const F gi = Math::LoadPart(g + i, rest);
      const ExpertGrads16 d =
          ExpertGrad16(gi, Math::LoadPart(gate + i, rest), Math::LoadPart(up + i, rest), weight);
      dot = L::Fma(gi, d.h, dot);
      Math::StorePart(dgate + i, d.gate, rest);
      Math::StorePart(dup + i, d.up, rest);
      Math::StorePart(scaled + i, d.scaled, rest);
    }
    return Math::Sum(dot);
  }

  static void RmsNormGrad(const float* dy, const float* x, const float* w, float eps, int64_t n,
                          float* dx, float* dw) {
    F squares = L::Zero(), products = L::Zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const F v = L::Load(x + i);
      squares = L::Fma(v, v, squares);
      products = L::Fma(L::Mul(L::Load(dy + i), L::Load(w + i)), v, products);
    }
    const int64_t whole = i, rest = n - i;
    F x_rest = L::Zero(), dy_rest = L::Zero(), g_rest = L::Zero();
    if (rest > 0) {
      x_rest = Math::LoadPart(x + i, rest);
      dy_rest = Math::LoadPart(dy + i, rest);
      g_rest = L::Mul(dy_rest, Math::LoadPart(w + i, rest));
      squares = L::Fma(x_rest, x_rest, squares);
      products = L::Fma(g_rest, x_rest, products);
    }
    const float count = static_cast<float>(n);
    const float r = 1.0f / __builtin_sqrtf(Math::Sum(squares) / count + eps);
    const F root = L::Set(r), minus = L::Set(-(r * r * r * (Math::Sum(products) / count)));
    for (i = 0; i < whole; i += 16) {
      const F v = L::Load(x + i), d = L::Load(dy + i);
      const F g = L::Mul(d, L::Load(w + i));
      L::Store(dx + i, L::Add(L::Load(dx + i), L::Fma(v, minus, L::Mul(g, root))));
      L::Store(dw + i, L::Fma(L::Mul(d, v), root, L::Load(dw + i)));
    }
    if (rest > 0) {
      const F change = L::Fma(x_rest, minus, L::Mul(g_rest, root));
      Math::StorePart(dx + i, L::Add(Math::LoadPart(dx + i, rest), change), rest);
      const F dw_rest = L::Fma(L::Mul(dy_rest, x_rest), root, Math::LoadPart(dw + i, rest));
      Math::StorePart(dw + i, dw_rest, rest);
    }
  }

  static float Max(const float* x, int64_t n) {
    F max = L::Set(-__builtin_inff());
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) max = L::Max(L::Load(x + i), max);
    float lane[16];
    L::Store(lane, max);
    float m = lane[0];
    for (int j = 1; j < 16; ++j) m = lane[j] > m ? lane[j] : m;
    for (; i < n; ++i) m = x[i] > m ? x[i] : m;
    return m;
  }

  static float ExpSum(float* x, int64_t n, float factor, float shift) {
    const F f = L::Set(factor), s = L::Set(shift);
    F sum = L::Zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const F e = Math::ExpNotPositive(L::Sub(L::Mul(L::Load(x + i), f), s));
      L::Store(x + i, e);
      sum = L::Add(sum, e);
    }
    if (i < n) {
      float part[16];
      for (int64_t j = 0; j < 16; ++j) part[j] = i + j < n ? x[i + j] : -__builtin_inff();
      const F e = Math::ExpNotPositive(L::Sub(L::Mul(L::Load(part), f), s));
      Math::StorePart(x + i, e, n - i);
      sum = L::Add(sum, e);
    }
    return Math::Sum(sum);
  }

  static void Scale(float* x, int64_t n, float factor) {
    const F f = L::Set(factor);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) L::Store(x + i, L::Mul(L::Load(x + i), f));
    for (; i < n; ++i) x[i] *= factor;
  }

  HADAL_INLINE F Sigmoid16(F x) {
    const F one = L::Set(1.0f);
    return L::Div(one, L::Add(one, Math::Exp(L::Sub(L::Set(-0.0f), x))));
  }

  static void Sigmoid(const float* x, int64_t n, float* y) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) L::Store(y + i, Sigmoid16(L::Load(x + i)));
    if (i < n) Math::StorePart(y + i, Sigmoid16(Math::LoadPart(x + i, n - i)), n - i);
  }

  static void Add(const float* x, int64_t n, float* y) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) L::Store(y + i, L::Add(L::Load(y + i), L::Load(x + i)));
    for (; i < n; ++i) y[i] += x[i];
  }

  struct AdamWState {
    F w, m, v;
  };
  HADAL_INLINE AdamWState AdamW16(AdamWState s, F g, const AdamWStep& step) {
    g = L::Mul(g, L::Set(step.grad_scale));
    const F m = L::Fma(L::Set(step.one_minus_beta1), L::Sub(g, s.m), s.m);
    const F v = L::Fma(L::Mul(L::Set(step.one_minus_beta2), g), g, L::Mul(s.v, L::Set(step.beta2)));
    const F below = L::Add(L::Div(L::Sqrt(v), L::Set(step.bias2_root)), L::Set(step.eps));
    const F decayed = L::Mul(s.w, L::Set(step.decay));
    return {L::Fma(L::Set(-step.step_size), L::Div(m, below), decayed), m, v};
  }

  static void AdamW(float* w, const float* g, float* m, float* v, int64_t n,
                    const AdamWStep& step) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const AdamWState s =
          AdamW16({L::Load(w + i), L::Load(m + i), L::Load(v + i)}, L::Load(g + i), step);
      L::Store(w + i, s.w);
      L::Store(m + i, s.m);
      L::Store(v + i, s.v);
    }
    if (i == n) return;
    const int64_t rest = n - i;
    const AdamWState s = AdamW16(
        {Math::LoadPart(w + i, rest), Math::LoadPart(m + i, rest), Math::LoadPart(v + i, rest)},
        Math::LoadPart(g + i, rest), step);
    Math::StorePart(w + i, s.w, rest);
    Math::StorePart(m + i, s.m, rest);
    Math::StorePart(v + i, s.v, rest);
  }

  static constexpr TrainTable Table() {
    return {.transpose = Transpose,
            .fold = Fold,
            .dot = Dot,
            .softmax_grad = SoftmaxGrad,
            .swiglu_grad = SwiGluGrad,
            .expert_grad = ExpertGrad,
            .rms_norm_grad = RmsNormGrad,
            .max = Max,
            .exp_sum = ExpSum,
            .scale = Scale,
            .sigmoid = Sigmoid,
            .add = Add,
            .adamw = AdamW};
  }
};

}  // namespace hadal::internal
