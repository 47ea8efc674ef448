// Row-wise operations between the matrix products. Each has a slow reference (…Ref) that defines
// it; fast bodies give the same bits on every ISA. Sums over a row run in 16 lanes (element i in
// lane i mod 16, in order), lanes combined pairwise 8,4,2,1. exp is our own polynomial (ExpRef).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "tensor/view.h"

namespace hadal {

// y[t,d] = x[t,d] * w[d] / sqrt(mean_d(x[t,d]^2) + eps)                    (arXiv:1910.07467)
// x, y: [T, D]; w: [D]. y may be exactly x. T may be 0. NaN or Inf stays in its row.
void RmsNorm(const Exec& exec, View2<const float> x, std::span<const float> w, float eps,
             View2<float> y);
void RmsNormRef(View2<const float> x, std::span<const float> w, float eps, View2<float> y);

// x += y, element by element; then the row norm of the sum as above into out (one pass).
void AddRmsNorm(const Exec& exec, View2<float> x, View2<const float> y, std::span<const float> w,
                float eps, View2<float> out);
void Add(const Exec& exec, View2<float> x, View2<const float> y);

// Rotary position embedding in place on `heads` heads of each row, the first head starting at
// column `offset`, heads `head_stride` columns apart, `dim` columns each. cos_sin: [positions, dim]
// with cos in columns 0..dim/2 and sin after; row positions[t] is used for token t.
//   interleaved: pairs (x[2i], x[2i+1])      half: pairs (x[i], x[i + dim/2])
struct RopeShape {
  int64_t heads, head_stride, dim, offset;
  bool interleaved;
};
void Rope(const Exec& exec, View2<float> x, std::span<const int32_t> positions,
          View2<const float> cos_sin, const RopeShape& shape);
void RopeRef(View2<float> x, std::span<const int32_t> positions, View2<const float> cos_sin,
             const RopeShape& shape);

// y[t,f] = silu(gate[t,f]) * up[t,f];  silu(v) = v / (1 + exp(-v)). y may be gate or up.
void SwiGlu(const Exec& exec, View2<const float> gate, View2<const float> up, View2<float> y);
void SwiGluRef(View2<const float> gate, View2<const float> up, View2<float> y);

// exp(x) for x in [-88, 88] by range reduction and a degree-6 polynomial with FMA, relative error
// under 2^-22; below -88 it is 0, above 88 it is that of 88, NaN stays NaN.
float ExpRef(float x);

// Row softmax in place over the first n[t] columns (the rest untouched): maximum subtracted.
void SoftmaxRef(View2<float> x, std::span<const int64_t> n);

// True where every element of the row is finite. ok: [T].
void RowsFinite(const Exec& exec, View2<const float> x, std::span<uint8_t> ok);

}  // namespace hadal
