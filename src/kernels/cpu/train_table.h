// The bodies that training adds, in one instruction set: rows of n contiguous floats, or 16-column
// tiles. Contracts: kernels/{gemm,backward,attention_backward,moe_backward,loss,optimizer}.h.
#pragma once

#include <cstdint>

namespace hadal::internal {

struct AdamWStep {
  float grad_scale, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, bias2_root, eps;
};

struct TrainTable {
  // y[c * y_stride + r] = rows[r][c] for c < n; r >= count gives 0. Writes 16 floats a c.
  void (*transpose)(const float* const* rows, int64_t count, int64_t n, float* y, int64_t y_stride);
  // acc[r][16] = fma(partial[r][16], a[r] * b[16], acc[r][16]).
  void (*fold)(const float* partial, const float* a, const float* b, int64_t rows, float* acc);
  float (*dot)(const float* x, const float* y, int64_t n);
  // w /= sum, giving p; dp = p (dp - delta) scale with delta = dot(p, dp). n a multiple of 16.
  void (*softmax_grad)(float* w, float* dp, int64_t n, float sum, float scale);
  void (*swiglu_grad)(const float* dy, const float* gate, const float* up, int64_t n, float* dgate,
                      float* dup);
  // One (token, expert) pair: h = silu(gate) up; with g the gradient of w h divided by w:
  // dgate, dup from w g; scaled = w h; returns dot(g, h). dup may be g.
  float (*expert_grad)(const float* g, const float* gate, const float* up, float w, int64_t n,
                       float* dgate, float* dup, float* scaled);
  // dx += ..., dw += dy x r.
  void (*rms_norm_grad)(const float* dy, const float* x, const float* w, float eps, int64_t n,
                        float* dx, float* dw);
  float (*max)(const float* x, int64_t n);  // NaN elements are passed over
  // x = exp(x * factor - shift); returns the sum.
  float (*exp_sum)(float* x, int64_t n, float factor, float shift);
  void (*scale)(float* x, int64_t n, float factor);
  // y = 1 / (1 + exp(-x))
  void (*sigmoid)(const float* x, int64_t n, float* y);
  // y += x
  void (*add)(const float* x, int64_t n, float* y);
  void (*adamw)(float* w, const float* g, float* m, float* v, int64_t n, const AdamWStep& step);
};

extern const TrainTable kTrainScalar;
#if defined(__x86_64__)
extern const TrainTable kTrainAvx2;
extern const TrainTable kTrainAvx512;
#endif

}  // namespace hadal::internal
