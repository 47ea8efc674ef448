// The AVX-512 kernels compiled against SIMDe, so that machines without AVX-512 test their logic.
// For one row of x at a time and without forced inlining: emulation made the compiler take minutes.
#if defined(__x86_64__)
#pragma GCC diagnostic ignored "-Wpsabi"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include <cstring>

#include "kernels/cpu/matmul_kernel.h"

namespace hadal::internal {
namespace {

// What SIMDe lacks, element by element.
template <typename To, typename From, typename Out, typename In, typename Op>
Out Map16(In in, Op op) {
  From from[16];
  To to[16];
  static_assert(sizeof from <= sizeof in && sizeof to <= sizeof(Out));
  std::memcpy(from, &in, sizeof from);
  for (int i = 0; i < 16; ++i) to[i] = op(from[i]);
  Out out;
  std::memcpy(&out, to, sizeof to);
  return out;
}

template <typename T, typename Op>
T Fold16(simde__m512i in, Op op) {
  T v[16];
  std::memcpy(v, &in, sizeof v);
  for (int i = 1; i < 16; ++i) v[0] = op(v[0], v[i]);
  return v[0];
}

simde__m512 HalfToFloat(simde__m256i h) {
  return Map16<float, uint16_t, simde__m512>(h, [](uint16_t v) {
    return simde_mm_cvtss_f32(simde_mm_cvtph_ps(simde_mm_set1_epi16(static_cast<int16_t>(v))));
  });
}

simde__m512i U16ToI32(simde__m256i v) {
  return Map16<int32_t, uint16_t, simde__m512i>(v, [](uint16_t e) { return int32_t{e}; });
}

simde__m512i U8ToI32(simde__m128i v) {
  return Map16<int32_t, uint8_t, simde__m512i>(v, [](uint8_t e) { return int32_t{e}; });
}

simde__m512i S8ToI32(simde__m128i v) {
  return Map16<int32_t, int8_t, simde__m512i>(v, [](int8_t e) { return int32_t{e}; });
}

simde__m128i I32ToS8(simde__m512i v) {
  return Map16<int8_t, int32_t, simde__m128i>(v, [](int32_t e) { return static_cast<int8_t>(e); });
}

simde__m512i RoundToI32(simde__m512 v) {
  return Map16<int32_t, float, simde__m512i>(
      v, [](float e) { return simde_mm_cvtss_si32(simde_mm_set_ss(e)); });
}

simde__m512 I32ToFloat(simde__m512i v) {
  return Map16<float, int32_t, simde__m512>(v, [](int32_t e) { return static_cast<float>(e); });
}

// SIMDe multiplies, rounds and adds.
simde__m512 FusedMultiplyAdd(simde__m512 a, simde__m512 b, simde__m512 c) {
  float x[16], y[16], z[16];
  std::memcpy(x, &a, sizeof x);
  std::memcpy(y, &b, sizeof y);
  std::memcpy(z, &c, sizeof z);
  for (int i = 0; i < 16; ++i) z[i] = __builtin_fmaf(x[i], y[i], z[i]);
  std::memcpy(&c, z, sizeof z);
  return c;
}

simde__m512i ShiftRight(simde__m512i v, int n) {
  return Map16<int32_t, int32_t, simde__m512i>(v, [n](int32_t e) { return e >> n; });
}

uint32_t LargestU32(simde__m512i v) {
  return Fold16<uint32_t>(v, [](uint32_t a, uint32_t b) { return a > b ? a : b; });
}

int32_t SumI32(simde__m512i v) {
  return Fold16<int32_t>(v, [](int32_t a, int32_t b) { return a + b; });
}

}  // namespace
}  // namespace hadal::internal

#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps FusedMultiplyAdd
#define _mm512_cvtph_ps HalfToFloat
#define _mm512_cvtepu16_epi32 U16ToI32
#define _mm512_cvtepu8_epi32 U8ToI32
#define _mm512_cvtepi8_epi32 S8ToI32
#define _mm512_cvtepi32_epi8 I32ToS8
#define _mm512_cvtps_epi32 RoundToI32
#define _mm512_cvtepi32_ps I32ToFloat
#define _mm512_srai_epi32 ShiftRight
#define _mm512_reduce_max_epu32 LargestU32
#define _mm512_reduce_add_epi32 SumI32

#define HADAL_EMULATED
#include "kernels/cpu/matmul_avx512.cc"

namespace hadal::internal {

const MatMulKernels& EmulatedAvx512MatMulKernels() {
  static constexpr MatMulKernels kKernels = MakeMatMulKernels<Avx512>();
  return kKernels;
}

}  // namespace hadal::internal
#pragma GCC pop_options
#endif
