// One row of each row operation, in the body of one instruction set. Contracts: kernels/ops.h.
#pragma once

#include <cstdint>

namespace hadal::internal {

struct OpsTable {
  void (*rms_norm)(const float* x, const float* w, float eps, int64_t n, float* y);
  void (*add_rms_norm)(float* x, const float* y, const float* w, float eps, int64_t n, float* out);
  void (*add)(float* x, const float* y, int64_t n);
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* y);
  bool (*finite)(const float* x, int64_t n);
  // y = fma(w, x, y)
  void (*axpy)(float w, const float* x, int64_t n, float* y);
  // One head of `dim` columns at x. cos, sin: dim / 2 each.
  void (*rope_half)(float* x, const float* cos, const float* sin, int64_t dim);
  // cos, sin: dim each, every value twice, sin with its sign alternating from minus.
  void (*rope_pairs)(float* x, const float* cos, const float* sin, int64_t dim);
};

extern const OpsTable kOpsScalar;
#if defined(__x86_64__)
extern const OpsTable kOpsAvx2;
extern const OpsTable kOpsAvx512;
#endif

}  // namespace hadal::internal
