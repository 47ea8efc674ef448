// The primitive layer for AVX-512 F, BW, DQ, VL and VNNI: sixteen lanes are one zmm register.
// Included once, inside a region compiled for AVX-512, or after SIMDe where HADAL_EMULATED is set.
#pragma once

#include "kernels/cpu/matmul_kernel.h"

#if defined(HADAL_EMULATED)
#define HADAL_INLINE inline
#define HADAL_UNROLL
#define HADAL_ROWS 1
#else
#define HADAL_INLINE inline __attribute__((always_inline))
#define HADAL_ROWS 8
#if defined(__clang__)
#define HADAL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HADAL_UNROLL _Pragma("GCC unroll 16")
#endif
#endif

namespace hadal::internal {
namespace {

struct Avx512 {
  // Wrapped, because templates drop the attributes of a bare vector type.
  struct F {
    __m512 v;
  };
  struct I {
    __m512i v;
  };
  using B = I;
  using D = I;
  using Signed = I;
  static constexpr bool kWideSums = true;
  static constexpr int kSignedOffset = 128;  // signed codes are moved up to be unsigned
  static constexpr int kDirectRows = HADAL_ROWS < 4 ? HADAL_ROWS : 4;
  static constexpr int kBlockRows = HADAL_ROWS, kSignedRows = HADAL_ROWS, kFloatRows = HADAL_ROWS;

  static HADAL_INLINE void Prefetch(const uint8_t* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p) + 4096, _MM_HINT_T0);
  }
  static HADAL_INLINE F Zero() { return {_mm512_setzero_ps()}; }
  static HADAL_INLINE F Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static HADAL_INLINE void Store(float* p, F x) { _mm512_storeu_ps(p, x.v); }
  static HADAL_INLINE F Set(float x) { return {_mm512_set1_ps(x)}; }
  static HADAL_INLINE F Add(F x, F y) { return {_mm512_add_ps(x.v, y.v)}; }
  static HADAL_INLINE F Mul(F x, F y) { return {_mm512_mul_ps(x.v, y.v)}; }
  static HADAL_INLINE F Fma(F x, F y, F z) { return {_mm512_fmadd_ps(x.v, y.v, z.v)}; }
  static HADAL_INLINE F FmaSet(const float* x, F y, F z) { return Fma(Set(*x), y, z); }
  static HADAL_INLINE F Neg(F x) {
    return {_mm512_castsi512_ps(
        _mm512_xor_si512(_mm512_castps_si512(x.v), _mm512_set1_epi32(INT32_MIN)))};
  }
  static HADAL_INLINE __m128i Load16Bytes(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static HADAL_INLINE __m256i Load32Bytes(const uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static HADAL_INLINE F LoadF16(const uint8_t* p) { return {_mm512_cvtph_ps(Load32Bytes(p))}; }
  static HADAL_INLINE F LoadBf16(const uint8_t* p) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(Load32Bytes(p)), 16))};
  }
  // e4m3 shifted into f16 has an exponent 8 too small; f16 hardware takes its denormals.
  static HADAL_INLINE F LoadFp8(const uint8_t* p) {
    const __m256i high = _mm256_slli_epi16(_mm256_cvtepu8_epi16(Load16Bytes(p)), 8);
    const __m256i half =
        _mm256_and_si256(_mm256_srai_epi16(high, 1), _mm256_set1_epi16(static_cast<short>(0xbfff)));
    return {_mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0f))};
  }

  static HADAL_INLINE I SetI(int32_t x) { return {_mm512_set1_epi32(x)}; }
  static HADAL_INLINE I AddI(I x, I y) { return {_mm512_add_epi32(x.v, y.v)}; }
  static HADAL_INLINE I SubI(I x, I y) { return {_mm512_sub_epi32(x.v, y.v)}; }
  template <int n>
  static HADAL_INLINE I ShlI(I x) {
    return {_mm512_slli_epi32(x.v, n)};
  }
  template <int n>
  static HADAL_INLINE I SarI(I x) {
    return {_mm512_srai_epi32(x.v, n)};
  }
  static HADAL_INLINE F ToF(I x) { return {_mm512_cvtepi32_ps(x.v)}; }
  static HADAL_INLINE I LoadU8(const uint8_t* p) { return {_mm512_cvtepu8_epi32(Load16Bytes(p))}; }
  static HADAL_INLINE I LoadS8(const uint8_t* p) { return {_mm512_cvtepi8_epi32(Load16Bytes(p))}; }

  static HADAL_INLINE B LoadB(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
  static HADAL_INLINE void StoreB(uint8_t* p, B x) { _mm512_storeu_si512(p, x.v); }
  static HADAL_INLINE B OrB(B x, B y) { return {_mm512_or_si512(x.v, y.v)}; }
  static HADAL_INLINE B AndB(B x, int mask) {
    return {_mm512_and_si512(x.v, _mm512_set1_epi8(static_cast<char>(mask)))};
  }
  static HADAL_INLINE B Low4(B x) { return AndB(x, 15); }
  static HADAL_INLINE B High4(B x) { return AndB({_mm512_srli_epi16(x.v, 4)}, 15); }
  static HADAL_INLINE B Lut(const int8_t* table, B index) {
    const __m128i t = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
    return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), index.v)};
  }
  // Bits from `bit` up move to bit 4; `mask` keeps those wanted.
  template <int bit, int mask>
  static HADAL_INLINE B Plane(B x) {
    if constexpr (bit <= 4) {
      return AndB({_mm512_slli_epi16(x.v, 4 - bit)}, mask);
    } else {
      return AndB({_mm512_srli_epi16(x.v, bit - 4)}, mask);
    }
  }
  // Four codes for every lane, left in memory: the dot reads and broadcasts them in one
  // instruction, which compilers do not put together. A broadcast of its own costs a quarter of the
  // speed (Zen 4).
  struct Q {
    const int8_t* at;
  };
  static HADAL_INLINE Q Broadcast4(const int8_t* q) { return {q}; }
  static HADAL_INLINE D DotFirst(B codes, Q q) { return Dot({_mm512_setzero_si512()}, codes, q); }
#if defined(HADAL_EMULATED)
  static HADAL_INLINE D Dot(D d, B codes, Q q) {
    int32_t v;
    __builtin_memcpy(&v, q.at, sizeof v);
    return {_mm512_dpbusd_epi32(d.v, codes.v, _mm512_set1_epi32(v))};
  }
#else
  using Word = int32_t __attribute__((may_alias, aligned(1)));
  static HADAL_INLINE D Dot(D d, B codes, Q q) {
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(d.v)
        : "v"(codes.v), "m"(*reinterpret_cast<const Word*>(q.at)));
    return d;
  }
#endif
  static HADAL_INLINE I Sum(D d) { return d; }
  static HADAL_INLINE Signed PrepareSigned(B codes) {
    return {_mm512_xor_si512(codes.v, _mm512_set1_epi8(static_cast<char>(0x80)))};
  }
  static HADAL_INLINE I SignedFirst(Signed w, Q q) { return DotFirst(w, q); }
  static HADAL_INLINE I SignedDot(I d, Signed w, Q q) { return Dot(d, w, q); }

  static void Quantise(const float* x, int64_t blocks, XBlock* out) {
    for (int64_t b = 0; b < blocks; ++b, x += 32) QuantiseBlock(x, out[b]);
  }
  static HADAL_INLINE void QuantiseBlock(const float* x, XBlock& out) {
    const __m512 v0 = _mm512_loadu_ps(x), v1 = _mm512_loadu_ps(x + 16);
    // Magnitudes compared as bits, so that NaN is the largest and reaches the scale.
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i m0 = _mm512_and_si512(_mm512_castps_si512(v0), magnitude);
    const __m512i m1 = _mm512_and_si512(_mm512_castps_si512(v1), magnitude);
    const auto largest_bits =
        static_cast<uint32_t>(_mm512_reduce_max_epu32(_mm512_max_epu32(m0, m1)));
    const float largest = __builtin_bit_cast(float, largest_bits);
    const bool tiny = largest_bits < kTinyBits;
    const bool finite = largest_bits < 0x7f800000u;
    out.scale = tiny ? 0.0f : largest / 127.0f;
    const __m512 inverse = _mm512_set1_ps(tiny || !finite ? 0.0f : 127.0f / largest);
    const __m512i keep = _mm512_set1_epi32(finite ? -1 : 0);
    const __m512i q0 = _mm512_and_si512(_mm512_cvtps_epi32(_mm512_mul_ps(v0, inverse)), keep);
    const __m512i q1 = _mm512_and_si512(_mm512_cvtps_epi32(_mm512_mul_ps(v1, inverse)), keep);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.q), _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.q + 16), _mm512_cvtepi32_epi8(q1));
    const int32_t half0 = _mm512_reduce_add_epi32(q0), half1 = _mm512_reduce_add_epi32(q1);
    out.sum = out.scale * static_cast<float>(half0 + half1);
    out.half_sum[0] = out.scale * static_cast<float>(half0);
    out.half_sum[1] = out.scale * static_cast<float>(half1);
    out.sum8 = 8 * (half0 + half1);
    out.half32[0] = 32 * half0;
    out.half32[1] = 32 * half1;
    out.zero = 0;
  }
};

}  // namespace
}  // namespace hadal::internal
