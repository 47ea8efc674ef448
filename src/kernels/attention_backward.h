// Gradients of causal attention over the documents of a packed batch.
//
// Order of sums, for the forward quantities as kernels/attention.h states: scores by one fma chain
// times scale, weights w by ExpRef after the row maximum, their sum in 16 lanes, p = w / sum.
//   dp_ij = one chain over d of dout_i v_j;  delta_i = sum over j of p_ij dp_ij in 16 lanes
//   ds_ij = p_ij (dp_ij - delta_i) scale
//   dq_i += one chain over keys j of ds_ij k_j
//   dk_j += the sum over pieces in order of one chain over the piece's heads, then its queries in
//           order, of ds_ij q_i; dv_j likewise of p_ij dout_i.
// A document is one piece, or several runs of queries when it is long and kv heads are few: a
// function of its length and the number of kv heads alone, so threads never change a bit.
#pragma once

#include <span>

#include "kernels/attention.h"
#include "kernels/exec.h"
#include "tensor/view.h"

namespace hadal {

// seqs: whole documents, start = 0; `blocks` is not read. q, dq: [T, heads * k_dim]; k, dk:
// [T, kv_heads * k_dim]; v, dv: [T, kv_heads * v_dim]; dout: [T, heads * v_dim]. dq, dk, dv are +=.
// Parallel over (document, kv head, piece). Rows in no document are left alone.
void GqaAttentionBackward(const Exec& exec, std::span<const SeqSpan> seqs, const GqaShape& shape,
                          View2<const float> q, View2<const float> k, View2<const float> v,
                          View2<const float> dout, View2<float> dq, View2<float> dk,
                          View2<float> dv);

}  // namespace hadal
