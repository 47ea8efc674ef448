// What this machine can do at most, measured: the yardstick for every kernel.
#pragma once

#include "kernels/exec.h"
#include "kernels/gemm.h"
#include "tensor/dtype.h"

namespace hadal {

// All workers of the pool together.
struct MachineLimits {
  double read_bytes;  // bytes a second read from memory, far beyond the caches
  double f32_ops;     // f32 operations a second, an fma is two
  double bf16_ops;    // products of bf16 pairs added in f32; f32_ops without instructions for them
  double int8_ops;    // u8 x s8 dots whose sums fit i16 for a while (codes of 4 bits)
  double wide_int8_ops;  // s8 x s8 dots, every pair of products widened to i32
};

// Operations a second of the dot that a product with weights of this type uses.
double PeakOps(const MachineLimits& limits, DType type);

// The same of the products of a training step; FP8 is emulated in f32.
double PeakOps(const MachineLimits& limits, ComputeType type);

// Takes about 0.3 s and 256 MB.
MachineLimits MeasureLimits(const Exec& exec);

// The higher of each: other programs only ever slow a machine down.
MachineLimits Highest(const MachineLimits& a, const MachineLimits& b);

}  // namespace hadal
