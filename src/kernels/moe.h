// Mixture of experts: choose, then mix. Routing follows deepseek_v3 (arXiv:2412.19437 §2.1.2) with
// the V2 variants and plain softmax top-k (mixtral).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "kernels/matmul.h"
#include "tensor/view.h"

namespace hadal {

struct GateShape {
  int64_t experts = 0, top_k = 0;
  int64_t groups = 1, top_groups = 1;  // experts are split into `groups` equal runs
  enum class Score : uint8_t { kSoftmax, kSigmoid } score = Score::kSoftmax;
  // How a group is ranked: the maximum score (V2) or the sum of its two best (V3).
  enum class GroupScore : uint8_t { kMax, kTop2Sum } group_score = GroupScore::kMax;
  bool normalise = false;  // divide the chosen scores by (their sum + 1e-20)
  float scale = 1.0f;      // then multiply by this
};

// The scores of one token's experts, before any bias. logits, scores: [E].
void GateScores(Isa isa, View1<const float> logits, GateShape::Score kind, float* scores);

// logits: [T, E]; bias: [E] or empty, added to scores for the choice only, never to the weight.
// ids, weights: [T, top_k], best first by the score that chose them, ties to the lower id.
void MoeRoute(const Exec& exec, View2<const float> logits, const GateShape& gate,
              std::span<const float> bias, View2<int32_t> ids, View2<float> weights);

// y[t] = sum over slots s in order of weights[t,s] * down[e](silu(gate[e] x[t]) * (up[e] x[t])),
// e = ids[t,s]; y is overwritten. gate, up: E matrices [F, D]; down: E matrices [D, F]. Dropless.
// Tokens are grouped by expert, so each expert's weights are read once; the sum of a token runs in
// slot order whatever the batch.
struct Experts {
  std::span<const PackedMatrix> gate, up, down;
};
void MoeExperts(const Exec& exec, View2<const float> x, View2<const int32_t> ids,
                View2<const float> weights, const Experts& experts, View2<float> y);

}  // namespace hadal
