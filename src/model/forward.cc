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
  View2<float> gate = g.Matrix(x.rows, w.gate.from.rows);  // [M, F]
  View2<float> up = g.Matrix(x.rows, w.up.from.rows);      // [M, F]
  const LinearPart in[] = {{w.gate, w.gate_bias, gate}, {w.up, w.up_bias, up}};
  g.Linear(x, in);
  g.GatedLinear(gate, up, {w.down, w.down_bias, y});  // [M, D]
}

// h = sum over chosen experts of g_i FFN_i(x) + FFN_shared(x)          (arXiv:2412.19437 eq. 12)
void Step::FeedForward(const LayerWeights& w, View2<const float> x, View2<float> y) const {
  const Workspace::Position mark = g.Mark();
  if (!w.moe) {
    SwiGluBlock(w.ffn, x, y);
    g.Release(mark);
    return;
  }
  View2<float> logits = g.Matrix(x.rows, config.gate.experts);  // [M, E]
  const LinearPart gate[] = {{w.router, kNoBias, logits}};
  g.Linear(x, gate);
  const Graph::Routed routed = g.Route(logits, config.gate, w.router_bias, batch.spans);
  const View2<int32_t> ids = routed.ids;
  if (trace != nullptr) trace->ids.emplace_back(ids.data, ids.data + ids.rows * ids.cols);
  g.Mix(x, routed, w, y);
  if (config.shared_experts > 0) {
    View2<float> shared = g.Matrix(x.rows, config.width);  // [M, D]
    SwiGluBlock(w.ffn, x, shared);
    g.Add(y, shared, y);
  }
  g.Release(mark);
}

Step::Stream Step::Sum(Stream s, View2<const float> y, const Vector& norm,
                       const Stream* into) const {
  const Stream next = into != nullptr ? *into : Stream{g.Own(s.x), g.Own(s.h)};
  g.AddNorm(s.x, y, norm, config.norm_eps, next.x, next.h);
  return next;
}

// From a layer's input to the next one's; after the last there is no next norm, and nothing reads
// h. `rows`: those of the batch that the stream holds, empty for all. `into`, unless null: where a
// pass of training wants the result.
Step::Stream Step::Layer(const ModelWeights& weights, int64_t index, const KvStore& store, Stream s,
                         std::span<const int32_t>& rows, const Stream* into) const {
  const LayerWeights& w = weights.layers[static_cast<size_t>(index)];
  const bool last = index + 1 == config.layers;
  const Workspace::Position mark = g.Mark();
  View2<float> y = g.Matrix(batch.tokens, config.width);  // [T, D], what a block adds
  Attention(w, s.h, store, y);
  if (last && trace == nullptr && batch.logit_rows < batch.tokens && !g.recording()) {
    // No later layer needs the other rows.
    rows = batch.wanted_rows;
    s.x = g.Gather(s.x, rows);  // [R, D]
    y = g.Gather(y, rows);      // [R, D]
    s.h = s.h.Rows(0, s.x.rows);
  }
  s = Sum(s, y, w.ffn_norm);
  y = g.Own(y);
  FeedForward(w, s.h, y);
  if (last) {
    const View2<float> sum = into != nullptr ? into->x : g.Own(s.x);
    g.Add(s.x, y, sum);
    s.x = sum;
    return s;  // what was gathered stays
  }
  s = Sum(s, y, weights.layers[static_cast<size_t>(index + 1)].attention_norm, into);
  g.Release(mark);
  return s;
}

// A layer with memory of its own; with `recompute` its inside is forgotten and run again when its
// gradient is wanted: two matrices a layer are kept, at the price of one more forward pass.
Step::Stream Step::RecordedLayer(const ModelWeights& weights, int64_t index, const KvStores& stores,
                                 Stream s) const {
  const Stream out = {g.Matrix(batch.tokens, config.width), g.Matrix(batch.tokens, config.width)};
  const Tape::Run run = [config = &config, batch = &batch, weights = &weights, index,
                         store = stores.shared, s, out](const Graph& inside) {
    std::span<const int32_t> rows;
    Step{inside, *config, *batch, nullptr}.Layer(*weights, index, store, s, rows, &out);
  };
  if (!g.tape->recompute) {
    g.tape->Apart(g.exec, run);
    return out;
  }
  const Workspace::Position mark = g.memory.Mark();
  const Graph once(g.exec, g.memory, g.tape, /*keep=*/false);
  const Stream copy = {once.Matrix(batch.tokens, config.width),
                       once.Matrix(batch.tokens, config.width)};
  once.Copy(s.x, copy.x);
  once.Copy(s.h, copy.h);
  std::span<const int32_t> rows;
  Step{once, config, batch, trace}.Layer(weights, index, stores.shared, copy, rows, &out);
  g.memory.Release(mark);
  g.tape->Later(g.exec, run);
  return out;
}

View2<float> Step::Layers(const ModelWeights& weights, const KvStores& stores,
                          FiniteWatch& watch) const {
  const ModelConfig& c = config;
  Stream s = {g.Matrix(batch.tokens, c.width), g.Matrix(batch.tokens, c.width)};
  std::span<const int32_t> rows;
  g.Embed(weights.embed, batch.ids, s.x);
  g.Norm(s.x, weights.layers[0].attention_norm, c.norm_eps, s.h);
  for (int64_t i = 0; i < c.layers; ++i) {
    s = g.recording() ? RecordedLayer(weights, i, stores, s)
                      : Layer(weights, i, stores.layer(i), s, rows, nullptr);
    watch.Look(s.x, rows, i);
  }
  return s.x;
}

// One more block over [norm(embedding of the next token); norm(hidden)] (arXiv:2412.19437 eq. 21,
// halves in the order of the released weights). hidden goes through the model's last norm first, as
// the implementations that serve these weights do.
View2<float> Step::Mtp(const ModelWeights& weights, View2<const float> hidden, const KvStore& store,
                       FiniteWatch& watch) const {
  const ModelConfig& c = config;
  const MtpWeights& mtp = *weights.mtp;
  View2<float> x = g.Matrix(batch.tokens, c.width);         // [T, D]
  View2<float> h = g.Matrix(batch.tokens, c.width);         // [T, D]
  View2<float> y = g.Matrix(batch.tokens, c.width);         // [T, D]
  View2<float> both = g.Matrix(batch.tokens, 2 * c.width);  // [T, 2D]
  g.Embed(weights.embed, batch.ids, x);
  g.Norm(x, mtp.embed_norm, c.norm_eps, both.Cols(0, c.width));
  g.Norm(hidden, weights.final_norm, c.norm_eps, h);
  g.Norm(h, mtp.hidden_norm, c.norm_eps, both.Cols(c.width, c.width));
  Stream s = {g.Own(x), g.Own(h)};
  const LinearPart project[] = {{mtp.project, kNoBias, s.x}};
  g.Linear(both, project);

  const LayerWeights& w = mtp.layer;
  g.Norm(s.x, w.attention_norm, c.norm_eps, s.h);
  Attention(w, s.h, store, y);
  s = Sum(s, y, w.ffn_norm);
  y = g.Own(y);
  FeedForward(w, s.h, y);
  const View2<float> sum = g.Own(s.x);
  g.Add(s.x, y, sum);
  watch.Look(sum, {}, c.layers);
  return sum;
}

FiniteWatch::FiniteWatch(const Exec& exec, int64_t rows, Workspace& memory)
    : exec_(exec),
      first_(memory.Take<int32_t>(rows), static_cast<size_t>(rows)),
      ok_(memory.Take<uint8_t>(rows), static_cast<size_t>(rows)) {
  std::fill(first_.begin(), first_.end(), -1);
}

void FiniteWatch::Look(View2<const float> x, std::span<const int32_t> rows, int64_t layer) {
  const auto n = static_cast<size_t>(x.rows);
  RowsFinite(exec_, x, ok_.first(n));
  for (size_t i = 0; i < n; ++i) {
    int32_t& first = first_[rows.empty() ? i : static_cast<size_t>(rows[i])];
    if (ok_[i] == 0 && first < 0) first = static_cast<int32_t>(layer);
  }
}

std::span<const int32_t> FiniteWatch::Report(const Batch& batch, Workspace& memory) const {
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

int64_t FiniteWatch::First() const {
  int64_t first = -1;
  for (const int32_t layer : first_) {
    if (layer >= 0 && (first < 0 || layer < first)) first = layer;
  }
  return first;
}

namespace {

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

// hidden: [R, D] before the last norm.
ForwardResult Finish(const Step& step, const Logits& last, View2<float> hidden,
                     std::span<const int32_t> bad_layer) {
  ForwardResult result;
  result.hidden = hidden;
  result.bad_layer = bad_layer;
  View2<float> h = step.g.Matrix(hidden.rows, hidden.cols);       // [R, D]
  result.logits = step.g.Matrix(hidden.rows, step.config.vocab);  // [R, V]
  RmsNorm(step.g.exec, hidden, last.norm, step.config.norm_eps, h);
  MatMul(step.g.exec, h, last.head, result.logits);
  return result;
}

}  // namespace

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

}  // namespace internal

using internal::Batch;
using internal::Graph;
using internal::Step;

ForwardResult Model::Forward(std::span<const SeqInput> seqs, const KvCache& cache,
                             RoutingTrace* trace) {
  Impl& m = *impl_;
  const ModelConfig& c = m.config;
  internal::Reserve(c, seqs, cache.blocks() * kKvBlock, m.work);
  Batch batch = internal::LayOut(c, seqs, m.work);
  batch.rope = internal::RopeRows(*m.exec, c, batch.positions, cache.blocks() * kKvBlock, m.rope);
  const Graph graph(*m.exec, m.work);
  const Step step{graph, c, batch, trace};
  internal::FiniteWatch watch(*m.exec, batch.tokens, m.work);
  View2<float> x = step.Layers(m.weights, {&cache, {}}, watch);
  if (x.rows != batch.logit_rows) x = graph.Gather(x, batch.wanted_rows);
  const internal::Logits last = {m.weights.final_norm, m.weights.OutputHead()};
  return internal::Finish(step, last, x, watch.Report(batch, m.work));
}

ForwardResult Model::ForwardMtp(std::span<const SeqInput> seqs, View2<const float> hidden,
                                const KvCache& cache) {
  Impl& m = *impl_;
  const ModelConfig& c = m.config;
  CHECK(m.weights.mtp != nullptr);
  internal::Reserve(c, seqs, cache.blocks() * kKvBlock, m.mtp_work);
  Batch batch = internal::LayOut(c, seqs, m.mtp_work);
  CHECK(hidden.rows == batch.tokens && hidden.cols == c.width);
  batch.rope = internal::RopeRows(*m.exec, c, batch.positions, cache.blocks() * kKvBlock, m.rope);
  const Graph graph(*m.exec, m.mtp_work);
  const Step step{graph, c, batch, nullptr};
  internal::FiniteWatch watch(*m.exec, batch.tokens, m.mtp_work);
  View2<float> x = step.Mtp(m.weights, hidden, cache.layer(c.layers), watch);
  if (x.rows != batch.logit_rows) x = graph.Gather(x, batch.wanted_rows);
  const internal::Logits last = {m.weights.mtp->head_norm, m.weights.OutputHead()};
  return internal::Finish(step, last, x, watch.Report(batch, m.mtp_work));
}

}  // namespace hadal
