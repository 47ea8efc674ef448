// Sixteen float lanes as one AVX-512 register. Included once, inside a region compiled for AVX-512.
#pragma once

namespace hadal::internal {
namespace {

struct LanesAvx512 {
  // Vectors that the accumulators and one operand of a micro-kernel may fill: 31 of 32 registers.
  static constexpr int kRegisters = 31;
  using F = __m512;

#define HADAL_LANES static inline __attribute__((always_inline))

  HADAL_LANES F Zero() { return _mm512_setzero_ps(); }
  HADAL_LANES F Set(float v) { return _mm512_set1_ps(v); }
  HADAL_LANES F Load(const float* p) { return _mm512_loadu_ps(p); }
  HADAL_LANES F Load(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  HADAL_LANES void Store(float* p, F v) { _mm512_storeu_ps(p, v); }
  // Rounds to nearest even; NaN becomes the quiet NaN without payload.
  HADAL_LANES void Store(uint16_t* p, F v) {
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i sign = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MIN));
    const __m512i quiet = _mm512_or_si512(sign, _mm512_set1_epi32(0x7fc00000));
    const __m512 clean = _mm512_mask_blend_ps(nan, v, _mm512_castsi512_ps(quiet));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(clean, _MM_FROUND_TO_NEAREST_INT));
  }
  HADAL_LANES F Fma(F x, F y, F z) { return _mm512_fmadd_ps(x, y, z); }
  HADAL_LANES F Add(F x, F y) { return _mm512_add_ps(x, y); }
  HADAL_LANES F Sub(F x, F y) { return _mm512_sub_ps(x, y); }
  HADAL_LANES F Mul(F x, F y) { return _mm512_mul_ps(x, y); }
  HADAL_LANES F Div(F x, F y) { return _mm512_div_ps(x, y); }
  HADAL_LANES F Sqrt(F x) { return _mm512_sqrt_ps(x); }
  // x > y ? x : y and x < y ? x : y, so y where either is NaN.
  HADAL_LANES F Max(F x, F y) { return _mm512_max_ps(x, y); }
  HADAL_LANES F Min(F x, F y) { return _mm512_min_ps(x, y); }
  // value where not (x < limit), else 0.
  HADAL_LANES F ZeroBelow(F x, F limit, F value) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value);
  }
  // Lanes 2i and 2i + 1 exchanged.
  HADAL_LANES F SwapPairs(F x) { return _mm512_shuffle_ps(x, x, 0xb1); }
  // y[16 i + r] = lane i of x[r]: exchange within pairs, within fours, then 128-bit quarters.
  HADAL_LANES void Transpose(const F (&x)[16], float* y, int64_t stride = 16) {
    __m512 t[16], u[16];
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
      t[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
      u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
      u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    // u[4 g + c] holds, in quarter k, column 4 k + c of rows 4 g .. 4 g + 3.
    for (int c = 0; c < 4; ++c) {
      const __m512 low01 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x44);
      const __m512 high01 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xee);
      const __m512 low23 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x44);
      const __m512 high23 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xee);
      _mm512_storeu_ps(y + stride * c, _mm512_shuffle_f32x4(low01, low23, 0x88));
      _mm512_storeu_ps(y + stride * (c + 4), _mm512_shuffle_f32x4(low01, low23, 0xdd));
      _mm512_storeu_ps(y + stride * (c + 8), _mm512_shuffle_f32x4(high01, high23, 0x88));
      _mm512_storeu_ps(y + stride * (c + 12), _mm512_shuffle_f32x4(high01, high23, 0xdd));
    }
  }
  // y[stride * i + r] = rows[r][at + i].
  HADAL_LANES void TransposeRows(const float* const* rows, int64_t at, float* y, int64_t stride) {
    F x[16];
    for (int r = 0; r < 16; ++r) x[r] = Load(rows[r] + at);
    Transpose(x, y, stride);
  }
  // For x whose low bits hold an integer n (x = n + 1.5 * 2^23): 2^floor(n/2) and 2^(n-floor(n/2)).
  HADAL_LANES void PowersOfTwo(F x, F* first, F* second) {
    const __m512i shift = _mm512_castps_si512(_mm512_set1_ps(0x1.8p+23f));
    const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(x), shift);
    const __m512i half = _mm512_srai_epi32(n, 1);
    const __m512i bias = _mm512_set1_epi32(127);
    *first = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(half, bias), 23));
    *second = _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(n, half), bias), 23));
  }
  // 2^(n+1) for the same n, -127 <= n < 127.
  HADAL_LANES F PowerOfTwo(F x) {
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(x), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(0x40000000)));
  }

#undef HADAL_LANES
};

}  // namespace
}  // namespace hadal::internal
