// Sixteen float lanes as two AVX2 registers. Included once, inside a region compiled for AVX2.
#pragma once

namespace hadal::internal {
namespace {

struct LanesAvx2 {
  // Vectors that the accumulators and one operand of a micro-kernel may fill: 7 of 8 register
  // pairs.
  static constexpr int kRegisters = 7;
  struct F {
    __m256 a, b;
  };

#define HADAL_LANES static inline __attribute__((always_inline))

  HADAL_LANES F Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  HADAL_LANES F Set(float v) {
    const __m256 s = _mm256_set1_ps(v);
    return {s, s};
  }
  HADAL_LANES F Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  HADAL_LANES F Load(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
  }
  HADAL_LANES void Store(float* p, F v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
  }
  // Rounds to nearest even; NaN becomes the quiet NaN without payload.
  HADAL_LANES void Store(uint16_t* p, F v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), Narrow(v.a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), Narrow(v.b));
  }
  HADAL_LANES F Fma(F x, F y, F z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  HADAL_LANES F Add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  HADAL_LANES F Sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  HADAL_LANES F Mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  HADAL_LANES F Div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  HADAL_LANES F Sqrt(F x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
  // x > y ? x : y and x < y ? x : y, so y where either is NaN.
  HADAL_LANES F Max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  HADAL_LANES F Min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  // value where not (x < limit), else 0.
  HADAL_LANES F ZeroBelow(F x, F limit, F value) {
    return {_mm256_andnot_ps(_mm256_cmp_ps(x.a, limit.a, _CMP_LT_OQ), value.a),
            _mm256_andnot_ps(_mm256_cmp_ps(x.b, limit.b, _CMP_LT_OQ), value.b)};
  }
  // Lanes 2i and 2i + 1 exchanged.
  HADAL_LANES F SwapPairs(F x) {
    return {_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1)};
  }
  // y[16 i + r] = lane i of x[r].
  HADAL_LANES void Transpose(const F (&x)[16], float* y) {
    __m256 t[8];
    for (int half = 0; half < 16; half += 8) {
      for (int r = 0; r < 8; ++r) t[r] = x[half + r].a;
      Transpose8(t, y + half, 16);
      for (int r = 0; r < 8; ++r) t[r] = x[half + r].b;
      Transpose8(t, y + half + 128, 16);
    }
  }
  // y[stride * i + r] = rows[r][at + i], a quarter at a time: all sixteen would not fit.
  HADAL_LANES void TransposeRows(const float* const* rows, int64_t at, float* y, int64_t stride) {
    __m256 t[8];
    for (int half = 0; half < 16; half += 8) {
      for (int i = 0; i < 16; i += 8) {
        for (int r = 0; r < 8; ++r) t[r] = _mm256_loadu_ps(rows[half + r] + at + i);
        Transpose8(t, y + i * stride + half, stride);
      }
    }
  }
  // For x whose low bits hold an integer n (x = n + 1.5 * 2^23): 2^floor(n/2) and 2^(n-floor(n/2)).
  HADAL_LANES void PowersOfTwo(F x, F* first, F* second) {
    Powers(x.a, &first->a, &second->a);
    Powers(x.b, &first->b, &second->b);
  }
  // 2^(n+1) for the same n, -127 <= n < 127.
  HADAL_LANES F PowerOfTwo(F x) { return {Power(x.a), Power(x.b)}; }

#undef HADAL_LANES

 private:
  // y[stride * i + r] = lane i of x[r]: exchange within pairs, within fours, then halves.
  static inline __attribute__((always_inline)) void Transpose8(const __m256 (&x)[8], float* y,
                                                               int64_t stride) {
    __m256 t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_ps(y + stride * i, _mm256_permute2f128_ps(u[i], u[i + 4], 0x20));
      _mm256_storeu_ps(y + stride * (i + 4), _mm256_permute2f128_ps(u[i], u[i + 4], 0x31));
    }
  }
  static inline __attribute__((always_inline)) __m128i Narrow(__m256 v) {
    const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    const __m256 sign = _mm256_and_ps(v, _mm256_set1_ps(-0.0f));
    const __m256 quiet = _mm256_or_ps(sign, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)));
    return _mm256_cvtps_ph(_mm256_blendv_ps(v, quiet, nan), _MM_FROUND_TO_NEAREST_INT);
  }
  static inline __attribute__((always_inline)) __m256 Power(__m256 x) {
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(x), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(0x40000000)));
  }
  static inline __attribute__((always_inline)) void Powers(__m256 x, __m256* first,
                                                           __m256* second) {
    const __m256i shift = _mm256_castps_si256(_mm256_set1_ps(0x1.8p+23f));
    const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(x), shift);
    const __m256i half = _mm256_srai_epi32(n, 1);
    const __m256i bias = _mm256_set1_epi32(127);
    *first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    *second = _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias), 23));
  }
};

}  // namespace
}  // namespace hadal::internal
