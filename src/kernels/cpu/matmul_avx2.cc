// The primitive layer for AVX2, FMA and F16C: sixteen lanes are two ymm registers.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/cpu/matmul_kernel.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define HADAL_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define HADAL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HADAL_UNROLL _Pragma("GCC unroll 16")
#endif

namespace hadal::internal {
namespace {

struct Avx2 {
  struct F {
    __m256 a, b;
  };
  struct I {
    __m256i a, b;
  };
  using B = I;
  using D = I;  // i16 pairs of a row
  struct Signed {
    I codes, magnitudes;
  };
  static constexpr bool kWideSums = false;
  static constexpr int kSignedOffset = 0;
  static constexpr int kDirectRows = 4, kBlockRows = 6, kSignedRows = 4, kFloatRows = 6;

  static HADAL_INLINE void Prefetch(const uint8_t* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p) + 4096, _MM_HINT_T0);
  }
  static HADAL_INLINE F Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static HADAL_INLINE F Load(const float* p) {
    return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
  }
  static HADAL_INLINE void Store(float* p, F x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
  }
  static HADAL_INLINE F Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static HADAL_INLINE F Add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static HADAL_INLINE F Mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static HADAL_INLINE F Fma(F x, F y, F z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  static HADAL_INLINE F FmaSet(const float* x, F y, F z) { return Fma(Set(*x), y, z); }
  static HADAL_INLINE F Neg(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_xor_ps(x.a, sign), _mm256_xor_ps(x.b, sign)};
  }
  static HADAL_INLINE __m128i Load16Bytes(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static HADAL_INLINE F LoadF16(const uint8_t* p) {
    return {_mm256_cvtph_ps(Load16Bytes(p)), _mm256_cvtph_ps(Load16Bytes(p + 16))};
  }
  static HADAL_INLINE __m256 Bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
  }
  static HADAL_INLINE F LoadBf16(const uint8_t* p) {
    return {Bf16(Load16Bytes(p)), Bf16(Load16Bytes(p + 16))};
  }
  // e4m3 shifted into f16 has an exponent 8 too small; f16 hardware takes its denormals.
  static HADAL_INLINE F LoadFp8(const uint8_t* p) {
    const __m256i high = _mm256_slli_epi16(_mm256_cvtepu8_epi16(Load16Bytes(p)), 8);
    const __m256i half =
        _mm256_and_si256(_mm256_srai_epi16(high, 1), _mm256_set1_epi16(static_cast<short>(0xbfff)));
    const __m256 rebias = _mm256_set1_ps(256.0f);
    return {_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), rebias),
            _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), rebias)};
  }

  static HADAL_INLINE I SetI(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  static HADAL_INLINE I AddI(I x, I y) {
    return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
  }
  static HADAL_INLINE I SubI(I x, I y) {
    return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
  }
  template <int n>
  static HADAL_INLINE I ShlI(I x) {
    return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)};
  }
  template <int n>
  static HADAL_INLINE I SarI(I x) {
    return {_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)};
  }
  static HADAL_INLINE F ToF(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
  static HADAL_INLINE I LoadU8(const uint8_t* p) {
    const __m128i v = Load16Bytes(p);
    return {_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))};
  }
  static HADAL_INLINE I LoadS8(const uint8_t* p) {
    const __m128i v = Load16Bytes(p);
    return {_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))};
  }

  static HADAL_INLINE B LoadB(const uint8_t* p) {
    const auto* v = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
  }
  static HADAL_INLINE void StoreB(uint8_t* p, B x) {
    auto* v = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(v, x.a);
    _mm256_storeu_si256(v + 1, x.b);
  }
  static HADAL_INLINE B OrB(B x, B y) {
    return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
  }
  static HADAL_INLINE B AndB(B x, int mask) {
    const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
  }
  static HADAL_INLINE B Low4(B x) { return AndB(x, 15); }
  static HADAL_INLINE B High4(B x) {
    return AndB({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)}, 15);
  }
  static HADAL_INLINE B Lut(const int8_t* table, B index) {
    const __m256i t =
        _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    return {_mm256_shuffle_epi8(t, index.a), _mm256_shuffle_epi8(t, index.b)};
  }
  // Bits from `bit` up move to bit 4; `mask` keeps those wanted.
  template <int bit, int mask>
  static HADAL_INLINE B Plane(B x) {
    if constexpr (bit <= 4) {
      return AndB({_mm256_slli_epi16(x.a, 4 - bit), _mm256_slli_epi16(x.b, 4 - bit)}, mask);
    } else {
      return AndB({_mm256_srli_epi16(x.a, bit - 4), _mm256_srli_epi16(x.b, bit - 4)}, mask);
    }
  }
  static HADAL_INLINE B Broadcast4(const int8_t* q) {
    int32_t v;
    __builtin_memcpy(&v, q, sizeof v);
    return {_mm256_set1_epi32(v), _mm256_set1_epi32(v)};
  }
  static HADAL_INLINE D DotFirst(B codes, B q) {
    return {_mm256_maddubs_epi16(codes.a, q.a), _mm256_maddubs_epi16(codes.b, q.b)};
  }
  static HADAL_INLINE D Dot(D d, B codes, B q) {
    return Pin({_mm256_add_epi16(d.a, _mm256_maddubs_epi16(codes.a, q.a)),
                _mm256_add_epi16(d.b, _mm256_maddubs_epi16(codes.b, q.b))});
  }
  // Integer sums are associative, so the compiler would gather the products of all rows first and
  // spill them; a value that passes through an empty asm must be added up where it stands.
  static HADAL_INLINE I Pin(I x) {
    asm("" : "+x"(x.a), "+x"(x.b));
    return x;
  }
  static HADAL_INLINE I Sum(D d) {
    const __m256i ones = _mm256_set1_epi16(1);
    return {_mm256_madd_epi16(d.a, ones), _mm256_madd_epi16(d.b, ones)};
  }
  static HADAL_INLINE Signed PrepareSigned(B codes) {
    return {codes, {_mm256_abs_epi8(codes.a), _mm256_abs_epi8(codes.b)}};
  }
  // The sign of a code moves to x; |-128| reads as 128 in the unsigned operand, and a pair of
  // products stays within 2 * 128 * 127 < 2^15.
  static HADAL_INLINE I SignedFirst(const Signed& w, B q) {
    return Sum({_mm256_maddubs_epi16(w.magnitudes.a, _mm256_sign_epi8(q.a, w.codes.a)),
                _mm256_maddubs_epi16(w.magnitudes.b, _mm256_sign_epi8(q.b, w.codes.b))});
  }
  static HADAL_INLINE I SignedDot(I d, const Signed& w, B q) {
    return Pin(AddI(d, SignedFirst(w, q)));
  }

  static HADAL_INLINE int32_t SumLanes(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
  }
  static HADAL_INLINE uint32_t MaxLanes(__m256i v) {
    __m128i s = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_max_epu32(s, _mm_shuffle_epi32(s, 0x4e));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(s, _mm_shuffle_epi32(s, 0xb1))));
  }
  static void Quantise(const float* x, int64_t blocks, XBlock* out) {
    for (int64_t b = 0; b < blocks; ++b, x += 32) {
      // With the rows of a prompt both are larger than the caches of a core.
      _mm_prefetch(reinterpret_cast<const char*>(x + 192), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(x + 208), _MM_HINT_T0);
      __builtin_prefetch(out + b + 6, 1);
      QuantiseBlock(x, out[b]);
    }
  }
  static HADAL_INLINE void QuantiseBlock(const float* x, XBlock& out) {
    const __m256 v0 = _mm256_loadu_ps(x), v1 = _mm256_loadu_ps(x + 8);
    const __m256 v2 = _mm256_loadu_ps(x + 16), v3 = _mm256_loadu_ps(x + 24);
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    // Magnitudes compared as bits, so that NaN is the largest and reaches the scale.
    const __m256i m0 = _mm256_and_si256(_mm256_castps_si256(v0), magnitude);
    const __m256i m1 = _mm256_and_si256(_mm256_castps_si256(v1), magnitude);
    const __m256i m2 = _mm256_and_si256(_mm256_castps_si256(v2), magnitude);
    const __m256i m3 = _mm256_and_si256(_mm256_castps_si256(v3), magnitude);
    const uint32_t largest_bits =
        MaxLanes(_mm256_max_epu32(_mm256_max_epu32(m0, m1), _mm256_max_epu32(m2, m3)));
    const float largest = __builtin_bit_cast(float, largest_bits);
    const bool tiny = largest_bits < kTinyBits;
    const bool finite = largest_bits < 0x7f800000u;
    out.scale = tiny ? 0.0f : largest / 127.0f;
    const float inverse = tiny || !finite ? 0.0f : 127.0f / largest;
    const __m256 inv = _mm256_set1_ps(inverse);
    __m256i q0 = _mm256_cvtps_epi32(_mm256_mul_ps(v0, inv));
    __m256i q1 = _mm256_cvtps_epi32(_mm256_mul_ps(v1, inv));
    __m256i q2 = _mm256_cvtps_epi32(_mm256_mul_ps(v2, inv));
    __m256i q3 = _mm256_cvtps_epi32(_mm256_mul_ps(v3, inv));
    const __m256i keep = _mm256_set1_epi32(finite ? -1 : 0);
    q0 = _mm256_and_si256(q0, keep);
    q1 = _mm256_and_si256(q1, keep);
    q2 = _mm256_and_si256(q2, keep);
    q3 = _mm256_and_si256(q3, keep);
    const int32_t half0 = SumLanes(_mm256_add_epi32(q0, q1));
    const int32_t half1 = SumLanes(_mm256_add_epi32(q2, q3));
    // Packing works within 128-bit halves; the permutation puts the dwords in order again.
    const __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(q0, q1), _mm256_packs_epi32(q2, q3));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out.q),
                       _mm256_permutevar8x32_epi32(packed, order));
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

#include "kernels/cpu/matmul_body.h"

namespace hadal::internal {

const MatMulKernels& Avx2MatMulKernels() {
  static constexpr MatMulKernels kKernels = MakeMatMulKernels<Avx2>();
  return kKernels;
}

}  // namespace hadal::internal

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
