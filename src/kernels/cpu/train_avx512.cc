#if defined(__x86_64__)

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/train_table.h"
#include "kernels/exp_constants.h"

// Headers with inline code of general use stay above: below, code is for this machine alone.
#if defined(__clang__)
#pragma clang attribute push(                                                    \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"))), \
    apply_to = function)
#else
// GCC 12 calls the undefined source of its own unmasked intrinsics uninitialised.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")
#endif

#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/train_kernels.h"

namespace hadal::internal {

constinit const TrainTable kTrainAvx512 = TrainKernels<LanesAvx512>::Table();

}  // namespace hadal::internal

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
