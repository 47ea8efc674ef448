// How much memory a model will take, from its configuration and the types of its tensors alone.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "formats/weight_file.h"
#include "kernels/attention.h"
#include "model/config.h"
#include "tensor/dtype.h"

namespace hadal {

struct PlanOptions {
  int64_t context = 0;          // tokens a sequence holds; 0: the model's
  int64_t sequences = 1;        // that many at once
  int64_t prefill_chunk = 512;  // prompt tokens a step takes in
  KvType kv_type = KvType::kF16;
};

// Bytes. Weights are exact; workspace is what a step of the largest size reserves.
struct MemoryPlan {
  int64_t weights = 0;   // packed matrices and vectors, as they will lie in memory
  int64_t absorbed = 0;  // part of weights: transposed key matrices of latent attention
  int64_t kv_cache = 0;
  int64_t rope_tables = 0;
  int64_t workspace = 0;       // activations and logits of a step
  int64_t kernel_scratch = 0;  // quantised activations, expert intermediates
  int64_t total = 0;
  int64_t bytes_per_token = 0;  // weight bytes that a decode step of batch 1 reads
};

// The types and shapes that the file states; nothing but headers is read. Errors as Model::Load.
Result<MemoryPlan> PlanMemory(const ModelConfig& config, const WeightFile& file,
                              const PlanOptions& options);
// Without a file: every matrix in `type` where its rows hold whole blocks.
Result<MemoryPlan> PlanMemory(const ModelConfig& config, DType type, const PlanOptions& options);

}  // namespace hadal
