// The batch of a step and the memory it takes.
#include <algorithm>

#include "base/check.h"
#include "model/internal_step.h"

namespace hadal::internal {
namespace {

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t ExpandedHeadBytes(const ModelConfig& c) {
  return (c.q_head_dim() + c.v_dim) * KvTypeBytes(KvType::kF32);
}

// f32 values of one layer's attention, all alive at once.
int64_t AttentionFloats(const ModelConfig& c, const StepShape& s) {
  const int64_t t = s.tokens;
  if (!c.mla()) return t * (2 * c.heads + 2 * c.kv_heads) * c.head_dim;
  const int64_t row = c.latent + c.rope_dim;
  const int64_t shared = t * (c.q_latent + c.heads * (c.q_head_dim() + c.v_dim) + row);
  const int64_t absorbed = t * c.heads * (row + c.latent);
  const int64_t heads = ExpandHeads(c, s.expand_tokens);
  const int64_t expanded = (s.expand_tokens + kExpandTile) * heads * ExpandedHeadBytes(c) / 4 +
                           kExpandTile * row + s.expand_tokens;
  return shared + std::max(s.expand_tokens > 0 ? expanded : 0, absorbed);
}

int64_t FeedForwardFloats(const ModelConfig& c, const StepShape& s) {
  const int64_t dense = 2 * s.tokens * c.ffn;
  if (c.gate.experts == 0) return dense;
  const int64_t shared = c.shared_experts * c.expert_ffn;
  const int64_t moe = s.tokens * (c.gate.experts + 2 * c.gate.top_k + c.width + 2 * shared);
  return std::max(dense, moe);
}

}  // namespace

int64_t ExpandHeads(const ModelConfig& c, int64_t expand_tokens) {
  const int64_t head = std::max<int64_t>(1, expand_tokens * ExpandedHeadBytes(c));
  return std::clamp<int64_t>(kExpandBudget / head, 1, c.heads);
}

int64_t WorkspaceBytes(const ModelConfig& c, const StepShape& s) {
  const int64_t rows = 3 * s.tokens * c.width + 4 * s.logit_rows * c.width;
  const int64_t mtp = c.mtp_layers > 0 ? 4 * s.tokens * c.width : 0;
  const int64_t layer = std::max(AttentionFloats(c, s), FeedForwardFloats(c, s));
  const int64_t floats = rows + mtp + layer + s.logit_rows * c.vocab;
  const int64_t lists =
      s.tokens * 16 + s.sequences * 128 + s.logit_rows * 8 + (c.mla() ? c.heads * 256 : 0);
  // Each piece is aligned to 64 bytes.
  return 4 * floats + lists + 64 * 64;
}

StepShape ShapeOf(const ModelConfig& c, std::span<const SeqInput> seqs) {
  StepShape s;
  s.sequences = static_cast<int64_t>(seqs.size());
  for (const SeqInput& seq : seqs) {
    const auto n = static_cast<int64_t>(seq.tokens.size());
    s.tokens += n;
    s.logit_rows += seq.logits;
    if (c.mla() && seq.expanded) s.expand_tokens += RoundUp(seq.start + n, kKvBlock);
  }
  return s;
}

Batch LayOut(const ModelConfig& c, std::span<const SeqInput> seqs, Workspace& memory) {
  const StepShape shape = ShapeOf(c, seqs);
  auto* spans = memory.Take<SeqSpan>(shape.sequences);
  auto* ids = memory.Take<int32_t>(shape.tokens);
  auto* positions = memory.Take<int32_t>(shape.tokens);
  auto* wanted = memory.Take<int32_t>(shape.logit_rows);
  int64_t row = 0, want = 0;
  for (size_t i = 0; i < seqs.size(); ++i) {
    const SeqInput& seq = seqs[i];
    const auto n = static_cast<int64_t>(seq.tokens.size());
    CHECK(seq.start >= 0 && seq.logits >= 0 && seq.logits <= n);
    spans[i] = {seq.blocks, seq.start, row, n};
    for (int64_t t = 0; t < n; ++t, ++row) {
      const int32_t id = seq.tokens[static_cast<size_t>(t)];
      CHECK(id >= 0 && id < c.vocab);
      ids[row] = id;
      positions[row] = static_cast<int32_t>(seq.start + t);
      if (t >= n - seq.logits) wanted[want++] = static_cast<int32_t>(row);
    }
  }
  Batch b;
  b.tokens = row;
  b.logit_rows = want;
  b.seqs = seqs;
  b.spans = {spans, seqs.size()};
  b.ids = {ids, static_cast<size_t>(row)};
  b.positions = {positions, static_cast<size_t>(row)};
  b.wanted_rows = {wanted, static_cast<size_t>(want)};
  return b;
}

}  // namespace hadal::internal
