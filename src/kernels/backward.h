// Gradients of the row-wise operations. dx-like outputs marked += are added to, those marked = are
// written. Sums over the rows of a batch run in a fixed order: blocks of 64 rows, one chain within
// a block from 0, blocks in order, the total then added: never a function of the number of threads.
// exp is ExpRef's. All views are row-major with strides; T may be 0.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "kernels/ops.h"
#include "tensor/view.h"

namespace hadal {

// y = x w r, r = 1 / sqrt(mean(x^2) + eps), g = dy w:
//   dx += r g - x r^3 mean(g x);  dw[d] += sum over t of dy x r.
// dx may be dy's own memory only if it is not wanted any more; dx and x do not overlap.
void RmsNormBackward(const Exec& exec, View2<const float> dy, View2<const float> x,
                     std::span<const float> w, float eps, View2<float> dx, std::span<float> dw);

// The inverse rotation, in place on the gradient of Rope's output. Arguments as of Rope.
void RopeBackward(const Exec& exec, View2<float> dx, std::span<const int32_t> positions,
                  View2<const float> cos_sin, const RopeShape& shape);

// y = silu(gate) up, s = 1 / (1 + exp(-gate)):
//   dup = dy gate s;  dgate = dy up s (1 + gate (1 - s)).  Both =; either may be gate, up or dy.
void SwiGluBackward(const Exec& exec, View2<const float> dy, View2<const float> gate,
                    View2<const float> up, View2<float> dgate, View2<float> dup);

// dtable[ids[t]] += dy[t], tokens in order.
void EmbedBackward(const Exec& exec, View2<const float> dy, std::span<const int32_t> ids,
                   View2<float> dtable);

// db[d] += sum over t of dy[t, d]: the gradient of a bias.
void ColumnSum(const Exec& exec, View2<const float> dy, std::span<float> db);

// to += from.
void AddInto(const Exec& exec, View2<const float> from, View2<float> to);
// Every element rounded to bf16, nearest even.
void RoundBf16(const Exec& exec, View2<float> x);

}  // namespace hadal
