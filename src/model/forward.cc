// The forward pass of every architecture. T tokens of all sequences, D width, R rows with logits.
#include <algorithm>
#include <bit>

#include "base/check.h"
#include "kernels/moe.h"
#include "kernels/ops.h"
#include "model/internal_config.h"
#include "model/internal_step.h"

namespace hadal {
namespace internal {

void Step::SwiGluBlock(const SwiGluWeights& w, View2<const float> x, View2<float> y) const {
  View2<float> gate = memory.Matrix(x.rows, w.gate.rows());  // [M, F]
  View2<float> up = memory.Matrix(x.rows, w.up.rows());      // [M, F]
  const MatMulPart parts[] = {{&w.gate, gate, w.gate_bias}, {&w.up, up, w.up_bias}};
  MatMulGroup(exec, x, parts);
  SwiGlu(exec, gate, up, gate);
  MatMul(exec, gate, w.down, y, w.down_bias);  // [M, D]
}

// h = sum over chosen experts of g_i FFN_i(x) + FFN_shared(x)          (arXiv:2412.19437 eq. 12)
void Step::FeedForward(const LayerWeights& w, View2<const float> x, View2<float> y) const {
  const Workspace::Position mark = memory.Mark();
  if (!w.moe) {
    SwiGluBlock(w.ffn, x, y);
    memory.Release(mark);
    return;
  }
  const GateShape& gate = config.gate;
  View2<float> logits = memory.Matrix(x.rows, gate.experts);  // [M, E]
  View2<float> weights = memory.Matrix(x.rows, gate.top_k);   // [M, top_k]
  View2<int32_t> ids(memory.Take<int32_t>(x.rows * gate.top_k), x.rows, gate.top_k);
  MatMul(exec, x, w.router, logits);
  MoeRoute(exec, logits, gate, w.router_bias, ids, weights);
  if (trace != nullptr) trace->ids.emplace_back(ids.data, ids.data + ids.rows * ids.cols);
  MoeExperts(exec, x, ids, weights, {w.expert_gate, w.expert_up, w.expert_down}, y);
  if (config.shared_experts > 0) {
    View2<float> shared = memory.Matrix(x.rows, config.width);  // [M, D]
    SwiGluBlock(w.ffn, x, shared);
    Add(exec, y, shared);
  }
  memory.Release(mark);
}

namespace {

void Embed(const Exec& exec, const PackedMatrix& table, std::span<const int32_t> ids,
           View2<float> x) {
  exec.pool().For(x.rows,
                  [&](int64_t t, int) { table.Row(ids[static_cast<size_t>(t)], x.row(t)); });
}

View2<float> GatherRows(const Exec& exec, View2<const float> x, std::span<const int32_t> rows,
                        Workspace& memory) {
  View2<float> out = memory.Matrix(static_cast<int64_t>(rows.size()), x.cols);
  exec.pool().For(out.rows, [&](int64_t r, int) {
    std::copy_n(x.row(rows[static_cast<size_t>(r)]), x.cols, out.row(r));
  });
  return out;
}

// The first layer after which a row held NaN or Inf, for each row; -1: none so far.
class FiniteWatch {
 public:
  FiniteWatch(const Exec& exec, int64_t rows, Workspace& memory)
      : exec_(exec),
        first_(memory.Take<int32_t>(rows), static_cast<size_t>(rows)),
        ok_(memory.Take<uint8_t>(rows), static_cast<size_t>(rows)) {
    std::fill(first_.begin(), first_.end(), -1);
  }
  // rows: which rows of the batch x holds; empty: all.
  void Look(View2<const float> x, std::span<const int32_t> rows, int64_t layer) {
    const auto n = static_cast<size_t>(x.rows);
    RowsFinite(exec_, x, ok_.first(n));
    for (size_t i = 0; i < n; ++i) {
      int32_t& first = first_[rows.empty() ? i : static_cast<size_t>(rows[i])];
      if (ok_[i] == 0 && first < 0) first = static_cast<int32_t>(layer);
    }
  }
  // For each row with logits the first layer that spoilt it or an earlier row of its sequence.
  std::span<const int32_t> Report(const Batch& batch, Workspace& memory) const {
    auto* out = memory.Take<int32_t>(batch.logit_rows);
    size_t want = 0;
    for (const SeqSpan& span : batch.spans) {
      int32_t worst = -1;
      for (int64_t row = span.first_row; row < span.first_row + span.rows; ++row) {
        const int32_t bad = first_[static_cast<size_t>(row)];
        if (bad >= 0 && (worst < 0 || bad < worst)) worst = bad;
        if (want < batch.wanted_rows.size() && batch.wanted_rows[want] == row) out[want++] = worst;
      }
    }
    return {out, want};
  }

 private:
  const Exec& exec_;
  std::span<int32_t> first_;
  std::span<uint8_t> ok_;
};

// All the memory of the step in one piece from the start, so that a second step of the size finds
// it there and allocates nothing. What a growing prompt expands is rounded up, so that its later
// chunks find it there as well.
void Reserve(const ModelConfig& config, std::span<const SeqInput> seqs, int64_t cache_tokens,
             Workspace& memory) {
  StepShape shape = ShapeOf(config, seqs);
  const auto rounded =
      static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(shape.expand_tokens)));
  shape.expand_tokens = std::max(shape.expand_tokens, std::min(rounded, cache_tokens));
  const int64_t bytes = WorkspaceBytes(config, shape);
  if (memory.capacity() < static_cast<size_t>(bytes)) {
    memory = Workspace();  // gives the old piece back first
    memory = Workspace(static_cast<size_t>(bytes));
  } else {
    memory.Reset();
  }
}

// Rotations for every position the cache can hold, at least for those of this step.
View2<const float> RopeRows(const Exec& exec, const ModelConfig& config,
                            std::span<const int32_t> positions, int64_t limit, RopeTable& table) {
  int64_t needed = 1;
  for (const int32_t p : positions) needed = std::max<int64_t>(needed, p + int64_t{1});
  const int64_t dim = RopeDim(config);
  if (needed > table.rows) {
    table.rows = std::max(needed, std::min(limit, config.context));
    table.values = Buffer(static_cast<size_t>(table.rows * dim) * sizeof(float));
    FillRope(exec, config, 0, {table.values.as<float>(), table.rows, dim});
  }
  return {table.values.as<float>(), table.rows, dim};
}

struct Logits {
  const Vector& norm;
  const PackedMatrix& head;
};

// hidden: [R, D] before the last norm.
ForwardResult Finish(const Step& step, const Logits& last, View2<float> hidden,
                     std::span<const int32_t> bad_layer) {
  ForwardResult result;
  result.hidden = hidden;
  result.bad_layer = bad_layer;
  View2<float> h = step.memory.Matrix(hidden.rows, hidden.cols);       // [R, D]
  result.logits = step.memory.Matrix(hidden.rows, step.config.vocab);  // [R, V]
  RmsNorm(step.exec, hidden, last.norm, step.config.norm_eps, h);
  MatMul(step.exec, h, last.head, result.logits);
  return result;
}

}  // namespace
}  // namespace internal

using internal::Batch;
using internal::LayerWeights;
using internal::Step;

ForwardResult Model::Forward(std::span<const SeqInput> seqs, const KvCache& cache,
                             RoutingTrace* trace) {
  Impl& m = *impl_;
  const ModelConfig& c = m.config;
  const Exec& exec = *m.exec;
  internal::Reserve(c, seqs, cache.blocks() * kKvBlock, m.work);
  Batch batch = internal::LayOut(c, seqs, m.work);
  batch.rope = internal::RopeRows(exec, c, batch.positions, cache.blocks() * kKvBlock, m.rope);
  const Step step{exec, c, m.work, batch, trace};
  internal::FiniteWatch watch(exec, batch.tokens, m.work);

  View2<float> x = m.work.Matrix(batch.tokens, c.width);  // [T, D], the residual stream
  View2<float> h = m.work.Matrix(batch.tokens, c.width);  // [T, D], its norm
  View2<float> y = m.work.Matrix(batch.tokens, c.width);  // [T, D], what a block adds
  std::span<const int32_t> rows;                          // of the batch in x; empty: all
  internal::Embed(exec, m.weights.embed, batch.ids, x);
  RmsNorm(exec, x, m.weights.layers[0].attention_norm, c.norm_eps, h);
  for (int64_t i = 0; i < c.layers; ++i) {
    const LayerWeights& w = m.weights.layers[static_cast<size_t>(i)];
    const bool last = i + 1 == c.layers;
    step.Attention(w, h, cache.layer(i), y);
    if (last && trace == nullptr && batch.logit_rows < batch.tokens) {
      // No later layer needs the other rows.
      rows = batch.wanted_rows;
      x = internal::GatherRows(exec, x, rows, m.work);  // [R, D]
      y = internal::GatherRows(exec, y, rows, m.work);  // [R, D]
      h = h.Rows(0, x.rows);
    }
    AddRmsNorm(exec, x, y, w.ffn_norm, c.norm_eps, h);
    step.FeedForward(w, h, y);
    if (last) {
      Add(exec, x, y);
    } else {
      const auto& next = m.weights.layers[static_cast<size_t>(i + 1)];
      AddRmsNorm(exec, x, y, next.attention_norm, c.norm_eps, h);
    }
    watch.Look(x, rows, i);
  }
  if (x.rows != batch.logit_rows) x = internal::GatherRows(exec, x, batch.wanted_rows, m.work);
  const PackedMatrix& head = c.tied_embeddings ? m.weights.embed : m.weights.head;
  return internal::Finish(step, {m.weights.final_norm, head}, x, watch.Report(batch, m.work));
}

// One more block over [norm(embedding of the next token); norm(hidden)] (arXiv:2412.19437 eq. 21,
// halves in the order of the released weights). hidden goes through the model's last norm first, as
// the implementations that serve these weights do.
ForwardResult Model::ForwardMtp(std::span<const SeqInput> seqs, View2<const float> hidden,
                                const KvCache& cache) {
  Impl& m = *impl_;
  const ModelConfig& c = m.config;
  const Exec& exec = *m.exec;
  CHECK(m.weights.mtp != nullptr);
  const internal::MtpWeights& mtp = *m.weights.mtp;
  internal::Reserve(c, seqs, cache.blocks() * kKvBlock, m.mtp_work);
  Batch batch = internal::LayOut(c, seqs, m.mtp_work);
  CHECK(hidden.rows == batch.tokens && hidden.cols == c.width);
  batch.rope = internal::RopeRows(exec, c, batch.positions, cache.blocks() * kKvBlock, m.rope);
  const Step step{exec, c, m.mtp_work, batch, nullptr};
  internal::FiniteWatch watch(exec, batch.tokens, m.mtp_work);

  View2<float> x = m.mtp_work.Matrix(batch.tokens, c.width);         // [T, D]
  View2<float> h = m.mtp_work.Matrix(batch.tokens, c.width);         // [T, D]
  View2<float> y = m.mtp_work.Matrix(batch.tokens, c.width);         // [T, D]
  View2<float> both = m.mtp_work.Matrix(batch.tokens, 2 * c.width);  // [T, 2D]
  internal::Embed(exec, m.weights.embed, batch.ids, x);
  RmsNorm(exec, x, mtp.embed_norm, c.norm_eps, both.Cols(0, c.width));
  RmsNorm(exec, hidden, m.weights.final_norm, c.norm_eps, h);
  RmsNorm(exec, h, mtp.hidden_norm, c.norm_eps, both.Cols(c.width, c.width));
  MatMul(exec, both, mtp.project, x);

  const LayerWeights& w = mtp.layer;
  RmsNorm(exec, x, w.attention_norm, c.norm_eps, h);
  step.Attention(w, h, cache.layer(c.layers), y);
  AddRmsNorm(exec, x, y, w.ffn_norm, c.norm_eps, h);
  step.FeedForward(w, h, y);
  Add(exec, x, y);
  watch.Look(x, {}, c.layers);
  if (x.rows != batch.logit_rows) x = internal::GatherRows(exec, x, batch.wanted_rows, m.mtp_work);
  const PackedMatrix& head = c.tied_embeddings ? m.weights.embed : m.weights.head;
  return internal::Finish(step, {mtp.head_norm, head}, x, watch.Report(batch, m.mtp_work));
}

}  // namespace hadal
