#if defined(__x86_64__)

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/train_table.h"
#include "kernels/exp_constants.h"

// Headers with inline code of general use stay above: below, code is for this machine alone.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#include "kernels/cpu/lanes_avx2.h"
#include "kernels/cpu/train_kernels.h"

namespace hadal::internal {

constinit const TrainTable kTrainAvx2 = TrainKernels<LanesAvx2>::Table();

}  // namespace hadal::internal

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
