// The routed experts of a layer: all of them here, or spread over ranks.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/matmul.h"
#include "kernels/moe.h"
#include "kernels/moe_backward.h"
#include "model/internal_graph.h"

namespace hadal::internal {

// MoeExpertsForward from the masters.
void Graph::MasterMix(const Mixed& m, const LayerWeights& w) const {
  const GemmOptions options = {.type = tape->compute, .b_is_weight = true};
  const int64_t slots = m.gate.rows;
  Workspace& scratch = exec.shared();
  const Workspace::Position mark = scratch.Mark();
  const View2<float> act = scratch.Matrix(slots, m.gate.cols);  // [S, F]
  const View2<float> out = scratch.Matrix(slots, m.y.cols);     // [S, D]
  const auto each = [&](const auto& add) {
    std::vector<GemmJob> jobs;
    for (size_t e = 0; e + 1 < m.plan.first.size(); ++e) {
      const int32_t first = m.plan.first[e], n = m.plan.first[e + 1] - first;
      if (n > 0) add(jobs, static_cast<int32_t>(e), first, n);
    }
    GemmJobs(exec, jobs, options);
  };
  const auto first_expert = static_cast<int32_t>(m.first_expert);
  const auto value = [&](int32_t param) {
    return GemmArg{tape->parameters.value(param + first_expert)};
  };
  each([&](std::vector<GemmJob>& jobs, int32_t e, int32_t first, int32_t n) {
    const GemmArg rows = {m.x, false,
                          m.plan.token.subspan(static_cast<size_t>(first), static_cast<size_t>(n))};
    jobs.push_back({rows, value(w.gate_param + e), m.gate.Rows(first, n)});
    jobs.push_back({rows, value(w.up_param + e), m.up.Rows(first, n)});
  });
  SwiGlu(exec, m.gate, m.up, act);
  each([&](std::vector<GemmJob>& jobs, int32_t e, int32_t first, int32_t n) {
    jobs.push_back({{act.Rows(first, n)}, value(w.down_param + e), out.Rows(first, n)});
  });
  CombineSlots(exec, m.plan, out, &m.weights, m.weights.cols, m.y);
  scratch.Release(mark);
}

// m.y from m.x through the experts of m.plan.
void Graph::MixForward(const Mixed& m, const LayerWeights& w) const {
  if (training()) return MasterMix(m, w);
  const auto first = static_cast<size_t>(m.first_expert), count = m.plan.first.size() - 1;
  const auto of = [&](const std::vector<PackedMatrix>& all) {
    return std::span(all).subspan(first, count);
  };
  MoeExpertsForward(exec, m.x, m.plan, m.weights,
                    {of(w.expert_gate), of(w.expert_up), of(w.expert_down)}, m.gate, m.up, m.y);
}

int64_t Graph::ExpertWidth(const LayerWeights& w, int64_t expert) const {
  return training() ? tape->parameters.value(w.gate_param + expert).rows
                    : w.expert_gate[static_cast<size_t>(expert)].rows();
}

// Adds to the gradients of m.x and of the experts, those by tokens of rank `source`.
void Graph::MixBackward(const Mixed& m, const LayerWeights& w, View2<float> dweights,
                        int64_t source) const {
  std::vector<View2<const float>> values;
  std::vector<View2<float>> grads;
  const size_t n = m.plan.first.size() - 1;
  for (const int32_t param : {w.gate_param, w.up_param, w.down_param}) {
    for (size_t e = 0; e < n; ++e) {
      const int64_t index = param + m.first_expert + static_cast<int64_t>(e);
      values.push_back(tape->parameters.value(index));
      grads.push_back(tape->parameters.gradient(index, source));
    }
  }
  const std::span<const View2<const float>> v(values);
  const std::span<const View2<float>> g(grads);
  MoeExpertsBackward(exec, tape->Grad(m.y), m.x, m.plan, m.weights, m.gate, m.up,
                     {v.first(n), v.subspan(n, n), v.last(n)}, tape->compute, tape->Grad(m.x),
                     dweights, {g.first(n), g.subspan(n, n), g.last(n)});
}

void Graph::Mix(View2<const float> x, const Routed& routed, const LayerWeights& w,
                View2<float> y) const {
  if (w.exchange != nullptr) return MixAcross(x, routed, w, y);
  if (!training()) {
    const Experts experts = {w.expert_gate, w.expert_up, w.expert_down};
    MoeExperts(exec, x, routed.ids, routed.weights, experts, y);
    return;
  }
  const int64_t slots = routed.ids.rows * routed.ids.cols;
  Mixed m = {x, routed.weights, {}, {}, {}, y};
  m.plan = PlanMoe(routed.ids, static_cast<int64_t>(w.expert_gate.size()), memory);
  const int64_t width = ExpertWidth(w, 0);
  m.gate = memory.Matrix(slots, width);  // [S, F]
  m.up = memory.Matrix(slots, width);    // [S, F]
  MixForward(m, w);
  if (!recording()) return;
  tape->Note([graph = *this, routed, m, w = &w] {
    graph.MixBackward(m, *w, graph.tape->Grad(routed.weights), 0);
  });
}

namespace {

std::vector<int64_t> RunsOf(std::span<const int32_t> counts, int64_t ranks) {
  std::vector<int64_t> runs(static_cast<size_t>(ranks));
  const size_t each = counts.size() / runs.size();
  for (size_t i = 0; i < counts.size(); ++i) runs[i / each] += counts[i];
  return runs;
}

// The experts of rows that come sorted by expert.
View2<int32_t> SortedIds(std::span<const int32_t> counts, Workspace& memory) {
  int64_t rows = 0;
  for (const int32_t n : counts) rows += n;
  const View2<int32_t> ids(memory.Take<int32_t>(rows), rows, 1);
  int64_t at = 0;
  for (size_t e = 0; e < counts.size(); ++e) {
    for (int32_t i = 0; i < counts[e]; ++i) ids.row(at++)[0] = static_cast<int32_t>(e);
  }
  return ids;
}

}  // namespace

// S chosen (token, slot) pairs of this rank go to the keepers of their experts, in plan order; R
// come here, rank after rank, each rank's as it has planned them. A rank's rows are mixed by
// themselves, so that each gradient is the chain of sums that its rank alone would make.
struct Graph::Crossing {
  ExpertExchange* exchange = nullptr;
  MoePlan plan;                         // of this rank's pairs
  std::vector<int64_t> sent, received;  // by rank
  View2<float> to, from;                // [S, D]: what leaves, and what comes back for it
  View2<float> in, out;                 // [R, D]: what the experts here take and give
  std::vector<Mixed> mixed;             // by rank, rows of `in` and `out`
};

void Graph::MixAcross(View2<const float> x, const Routed& routed, const LayerWeights& w,
                      View2<float> y) const {
  const ExpertShare share = w.exchange->share();
  const auto experts = static_cast<int64_t>(w.expert_gate.size());
  const int64_t first = share.First(experts), count = share.Size(experts);
  const int64_t width = ExpertWidth(w, first);
  Crossing c;
  c.exchange = w.exchange;
  c.plan = PlanMoe(routed.ids, experts, memory);
  std::vector<int32_t> mine(static_cast<size_t>(experts)), theirs(mine.size());
  for (size_t e = 0; e < mine.size(); ++e) mine[e] = c.plan.first[e + 1] - c.plan.first[e];
  c.exchange->Counts(mine, theirs);
  c.sent = RunsOf(mine, share.ranks);
  c.received = RunsOf(theirs, share.ranks);
  int64_t rows = 0;
  for (const int64_t n : c.received) rows += n;
  c.to = memory.Matrix(static_cast<int64_t>(c.plan.slot.size()), x.cols);
  c.from = memory.Matrix(c.to.rows, x.cols);
  c.in = memory.Matrix(rows, x.cols);
  c.out = memory.Matrix(rows, x.cols);
  exec.pool().For(c.to.rows, [&](int64_t s, int) {
    std::copy_n(x.row(c.plan.token[static_cast<size_t>(s)]), x.cols, c.to.row(s));
  });
  c.exchange->Rows(c.to, c.sent, c.in, c.received);
  rows = 0;
  for (int64_t r = 0; r < share.ranks; ++r) {
    const int64_t n = c.received[static_cast<size_t>(r)];
    const View2<float> ones = memory.Matrix(n, 1);
    std::fill_n(ones.data, n, 1.0f);
    Mixed m = {c.in.Rows(rows, n), ones, {}, {}, {}, c.out.Rows(rows, n), first};
    const auto at = static_cast<size_t>(r * count), size = static_cast<size_t>(count);
    m.plan = PlanMoe(SortedIds(std::span(theirs).subspan(at, size), memory), count, memory);
    m.gate = memory.Matrix(n, width);  // [R, F]
    m.up = memory.Matrix(n, width);    // [R, F]
    MixForward(m, w);
    c.mixed.push_back(m);
    rows += n;
  }
  c.exchange->Rows(c.out, c.received, c.from, c.sent);
  const View2<const float> weights = routed.weights;
  CombineSlots(exec, c.plan, c.from, &weights, weights.cols, y);
  if (!recording()) return;
  tape->Note([graph = *this, x, routed, y, c = std::move(c), w = &w] {
    graph.MixAcrossBackward(x, routed, y, c, *w);
  });
}

// A row's gradient and its weight go the way the row went; what comes back are the gradients of
// the row that left and of its weight.
void Graph::MixAcrossBackward(View2<const float> x, const Routed& routed, View2<const float> y,
                              const Crossing& c, const LayerWeights& w) const {
  Workspace& scratch = exec.shared();
  const Workspace::Position mark = scratch.Mark();
  const int64_t top_k = routed.weights.cols;
  const View2<float> dy = tape->Grad(y), dfrom = tape->Grad(c.from), dto = tape->Grad(c.to);
  const View2<float> weights = scratch.Matrix(c.to.rows, 1),
                     dweights = scratch.Matrix(c.to.rows, 1);
  const View2<float> in_weights = scratch.Matrix(c.in.rows, 1);
  const View2<float> din_weights = scratch.Matrix(c.in.rows, 1);
  const auto slot = [&](int64_t s) { return c.plan.slot[static_cast<size_t>(s)]; };
  exec.pool().For(c.to.rows, [&](int64_t s, int) {
    std::copy_n(dy.row(slot(s) / top_k), dy.cols, dfrom.row(s));
    weights.row(s)[0] = routed.weights.row(slot(s) / top_k)[slot(s) % top_k];
  });
  c.exchange->Rows(dfrom, c.sent, tape->Grad(c.out), c.received);
  c.exchange->Rows(weights, c.sent, in_weights, c.received);
  int64_t at = 0;
  for (size_t r = 0; r < c.mixed.size(); ++r) {
    Mixed m = c.mixed[r];
    if (m.x.rows == 0) continue;
    m.weights = in_weights.Rows(at, m.x.rows);
    MixBackward(m, w, din_weights.Rows(at, m.x.rows), static_cast<int64_t>(r));
    at += m.x.rows;
  }
  c.exchange->Rows(tape->Grad(c.in), c.received, dto, c.sent);
  c.exchange->Rows(din_weights, c.received, dweights, c.sent);
  const View2<float> drouted = tape->Grad(routed.weights);
  for (int64_t s = 0; s < c.to.rows; ++s) {
    drouted.row(slot(s) / top_k)[slot(s) % top_k] = dweights.row(s)[0];
  }
  CombineSlots(exec, c.plan, dto, nullptr, top_k, tape->Grad(x));
  scratch.Release(mark);
}

}  // namespace hadal::internal
