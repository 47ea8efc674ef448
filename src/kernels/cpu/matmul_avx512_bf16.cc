// Products of bf16 pairs by VDPBF16PS, and the packing that rounds for them.
#if defined(__x86_64__)
// g++ 12 warns of the undefined sources inside its own intrinsics.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/matmul_kernel.h"

#if defined(__clang__)
#pragma clang attribute push(                                                               \
    __attribute__((                                                                         \
        target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")
#endif

#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/matmul_layer_avx512.h"

// What is written for any layer comes after it.
#include "kernels/cpu/matmul_body.h"

namespace hadal::internal {
namespace {

// The layer of f32 products, an f32 being 32 bits that hold a pair. Read and broadcast by the
// dot itself, as codes are.
struct Avx512Pairs : Avx512 {
  static HADAL_INLINE F FmaSet(const float* x, F w, F acc) {
    asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(acc.v) : "v"(w.v), "m"(*x));
    return acc;
  }
};

// As many elements as there are, at most 16, then zeros.
HADAL_INLINE __m512 LoadPart(const float* x, int64_t n) {
  const auto mask = static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
  return _mm512_maskz_loadu_ps(mask, x);
}

HADAL_INLINE __m512i Narrow(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

HADAL_INLINE __m512 AsPairs(__m512i v) { return _mm512_castsi512_ps(v); }

void RoundPairs(const float* x, int64_t n, float* pairs) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m512i v = Narrow(_mm512_loadu_ps(x + i), _mm512_loadu_ps(x + i + 16));
    _mm512_storeu_ps(pairs + i / 2, AsPairs(v));
  }
  if (i == n) return;
  const __m512i v = Narrow(LoadPart(x + i, n - i), LoadPart(x + i + 16, n - i - 16));
  const auto mask = static_cast<__mmask16>((1 << ((n - i + 1) / 2)) - 1);
  _mm512_mask_storeu_ps(pairs + i / 2, mask, AsPairs(v));
}

void ZipPairs(const float* even, const float* odd, int64_t n, float* to, int64_t step) {
  alignas(64) static constexpr int16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                     21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                     11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kOrder);
  for (int64_t i = 0; i < n; i += 16, to += step) {
    const __m512 low = LoadPart(even + i, n - i);
    const __m512 high = odd == nullptr ? _mm512_setzero_ps() : LoadPart(odd + i, n - i);
    _mm512_storeu_ps(to, AsPairs(_mm512_permutexvar_epi16(order, Narrow(low, high))));
  }
}

void TransposePairs(const float* const* rows, int64_t count, int64_t n, float* tile) {
  for (int64_t i = 0; i < n; i += 32, tile += 16 * kTile) {
    const int64_t rest = n - i;
    __m512 x[16];
    for (int64_t r = 0; r < 16; ++r) {
      if (r >= count) {
        x[r] = _mm512_setzero_ps();
      } else if (rest >= 32) {
        const float* from = rows[r] + i;
        x[r] = AsPairs(Narrow(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)));
      } else {
        x[r] = AsPairs(Narrow(LoadPart(rows[r] + i, rest), LoadPart(rows[r] + i + 16, rest - 16)));
      }
    }
    if (rest >= 31) {
      LanesAvx512::Transpose(x, tile);
      continue;
    }
    alignas(64) float block[16 * kTile];
    LanesAvx512::Transpose(x, block);
    const int64_t pairs = (rest + 1) / 2;
    for (int64_t p = 0; p < pairs; ++p) {
      _mm512_storeu_ps(tile + p * kTile, _mm512_load_ps(block + p * kTile));
    }
  }
}

constexpr FloatKernels MakePairs() {
  FloatKernels kernels = MakeFloatKernels<Avx512Pairs, Wide::kF32>();
  kernels.quad = nullptr;
  kernels.widen = nullptr;
  return kernels;
}

}  // namespace

const PairKernels& Avx512PairKernels() {
  static constexpr PairKernels kKernels = {
      .products = MakePairs(), .round = RoundPairs, .zip = ZipPairs, .transpose = TransposePairs};
  return kKernels;
}

}  // namespace hadal::internal

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
