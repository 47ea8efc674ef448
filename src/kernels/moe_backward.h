// The training half of mixtures of experts: a forward pass that keeps what the backward pass needs,
// the gradients, the balance loss and the bias update (arXiv:2412.19437 §2.1.2).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/exec.h"
#include "kernels/gemm.h"
#include "kernels/moe.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace hadal {

// The chosen (token, slot) pairs sorted by expert, tokens ascending within one: places. Places of
// expert e are first[e] .. first[e + 1]. Lives in the memory it was planned in.
struct MoePlan {
  std::span<const int32_t> first;  // [E + 1]
  std::span<const int32_t> token;  // [S], S = T * top_k
  std::span<const int32_t> slot;   // [S]: t * top_k + j
};
MoePlan PlanMoe(View2<const int32_t> ids, int64_t experts, Workspace& memory);

// MoeExperts, the same bits, that keeps the products of gate and up: [S, F], rows in plan order.
void MoeExpertsForward(const Exec& exec, View2<const float> x, const MoePlan& plan,
                       View2<const float> weights, const Experts& experts, View2<float> gate,
                       View2<float> up, View2<float> y);

// y[t] = sum over its slots j in order of weights[t, j] * from[place of the slot], rows of `from`
// in plan order; without weights the plain rows are added to what y holds.
void CombineSlots(const Exec& exec, const MoePlan& plan, View2<const float> from,
                  const View2<const float>* weights, int64_t top_k, View2<float> y);

// The weights as plain rows: gate, up [F, D], down [D, F]; and their gradients, added to.
struct ExpertMasters {
  std::span<const View2<const float>> gate, up, down;
};
struct ExpertGrads {
  std::span<const View2<float>> gate, up, down;
};
// dx[t] += its slots in slot order; dweights [T, top_k] =. gate, up: what the forward pass kept.
// Products run in `type`; a weight's gradient is one chain over its expert's tokens in order.
void MoeExpertsBackward(const Exec& exec, View2<const float> dy, View2<const float> x,
                        const MoePlan& plan, View2<const float> weights, View2<const float> gate,
                        View2<const float> up, const ExpertMasters& masters, ComputeType type,
                        View2<float> dx, View2<float> dweights, const ExpertGrads& grads);

// From the gradient of the mixing weights to that of the logits: [T, E], +=. The choice itself has
// no gradient, nor has the bias.
void MoeRouteBackward(const Exec& exec, View2<const float> logits, const GateShape& gate,
                      View2<const int32_t> ids, View2<const float> dweights, View2<float> dlogits);

// The sequence-wise balance loss, eq. 17-20, summed over the spans (only first_row and rows of each
// are read; spans without rows count 0): for a span of T rows
//   L = alpha sum_i f_i P_i,  f_i = E / (top_k T) #{t : i among the top_k},
//   P_i = mean over t of s_it / sum_j s_jt  (softmax scores as they are).
// The top_k are those of score + bias over all experts, groups ignored: with an empty bias exactly
// the paper's. Returns L (f64 sums, rows in order); dlogits += grad_scale * dL/dlogits, f constant.
double BalanceLoss(const Exec& exec, View2<const float> logits, const GateShape& gate,
                   std::span<const float> bias, std::span<const SeqSpan> seqs, float alpha,
                   float grad_scale, View2<float> dlogits);

// counts[e] += how often e was chosen.
void CountExperts(View2<const int32_t> ids, std::span<int64_t> counts);
// bias[e] += gamma where e got less than the mean load, -= gamma where more.
void UpdateGateBias(std::span<const int64_t> counts, float gamma, std::span<float> bias);

}  // namespace hadal
