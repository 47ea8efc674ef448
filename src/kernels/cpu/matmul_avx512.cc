// HADAL_EMULATED: another file has included SIMDe, which gives every intrinsic used here to a
// machine with AVX2, and includes this one to test it.
#if defined(__x86_64__)
#if !defined(HADAL_EMULATED)
// g++ 12 warns of the undefined sources inside its own intrinsics.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "kernels/cpu/matmul_kernel.h"

#if defined(__clang__)
#pragma clang attribute push(                                                               \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif
#endif

#include "kernels/cpu/matmul_layer_avx512.h"

// What is written for any layer comes after it.
#include "kernels/cpu/matmul_body.h"

#if !defined(HADAL_EMULATED)
namespace hadal::internal {

const MatMulKernels& Avx512MatMulKernels() {
  static constexpr MatMulKernels kKernels = MakeMatMulKernels<Avx512>();
  return kKernels;
}

}  // namespace hadal::internal

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#endif
