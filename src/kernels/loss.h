// Losses over rows of logits [T, V], their gradients left in place of the logits. Row sums run in
// 16 lanes as everywhere (kernels/ops.h); exp is ExpRef's, logarithms are taken in f64. Rows of
// weight 0 are skipped: loss 0, gradient 0, the logits not even looked at. The value returned is
// the f64 sum of losses, rows in order; grad_scale scales gradients only (1 / tokens for a mean).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "tensor/view.h"

namespace hadal {

// With lse = log sum_j exp(logits[r, j]):
//   losses[r] = weights[r] * (lse - logits[r, targets[r]] + z_loss * lse^2)
//   logits = grad_scale * weights[r] * (p_j (1 + 2 z_loss lse) - [j == target]),  p = softmax
// targets of rows of weight 0 may be anything; others lie in [0, V). Where hits has elements, those
// of rows of other weights become 1 where the target is the likeliest (first of equals), else 0.
double CrossEntropy(const Exec& exec, View2<float> logits, std::span<const int32_t> targets,
                    std::span<const float> weights, float grad_scale, float z_loss,
                    std::span<float> losses, std::span<uint8_t> hits = {});

enum class KlDirection : uint8_t {
  kForward,  // KL(teacher || student) = sum p (log p - log q)
  kReverse,  // KL(student || teacher) = sum q (log q - log p)
};
struct DistillOptions {
  KlDirection direction = KlDirection::kForward;
  float temperature = 1.0f;  // > 0; both sides are softmax(logits / temperature)
  float grad_scale = 1.0f;
};

// losses[r] = weights[r] * temperature^2 * KL; logits = grad_scale times its gradient, so that
// gradients keep their size whatever the temperature. log p is taken as -30 where it is lower.
double DistillKl(const Exec& exec, View2<float> logits, View2<const float> teacher_logits,
                 std::span<const float> weights, const DistillOptions& options,
                 std::span<float> losses);

// The teacher's most likely tokens of each row: ids distinct, log_probs those of its distribution
// at the temperature in use. What is missing from 1 is one more outcome, "any other token"; the
// student's share of it is the sum over the tokens not listed. An id < 0 ends a row's list.
struct TeacherTopK {
  View2<const int32_t> ids;      // [T, k]
  View2<const float> log_probs;  // [T, k]
};
// The KL between the two distributions over k + 1 outcomes; otherwise as above.
double DistillKl(const Exec& exec, View2<float> logits, const TeacherTopK& teacher,
                 std::span<const float> weights, const DistillOptions& options,
                 std::span<float> losses);

}  // namespace hadal
