#include "kernels/moe_backward.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/check.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"

namespace hadal {
namespace {

using internal::ForRowRuns;

int64_t Count(const MoePlan& plan, size_t e) { return plan.first[e + 1] - plan.first[e]; }
std::span<const int32_t> Tokens(const MoePlan& plan, size_t e) {
  return plan.token.subspan(static_cast<size_t>(plan.first[e]),
                            static_cast<size_t>(Count(plan, e)));
}
template <typename T>
View2<T> RowsOf(const MoePlan& plan, size_t e, View2<T> m) {
  return m.Rows(plan.first[e], Count(plan, e));
}

}  // namespace

void CombineSlots(const Exec& exec, const MoePlan& plan, View2<const float> from,
                  const View2<const float>* weights, int64_t top_k, View2<float> y) {
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  int32_t* place = memory.Take<int32_t>(static_cast<int64_t>(plan.slot.size()));
  for (size_t s = 0; s < plan.slot.size(); ++s) {
    place[plan.slot[s]] = static_cast<int32_t>(s);
  }
  const auto axpy = internal::Ops(exec.isa()).axpy;
  const auto add = internal::Train(exec.isa()).add;
  ForRowRuns(exec, y.rows, y.cols * top_k, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      if (weights != nullptr) std::fill_n(y.row(t), y.cols, 0.0f);
      for (int64_t j = 0; j < top_k; ++j) {
        const float* part = from.row(place[t * top_k + j]);
        if (weights != nullptr) {
          axpy(weights->row(t)[j], part, y.cols, y.row(t));
        } else {
          add(part, y.cols, y.row(t));
        }
      }
    }
  });
  memory.Release(mark);
}

MoePlan PlanMoe(View2<const int32_t> ids, int64_t experts, Workspace& memory) {
  const int64_t pairs = ids.rows * ids.cols;
  int32_t* first = memory.Take<int32_t>(experts + 1);
  int32_t* token = memory.Take<int32_t>(pairs);
  int32_t* slot = memory.Take<int32_t>(pairs);
  std::fill_n(first, experts + 1, 0);
  for (int64_t t = 0; t < ids.rows; ++t) {
    for (const int32_t id : ids[t]) {
      CHECK(id >= 0 && id < experts);
      ++first[id + 1];
    }
  }
  for (int64_t e = 0; e < experts; ++e) first[e + 1] += first[e];
  // first[e] runs ahead while places are given out and is moved back by one expert at the end.
  for (int64_t t = 0; t < ids.rows; ++t) {
    for (int64_t j = 0; j < ids.cols; ++j) {
      const int32_t place = first[ids.row(t)[j]]++;
      token[place] = static_cast<int32_t>(t);
      slot[place] = static_cast<int32_t>(t * ids.cols + j);
    }
  }
  std::copy_backward(first, first + experts, first + experts + 1);
  first[0] = 0;
  const auto size = static_cast<size_t>(pairs);
  return {{first, static_cast<size_t>(experts + 1)}, {token, size}, {slot, size}};
}

void MoeExpertsForward(const Exec& exec, View2<const float> x, const MoePlan& plan,
                       View2<const float> weights, const Experts& experts, View2<float> gate,
                       View2<float> up, View2<float> y) {
  const size_t count = experts.gate.size();
  const auto pairs = static_cast<int64_t>(plan.slot.size());
  CHECK(experts.up.size() == count && experts.down.size() == count);
  CHECK(plan.first.size() == count + 1 && weights.rows == x.rows && y.rows == x.rows);
  CHECK(pairs == x.rows * weights.cols && gate.rows == pairs && up.rows == pairs);
  CHECK(gate.cols == up.cols);
  if (x.rows == 0) return;
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  const View2<float> act = memory.Matrix(pairs, gate.cols), down = memory.Matrix(pairs, y.cols);
  MatMulJob* jobs = memory.Take<MatMulJob>(2 * static_cast<int64_t>(count));
  size_t active = 0;
  for (size_t e = 0; e < count; ++e) {
    if (Count(plan, e) == 0) continue;
    const auto rows = Tokens(plan, e);
    std::construct_at(jobs + active++, MatMulJob{&experts.gate[e], x, rows, RowsOf(plan, e, gate)});
    std::construct_at(jobs + active++, MatMulJob{&experts.up[e], x, rows, RowsOf(plan, e, up)});
  }
  MatMulJobs(exec, {jobs, active});
  SwiGlu(exec, gate, up, act);
  active = 0;
  for (size_t e = 0; e < count; ++e) {
    if (Count(plan, e) == 0) continue;
    std::construct_at(
        jobs + active++,
        MatMulJob{&experts.down[e], RowsOf<const float>(plan, e, act), {}, RowsOf(plan, e, down)});
  }
  MatMulJobs(exec, {jobs, active});
  CombineSlots(exec, plan, down, &weights, weights.cols, y);
  memory.Release(mark);
}

namespace {

// The backward pass of the experts of one layer: products over all experts at once, rows between.
class ExpertsBackward {
 public:
  ExpertsBackward(const Exec& exec, const MoePlan& plan, ComputeType type, size_t experts)
      : exec_(exec), plan_(plan), type_(type), experts_(experts) {
    jobs_ = exec.shared().Take<GemmJob>(3 * static_cast<int64_t>(experts));
  }

  // to = from W, a row a place: W as the weights lie, [rows of from, columns of to].
  void TimesWeights(const GemmArg& from, std::span<const View2<const float>> weights,
                    View2<float> to, bool accumulate) {
    size_t count = 0;
    for (size_t e = 0; e < experts_; ++e) {
      if (Count(plan_, e) == 0) continue;
      std::construct_at(jobs_ + count++,
                        GemmJob{Rows(e, from), {weights[e], true}, RowsOf(plan_, e, to)});
    }
    GemmJobs(exec_, {jobs_, count}, {.type = type_, .accumulate = accumulate, .b_is_weight = true});
  }

  struct Gradient {
    GemmArg left, right;  // [places or tokens, .]: grad += left^T right
    std::span<const View2<float>> grads;
  };
  void AddGradients(const Gradient& first, const Gradient& second, const Gradient& third) {
    size_t count = 0;
    for (size_t e = 0; e < experts_; ++e) {
      if (Count(plan_, e) == 0) continue;
      for (const Gradient* g : {&first, &second, &third}) {
        GemmJob job = {Rows(e, g->left), Rows(e, g->right), g->grads[e]};
        job.a.transposed = job.b.transposed = true;
        std::construct_at(jobs_ + count++, job);
      }
    }
    GemmJobs(exec_, {jobs_, count}, {.type = type_, .accumulate = true});
  }

 private:
  // The rows of an expert: gathered from tokens, or a run of places.
  GemmArg Rows(size_t e, const GemmArg& from) const {
    if (!from.ids.empty()) return {from.m, false, Tokens(plan_, e)};
    return {RowsOf(plan_, e, from.m)};
  }

  const Exec& exec_;
  const MoePlan& plan_;
  const ComputeType type_;
  const size_t experts_;
  GemmJob* jobs_;
};

}  // namespace

void MoeExpertsBackward(const Exec& exec, View2<const float> dy, View2<const float> x,
                        const MoePlan& plan, View2<const float> weights, View2<const float> gate,
                        View2<const float> up, const ExpertMasters& masters, ComputeType type,
                        View2<float> dx, View2<float> dweights, const ExpertGrads& grads) {
  const size_t experts = masters.gate.size();
  const int64_t pairs = static_cast<int64_t>(plan.slot.size()), top_k = weights.cols;
  CHECK(plan.first.size() == experts + 1 && pairs == x.rows * top_k);
  CHECK(dy.rows == x.rows && dx.rows == x.rows && dx.cols == x.cols && dy.cols == x.cols);
  CHECK(dweights.rows == x.rows && dweights.cols == top_k);
  CHECK(gate.rows == pairs && up.rows == pairs && up.cols == gate.cols);
  CHECK(grads.gate.size() == experts && grads.up.size() == experts);
  CHECK(grads.down.size() == experts && masters.up.size() == experts);
  CHECK(masters.down.size() == experts);
  if (pairs == 0) return;
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  const int64_t width = gate.cols;
  const View2<float> dgate = memory.Matrix(pairs, width), dup = memory.Matrix(pairs, width);
  const View2<float> scaled = memory.Matrix(pairs, width), dx_place = memory.Matrix(pairs, x.cols);
  ExpertsBackward run(exec, plan, type, experts);
  // What a place adds to dy . down(h) if its weight were 1, then through the activation.
  run.TimesWeights({dy, false, plan.token}, masters.down, dup, false);
  const auto grad = internal::Train(exec.isa()).expert_grad;
  ForRowRuns(exec, pairs, width, [&](int64_t begin, int64_t end, int) {
    for (int64_t s = begin; s < end; ++s) {
      const int32_t slot = plan.slot[static_cast<size_t>(s)];
      const int64_t t = slot / top_k, j = slot % top_k;
      dweights.row(t)[j] = grad(dup.row(s), gate.row(s), up.row(s), weights.row(t)[j], width,
                                dgate.row(s), dup.row(s), scaled.row(s));
    }
  });
  run.AddGradients({{dy, false, plan.token}, {scaled}, grads.down},
                   {{dgate}, {x, false, plan.token}, grads.gate},
                   {{dup}, {x, false, plan.token}, grads.up});
  run.TimesWeights({dgate}, masters.gate, dx_place, false);
  run.TimesWeights({dup}, masters.up, dx_place, true);
  CombineSlots(exec, plan, dx_place, nullptr, top_k, dx);
  memory.Release(mark);
}

namespace {

// dlogits += factor * the gradient through the scores, given that of the scores themselves.
void AddThroughScores(const float* score, const float* dscore, const GateShape& gate, float factor,
                      float* dlogits) {
  float mean = 0;
  if (gate.score == GateShape::Score::kSoftmax) {
    for (int64_t e = 0; e < gate.experts; ++e) mean += score[e] * dscore[e];
  }
  for (int64_t e = 0; e < gate.experts; ++e) {
    const float slope = gate.score == GateShape::Score::kSoftmax
                            ? score[e] * (dscore[e] - mean)
                            : dscore[e] * score[e] * (1.0f - score[e]);
    dlogits[e] += factor * slope;
  }
}

}  // namespace

void MoeRouteBackward(const Exec& exec, View2<const float> logits, const GateShape& gate,
                      View2<const int32_t> ids, View2<const float> dweights, View2<float> dlogits) {
  CHECK(logits.cols == gate.experts && dlogits.cols == gate.experts);
  CHECK(ids.rows == logits.rows && dweights.rows == logits.rows && dlogits.rows == logits.rows);
  CHECK(ids.cols == gate.top_k && dweights.cols == gate.top_k);
  ForRowRuns(exec, logits.rows, 8 * gate.experts, [&](int64_t begin, int64_t end, int worker) {
    Workspace& memory = exec.scratch(worker);
    memory.Reset();
    float* score = memory.Take<float>(gate.experts);
    float* dscore = memory.Take<float>(gate.experts);
    for (int64_t t = begin; t < end; ++t) {
      GateScores(exec.isa(), logits[t], gate.score, score);
      const int32_t* id = ids.row(t);
      const float* dw = dweights.row(t);
      float sum = 0, mean = 0;
      for (int64_t j = 0; j < gate.top_k; ++j) {
        CHECK(id[j] >= 0 && id[j] < gate.experts);
        sum += score[id[j]];
        mean += dw[j] * score[id[j]];
      }
      sum += 1e-20f;
      mean /= sum;
      std::fill_n(dscore, gate.experts, 0.0f);
      for (int64_t j = 0; j < gate.top_k; ++j) {
        dscore[id[j]] += gate.normalise ? (dw[j] - mean) / sum : dw[j];
      }
      AddThroughScores(score, dscore, gate, gate.scale, dlogits.row(t));
    }
  });
}

namespace {

// What the balance loss keeps of a batch: scores [T, E] made to sum to one, what they were divided
// by (1 for softmax), and the choices.
struct Balance {
  View2<float> score;
  float* sum;
  View2<int32_t> ids;
};

void FillBalance(const Exec& exec, View2<const float> logits, const GateShape& gate,
                 std::span<const float> bias, const Balance& balance) {
  GateShape plain = gate;
  plain.groups = plain.top_groups = 1;
  const View2<float> weights = exec.shared().Matrix(logits.rows, gate.top_k);
  MoeRoute(exec, logits, plain, bias, balance.ids, weights);
  ForRowRuns(exec, logits.rows, 4 * gate.experts, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      float* score = balance.score.row(t);
      GateScores(exec.isa(), logits[t], gate.score, score);
      float total = 1;
      if (gate.score == GateShape::Score::kSigmoid) {
        total = 0;
        for (int64_t e = 0; e < gate.experts; ++e) total += score[e];
        for (int64_t e = 0; e < gate.experts; ++e) score[e] /= total;
      }
      balance.sum[t] = total;
    }
  });
}

// f of a span, and its loss over alpha. mean: room for E.
double SpanLoss(const Balance& balance, const GateShape& gate, const SeqSpan& seq, double* mean,
                float* f) {
  std::fill_n(f, gate.experts, 0.0f);
  std::fill_n(mean, gate.experts, 0.0);
  for (int64_t t = seq.first_row; t < seq.first_row + seq.rows; ++t) {
    for (const int32_t id : balance.ids[t]) f[id] += 1.0f;
    const float* score = balance.score.row(t);
    for (int64_t e = 0; e < gate.experts; ++e) mean[e] += double{score[e]};
  }
  const auto rows = static_cast<double>(seq.rows);
  const double fair = static_cast<double>(gate.experts) / (static_cast<double>(gate.top_k) * rows);
  double loss = 0;
  for (int64_t e = 0; e < gate.experts; ++e) {
    f[e] = static_cast<float>(double{f[e]} * fair);
    loss += double{f[e]} * mean[e] / rows;
  }
  return loss;
}

// dlogits += factor * the gradient of sum_e f_e score_e in one row.
void AddBalanceGrad(const float* score, float sum, const float* f, const GateShape& gate,
                    float factor, float* dlogits) {
  float inner = 0;
  for (int64_t e = 0; e < gate.experts; ++e) inner += f[e] * score[e];
  const bool softmax = gate.score == GateShape::Score::kSoftmax;
  for (int64_t e = 0; e < gate.experts; ++e) {
    // For a sigmoid s = score * sum, and its slope over sum is score (1 - s).
    const float slope = softmax ? score[e] : score[e] * (1.0f - score[e] * sum);
    dlogits[e] += factor * ((f[e] - inner) * slope);
  }
}

}  // namespace

double BalanceLoss(const Exec& exec, View2<const float> logits, const GateShape& gate,
                   std::span<const float> bias, std::span<const SeqSpan> seqs, float alpha,
                   float grad_scale, View2<float> dlogits) {
  CHECK(dlogits.rows == logits.rows && dlogits.cols == logits.cols);
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  const Balance balance = {
      memory.Matrix(logits.rows, gate.experts),
      memory.Take<float>(logits.rows),
      {memory.Take<int32_t>(logits.rows * gate.top_k), logits.rows, gate.top_k}};
  FillBalance(exec, logits, gate, bias, balance);
  const auto count = static_cast<int64_t>(seqs.size());
  const View2<float> f = memory.Matrix(count, gate.experts);
  double* losses = memory.Take<double>(count);
  exec.pool().For(count, [&](int64_t i, int worker) {
    Workspace& scratch = exec.scratch(worker);
    scratch.Reset();
    const SeqSpan& seq = seqs[static_cast<size_t>(i)];
    double* mean = scratch.Take<double>(gate.experts);
    losses[i] = seq.rows == 0 ? 0 : SpanLoss(balance, gate, seq, mean, f.row(i));
  });
  double loss = 0;
  for (int64_t i = 0; i < count; ++i) {
    loss += losses[i];
    const SeqSpan& seq = seqs[static_cast<size_t>(i)];
    if (seq.rows == 0) continue;
    const auto factor =
        static_cast<float>(double{alpha} * double{grad_scale} / static_cast<double>(seq.rows));
    ForRowRuns(exec, seq.rows, 4 * gate.experts, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = seq.first_row + begin; t < seq.first_row + end; ++t) {
        AddBalanceGrad(balance.score.row(t), balance.sum[t], f.row(i), gate, factor,
                       dlogits.row(t));
      }
    });
  }
  memory.Release(mark);
  return double{alpha} * loss;
}

void CountExperts(View2<const int32_t> ids, std::span<int64_t> counts) {
  for (int64_t t = 0; t < ids.rows; ++t) {
    for (const int32_t id : ids[t]) {
      CHECK(id >= 0 && id < static_cast<int64_t>(counts.size()));
      ++counts[static_cast<size_t>(id)];
    }
  }
}

void UpdateGateBias(std::span<const int64_t> counts, float gamma, std::span<float> bias) {
  CHECK(counts.size() == bias.size());
  int64_t total = 0;
  for (const int64_t count : counts) total += count;
  for (size_t e = 0; e < counts.size(); ++e) {
    const int64_t load = counts[e] * static_cast<int64_t>(counts.size());
    if (load < total) bias[e] += gamma;
    if (load > total) bias[e] -= gamma;
  }
}

}  // namespace hadal
