// Latent attention of a decode step.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/exec.h"
#include "tensor/view.h"

namespace hadal::internal {

// Whether attention is too little work to wake threads. work_a_key: multiply-adds of a row and key.
bool AttendsAlone(const Exec& exec, std::span<const SeqSpan> seqs, int64_t work_a_key);

// MlaAttention for spans of one row each, latent a multiple of 16. There is no tile of rows to cut,
// so the work itself is: scores by blocks of keys, values by columns. Heads are the lanes of a
// score, so that cached rows are read as they lie.
void LatentStep(const Exec& exec, std::span<const SeqSpan> seqs, const MlaShape& shape,
                View2<const float> q, const KvStore& store, View2<float> out);

}  // namespace hadal::internal
