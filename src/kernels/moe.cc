#include "kernels/moe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "base/check.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"

namespace hadal {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Where the largest of n values is, of equals the first. Values taken or excluded hold kNever.
int64_t Best(const float* value, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; ++i) {
    if (value[i] > value[best]) best = i;
  }
  return best;
}

float GroupScore(const float* choice, int64_t n, GateShape::GroupScore kind) {
  float first = kNever, second = kNever;
  for (int64_t i = 0; i < n; ++i) {
    if (choice[i] > first) {
      second = first;
      first = choice[i];
    } else if (choice[i] > second) {
      second = choice[i];
    }
  }
  return kind == GateShape::GroupScore::kMax || n == 1 ? first : first + second;
}

// Excludes the experts of all but the best groups from the choice.
void LimitGroups(const GateShape& gate, float* choice, float* group_score) {
  const int64_t size = gate.experts / gate.groups;
  for (int64_t g = 0; g < gate.groups; ++g) {
    group_score[g] = GroupScore(choice + g * size, size, gate.group_score);
  }
  for (int64_t dropped = gate.groups - gate.top_groups; dropped > 0; --dropped) {
    // The worst group goes, of equals the last.
    int64_t worst = -1;
    for (int64_t g = 0; g < gate.groups; ++g) {
      if (std::isnan(group_score[g])) continue;
      if (worst < 0 || group_score[g] <= group_score[worst]) worst = g;
    }
    group_score[worst] = std::numeric_limits<float>::quiet_NaN();
    std::fill_n(choice + worst * size, size, kNever);
  }
}

struct RouteScratch {
  float *score, *choice, *group_score;
};

void RouteRow(Isa isa, const float* logits, const GateShape& gate, std::span<const float> bias,
              const RouteScratch& scratch, View1<int32_t> ids, View1<float> weights) {
  GateScores(isa, {logits, gate.experts}, gate.score, scratch.score);
  bool number = true;
  for (int64_t e = 0; e < gate.experts; ++e) {
    scratch.choice[e] = scratch.score[e] + (bias.empty() ? 0.0f : bias[static_cast<size_t>(e)]);
    number = number && std::isfinite(scratch.choice[e]);
  }
  if (!number) {
    for (int64_t s = 0; s < gate.top_k; ++s) {
      ids[s] = static_cast<int32_t>(s);
      weights[s] = std::numeric_limits<float>::quiet_NaN();
    }
    return;
  }
  if (gate.top_groups < gate.groups) LimitGroups(gate, scratch.choice, scratch.group_score);
  float sum = 0;
  for (int64_t s = 0; s < gate.top_k; ++s) {
    const int64_t best = Best(scratch.choice, gate.experts);
    scratch.choice[best] = kNever;
    ids[s] = static_cast<int32_t>(best);
    weights[s] = scratch.score[best];
    sum += weights[s];
  }
  for (int64_t s = 0; s < gate.top_k; ++s) {
    if (gate.normalise) weights[s] /= sum + 1e-20f;
    weights[s] *= gate.scale;
  }
}

}  // namespace

void GateScores(Isa isa, View1<const float> logits, GateShape::Score kind, float* scores) {
  const internal::TrainTable& table = internal::Train(isa);
  const int64_t n = logits.size;
  if (kind == GateShape::Score::kSigmoid) return table.sigmoid(logits.data, n, scores);
  std::copy(logits.begin(), logits.end(), scores);
  const float sum = table.exp_sum(scores, n, 1.0f, table.max(scores, n));
  for (int64_t e = 0; e < n; ++e) scores[e] /= sum;
}

void MoeRoute(const Exec& exec, View2<const float> logits, const GateShape& gate,
              std::span<const float> bias, View2<int32_t> ids, View2<float> weights) {
  const int64_t tokens = logits.rows;
  CHECK(logits.cols == gate.experts && gate.top_k <= gate.experts);
  CHECK(gate.groups >= 1 && gate.top_groups >= 1 && gate.top_groups <= gate.groups);
  CHECK(gate.experts % gate.groups == 0);
  CHECK(gate.top_k <= gate.top_groups * (gate.experts / gate.groups));
  CHECK(bias.empty() || static_cast<int64_t>(bias.size()) == gate.experts);
  CHECK(ids.rows == tokens && weights.rows == tokens);
  CHECK(ids.cols == gate.top_k && weights.cols == gate.top_k);
  const int64_t rows_a_task = 16;
  exec.pool().For((tokens + rows_a_task - 1) / rows_a_task, [&](int64_t task, int worker) {
    Workspace& memory = exec.scratch(worker);
    memory.Reset();
    const RouteScratch scratch = {memory.Take<float>(gate.experts),
                                  memory.Take<float>(gate.experts),
                                  memory.Take<float>(gate.groups)};
    const int64_t end = std::min(tokens, (task + 1) * rows_a_task);
    for (int64_t t = task * rows_a_task; t < end; ++t) {
      RouteRow(exec.isa(), logits.row(t), gate, bias, scratch, ids[t], weights[t]);
    }
  });
}

namespace {

// The (token, slot) pairs ordered by expert, tokens in order within one.
struct Grouping {
  int32_t* token;  // [pairs]: the token of each place
  int32_t* place;  // [T * top_k]: where pair (t, s) went
  int64_t* begin;  // [experts + 1]: places of expert e are begin[e] .. begin[e + 1]
};

Grouping GroupByExpert(View2<const int32_t> ids, int64_t experts, Workspace& memory) {
  const int64_t pairs = ids.rows * ids.cols;
  Grouping g = {memory.Take<int32_t>(pairs), memory.Take<int32_t>(pairs),
                memory.Take<int64_t>(experts + 1)};
  int64_t* next = memory.Take<int64_t>(experts);
  std::fill_n(next, experts, 0);
  for (int64_t t = 0; t < ids.rows; ++t) {
    for (const int32_t id : ids[t]) {
      CHECK(id >= 0 && id < experts);
      ++next[id];
    }
  }
  g.begin[0] = 0;
  for (int64_t e = 0; e < experts; ++e) {
    g.begin[e + 1] = g.begin[e] + next[e];
    next[e] = g.begin[e];
  }
  for (int64_t t = 0; t < ids.rows; ++t) {
    for (int64_t s = 0; s < ids.cols; ++s) {
      const int64_t place = next[ids.row(t)[s]]++;
      g.token[place] = static_cast<int32_t>(t);
      g.place[t * ids.cols + s] = static_cast<int32_t>(place);
    }
  }
  return g;
}

}  // namespace

void MoeExperts(const Exec& exec, View2<const float> x, View2<const int32_t> ids,
                View2<const float> weights, const Experts& experts, View2<float> y) {
  const int64_t count = static_cast<int64_t>(experts.gate.size());
  CHECK(count > 0 && experts.up.size() == experts.gate.size());
  CHECK(experts.down.size() == experts.gate.size());
  CHECK(ids.rows == x.rows && weights.rows == x.rows && y.rows == x.rows);
  CHECK(ids.cols == weights.cols);
  const int64_t pairs = ids.rows * ids.cols;
  if (x.rows == 0) return;
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  const Grouping group = GroupByExpert(ids, count, memory);
  View2<float> gate = memory.Matrix(pairs, experts.gate[0].rows());
  View2<float> up = memory.Matrix(pairs, experts.up[0].rows());
  View2<float> down = memory.Matrix(pairs, y.cols);
  MatMulJob* jobs = memory.Take<MatMulJob>(2 * count);
  size_t active = 0;
  for (int64_t e = 0; e < count; ++e) {
    const int64_t begin = group.begin[e], n = group.begin[e + 1] - begin;
    if (n == 0) continue;
    const std::span<const int32_t> rows(group.token + begin, static_cast<size_t>(n));
    const auto index = static_cast<size_t>(e);
    std::construct_at(jobs + active++,
                      MatMulJob{&experts.gate[index], x, rows, gate.Rows(begin, n)});
    std::construct_at(jobs + active++, MatMulJob{&experts.up[index], x, rows, up.Rows(begin, n)});
  }
  MatMulJobs(exec, {jobs, active});
  SwiGlu(exec, gate, up, gate);
  active = 0;
  for (int64_t e = 0; e < count; ++e) {
    const int64_t begin = group.begin[e], n = group.begin[e + 1] - begin;
    if (n == 0) continue;
    std::construct_at(
        jobs + active++,
        MatMulJob{
            &experts.down[static_cast<size_t>(e)], gate.Rows(begin, n), {}, down.Rows(begin, n)});
  }
  MatMulJobs(exec, {jobs, active});
  const auto axpy = internal::Ops(exec.isa()).axpy;
  const int64_t rows_a_task = 16;
  exec.pool().For((x.rows + rows_a_task - 1) / rows_a_task, [&](int64_t task, int) {
    const int64_t end = std::min(x.rows, (task + 1) * rows_a_task);
    for (int64_t t = task * rows_a_task; t < end; ++t) {
      std::fill_n(y.row(t), y.cols, 0.0f);
      for (int64_t s = 0; s < ids.cols; ++s) {
        axpy(weights.row(t)[s], down.row(group.place[t * ids.cols + s]), y.cols, y.row(t));
      }
    }
  });
  memory.Release(mark);
}

}  // namespace hadal
