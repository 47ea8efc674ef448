#include "kernels/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/dispatch.h"
#include "tensor/buffer.h"

namespace hadal {
namespace {

using internal::TrainTable;

constexpr double kLeastLogProb = -30;  // of a teacher

// Calls body(row, memory) for every row of weight other than 0, its scratch reset; other rows get
// gradient and loss 0. Returns the sum of the losses in order.
template <typename Body>
double ForLosses(const Exec& exec, View2<float> logits, std::span<const float> weights,
                 std::span<float> losses, const Body& body) {
  CHECK(static_cast<int64_t>(weights.size()) == logits.rows && losses.size() == weights.size());
  exec.pool().For(logits.rows, [&](int64_t r, int worker) {
    const auto i = static_cast<size_t>(r);
    if (weights[i] == 0) {
      std::fill_n(logits.row(r), logits.cols, 0.0f);
      losses[i] = 0;
      return;
    }
    Workspace& memory = exec.scratch(worker);
    memory.Reset();
    losses[i] = static_cast<float>(double{weights[i]} * body(r, memory));
  });
  double sum = 0;
  for (const float loss : losses) sum += double{loss};
  return sum;
}

// A row of logits turned into exp(x / temperature - shift).
struct Exponentials {
  float shift, sum;
};
Exponentials Exponentiate(const TrainTable& table, float* x, int64_t n, float factor) {
  const float shift = table.max(x, n) * factor;
  return {shift, table.exp_sum(x, n, factor, shift)};
}

// One of the outcomes that two distributions are compared over.
struct Outcome {
  double p, log_p, q, log_q;

  double Ratio(KlDirection d) const {
    return d == KlDirection::kForward ? log_p - log_q : log_q - log_p;
  }
  double Term(KlDirection d) const {
    const double weight = d == KlDirection::kForward ? p : q;
    return weight == 0 ? 0 : weight * Ratio(d);
  }
  // dKL / d(log-odds of the outcome).
  double Slope(KlDirection d, double kl) const {
    if (d == KlDirection::kForward) return q - p;
    return q == 0 ? 0 : q * (Ratio(d) - kl);
  }
};

Outcome FromTeacher(double log_p) {
  const double least = log_p < kLeastLogProb ? kLeastLogProb : log_p;
  return {std::exp(log_p), least, 0, 0};
}

}  // namespace

double CrossEntropy(const Exec& exec, View2<float> logits, std::span<const int32_t> targets,
                    std::span<const float> weights, float grad_scale, float z_loss,
                    std::span<float> losses, std::span<uint8_t> hits) {
  CHECK(static_cast<int64_t>(targets.size()) == logits.rows);
  CHECK(hits.empty() || hits.size() == targets.size());
  const TrainTable& table = internal::Train(exec.isa());
  return ForLosses(exec, logits, weights, losses, [&](int64_t r, Workspace&) {
    const auto i = static_cast<size_t>(r);
    CHECK(targets[i] >= 0 && targets[i] < logits.cols);
    float* row = logits.row(r);
    const float target = row[targets[i]];
    const float most = table.max(row, logits.cols);
    if (!hits.empty()) {
      float* const end = row + targets[i];
      hits[i] = target == most && std::find(row, end, most) == end ? 1 : 0;
    }
    const double sum = double{table.exp_sum(row, logits.cols, 1.0f, most)};
    const double lse = double{most} + std::log(sum);
    const float scale = grad_scale * weights[i];
    const double factor = double{scale} * (1 + 2 * double{z_loss} * lse) / sum;
    table.scale(row, logits.cols, static_cast<float>(factor));
    row[targets[i]] -= scale;
    return lse - double{target} + double{z_loss} * lse * lse;
  });
}

double DistillKl(const Exec& exec, View2<float> logits, View2<const float> teacher_logits,
                 std::span<const float> weights, const DistillOptions& options,
                 std::span<float> losses) {
  CHECK(teacher_logits.rows == logits.rows && teacher_logits.cols == logits.cols);
  CHECK(options.temperature > 0);
  const TrainTable& table = internal::Train(exec.isa());
  const float factor = 1.0f / options.temperature;
  const double temperature = double{options.temperature};
  return ForLosses(exec, logits, weights, losses, [&](int64_t r, Workspace& memory) {
    const int64_t n = logits.cols;
    float* row = logits.row(r);
    const float* teacher = teacher_logits.row(r);
    float* p = memory.Take<float>(n);
    double* log_q = memory.Take<double>(n);
    std::copy_n(teacher, n, p);
    const Exponentials ep = Exponentiate(table, p, n, factor);
    const float shift = table.max(row, n) * factor;
    for (int64_t i = 0; i < n; ++i) log_q[i] = double{row[i] * factor} - double{shift};
    const double sum_q = double{table.exp_sum(row, n, factor, shift)}, log_sum_q = std::log(sum_q);
    const double log_sum_p = double{ep.shift} + std::log(double{ep.sum});
    const auto outcome = [&](int64_t i) {
      const double log_p = double{teacher[i] * factor} - log_sum_p;
      return Outcome{double{p[i]} / double{ep.sum}, log_p < kLeastLogProb ? kLeastLogProb : log_p,
                     double{row[i]} / sum_q, log_q[i] - log_sum_q};
    };
    double kl = 0;
    for (int64_t i = 0; i < n; ++i) kl += outcome(i).Term(options.direction);
    const double scale = double{options.grad_scale} * double{weights[static_cast<size_t>(r)]};
    for (int64_t i = 0; i < n; ++i) {
      row[i] = static_cast<float>(scale * temperature * outcome(i).Slope(options.direction, kl));
    }
    return temperature * temperature * kl;
  });
}

namespace {

// The student's side of a row whose logits became exponentials.
struct Student {
  double log_sum, others;  // of the exponentials: log of all, sum of those not listed
};

// Fills the listed outcomes and the last one, "any other".
Student Compare(const TrainTable& table, float* row, int64_t n, float factor,
                View1<const int32_t> ids, View1<const float> log_probs, Outcome* outcome) {
  const float shift = table.max(row, n) * factor;
  double listed = 0, rest = 1;
  for (int64_t j = 0; j < ids.size; ++j) {
    CHECK(ids[j] < n);
    outcome[j] = FromTeacher(double{log_probs[j]});
    outcome[j].log_q = double{row[ids[j]] * factor} - double{shift};
    rest -= outcome[j].p;
    row[ids[j]] = -std::numeric_limits<float>::infinity();
  }
  const double others = double{table.exp_sum(row, n, factor, shift)};
  for (int64_t j = 0; j < ids.size; ++j) listed += std::exp(outcome[j].log_q);
  const double log_sum = std::log(listed + others);
  for (int64_t j = 0; j < ids.size; ++j) {
    outcome[j].log_q -= log_sum;
    outcome[j].q = std::exp(outcome[j].log_q);
  }
  rest = rest > 0 ? rest : 0;
  Outcome& last = outcome[ids.size];
  last = FromTeacher(std::log(rest));
  last.p = rest;
  last.log_q = std::log(others) - log_sum;
  last.q = std::exp(last.log_q);
  return {log_sum, others};
}

}  // namespace

double DistillKl(const Exec& exec, View2<float> logits, const TeacherTopK& teacher,
                 std::span<const float> weights, const DistillOptions& options,
                 std::span<float> losses) {
  CHECK(teacher.ids.rows == logits.rows && teacher.log_probs.rows == logits.rows);
  CHECK(teacher.ids.cols == teacher.log_probs.cols && options.temperature > 0);
  const TrainTable& table = internal::Train(exec.isa());
  const float factor = 1.0f / options.temperature;
  const double temperature = double{options.temperature};
  return ForLosses(exec, logits, weights, losses, [&](int64_t r, Workspace& memory) {
    float* row = logits.row(r);
    View1<const int32_t> ids = teacher.ids[r];
    for (int64_t j = 0; j < ids.size; ++j) {
      if (ids[j] < 0) ids.size = j;
    }
    Outcome* outcome = memory.Take<Outcome>(ids.size + 1);
    const Student student =
        Compare(table, row, logits.cols, factor, ids, teacher.log_probs[r], outcome);
    const Outcome& other = outcome[ids.size];
    double kl = student.others > 0 || other.p > 0 ? other.Term(options.direction) : 0;
    for (int64_t j = 0; j < ids.size; ++j) kl += outcome[j].Term(options.direction);
    const double scale =
        double{options.grad_scale} * double{weights[static_cast<size_t>(r)]} * temperature;
    // Tokens not listed share the slope of their outcome in proportion.
    const double shared = other.Slope(options.direction, kl) / student.others;
    table.scale(row, logits.cols, static_cast<float>(student.others > 0 ? scale * shared : 0.0));
    for (int64_t j = 0; j < ids.size; ++j) {
      row[ids[j]] = static_cast<float>(scale * outcome[j].Slope(options.direction, kl));
    }
    return temperature * temperature * kl;
  });
}

}  // namespace hadal
