#include "model/plan.h"

#include <algorithm>

#include "model/internal_config.h"
#include "model/internal_model.h"
#include "model/model.h"

namespace hadal {
namespace {

int64_t Blocks(int64_t tokens) { return (tokens + kKvBlock - 1) / kKvBlock; }

// What the kernels keep beside the model's own workspace: x quantised per row (a byte an element
// and 8 bytes a block of 32), and the hidden rows of all chosen experts.
int64_t KernelScratch(const ModelConfig& c, int64_t tokens) {
  const int64_t q_cols = c.heads * (c.mla() ? c.v_dim : c.head_dim);
  const int64_t widest = std::max({c.width, c.ffn, q_cols, c.shared_experts * c.expert_ffn});
  const int64_t quantised = tokens * widest * 5 / 4;
  if (c.gate.experts == 0) return quantised;
  const int64_t pairs = tokens * c.gate.top_k;
  return std::max(quantised, pairs * (2 * c.expert_ffn + c.width) * 4 +
                                 pairs * std::max(c.expert_ffn, c.width) * 5 / 4);
}

Result<MemoryPlan> Plan(const ModelConfig& config, internal::ParamSource& source,
                        const PlanOptions& options) {
  ModelConfig c = config;
  c.mtp_layers = std::min<int64_t>(c.mtp_layers, 1);
  const int64_t context = options.context > 0 ? options.context : c.context;
  if (context > internal::kMaxContext || options.sequences < 1 || options.sequences > 65536 ||
      options.prefill_chunk < 1 || options.prefill_chunk > internal::kMaxContext) {
    return Error{Code::kInvalid, "plan: context " + std::to_string(context) + ", sequences " +
                                     std::to_string(options.sequences) + ", chunk " +
                                     std::to_string(options.prefill_chunk) +
                                     " are out of range; contexts reach to 268435456"};
  }
  const internal::ModelWeights weights = TRY(internal::BuildWeights(nullptr, c, source));
  MemoryPlan p;
  p.weights = weights.bytes;
  p.absorbed = weights.derived_bytes;
  p.bytes_per_token = weights.bytes_per_token;
  p.kv_cache = options.sequences * Blocks(context) * KvCache::BlockBytes(c, options.kv_type);
  p.rope_tables = std::max(context, std::min(c.context, options.sequences * context)) *
                  internal::RopeDim(c) * 4;
  internal::StepShape step;
  step.sequences = options.sequences;
  step.tokens = std::min(options.prefill_chunk, options.sequences * context) + options.sequences;
  step.logit_rows = options.sequences;
  step.expand_tokens = c.mla() ? Blocks(context) * kKvBlock : 0;
  p.workspace = internal::WorkspaceBytes(c, step);
  p.kernel_scratch = KernelScratch(c, step.tokens);
  p.total = p.weights + p.kv_cache + p.rope_tables + p.workspace + p.kernel_scratch;
  return p;
}

}  // namespace

Result<MemoryPlan> PlanMemory(const ModelConfig& config, const WeightFile& file,
                              const PlanOptions& options) {
  const auto source = internal::NewFileSource(file, config, {}, /*with_data=*/false);
  return Plan(config, *source, options);
}

Result<MemoryPlan> PlanMemory(const ModelConfig& config, DType type, const PlanOptions& options) {
  const auto source = internal::NewRandomSource(nullptr, type, 0);
  return Plan(config, *source, options);
}

}  // namespace hadal
