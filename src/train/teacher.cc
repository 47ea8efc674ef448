#include "train/teacher.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "formats/weight_file.h"

namespace hadal {
namespace {

// Rows of TeacherTopK, of one batch after the other.
struct Rows {
  std::vector<int32_t> ids;
  std::vector<float> log_probs;

  void Clear(int64_t rows, int64_t k) {
    ids.assign(static_cast<size_t>(rows * k), -1);
    log_probs.assign(static_cast<size_t>(rows * k), 0.0f);
  }
  TeacherTopK View(int64_t rows, int64_t k) const {
    return {View2<const int32_t>(ids.data(), rows, k),
            View2<const float>(log_probs.data(), rows, k)};
  }
};

class LiveTeacher : public Teacher {
 public:
  LiveTeacher(const Exec& exec, std::unique_ptr<Model> model, const TeacherOptions& options)
      : exec_(exec),
        model_(std::move(model)),
        options_(options),
        k_(std::min(options.top_k, model_->config().vocab)) {}
  Result<TeacherTopK> TopK(std::span<const PackedSequence> sequences,
                           const TrainBatch& batch) override;

 private:
  Status Forward(const TrainBatch& batch, size_t first, size_t last);
  void FillRow(View1<const float> logits, int64_t row);

  const Exec& exec_;
  std::unique_ptr<Model> model_;
  const TeacherOptions options_;
  const int64_t k_;
  std::unique_ptr<KvCache> cache_;
  Rows rows_;
};

// Log-probabilities at the temperature, of the k largest logits, ties to the lower id.
void LiveTeacher::FillRow(View1<const float> logits, int64_t row) {
  const auto k = static_cast<size_t>(k_);
  std::vector<int32_t> order(static_cast<size_t>(logits.size));
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(k), order.end(), before);
  const double inverse = 1 / options_.temperature, top = logits[order[0]];
  double sum = 0;
  for (const float v : logits) sum += std::exp((static_cast<double>(v) - top) * inverse);
  const size_t at = static_cast<size_t>(row) * k;
  for (size_t j = 0; j < k; ++j) {
    rows_.ids[at + j] = order[j];
    const auto v = static_cast<double>(logits[order[j]]);
    rows_.log_probs[at + j] = static_cast<float>((v - top) * inverse - std::log(sum));
  }
}

int64_t EndOf(const TrainBatch& batch, size_t document) {
  return document + 1 < batch.first.size() ? batch.first[document + 1]
                                           : static_cast<int64_t>(batch.tokens.size());
}

// Documents [first, last) in one pass. Only rows that predict something need logits.
Status LiveTeacher::Forward(const TrainBatch& batch, size_t first, size_t last) {
  const ModelConfig& config = model_->config();
  std::vector<SeqInput> inputs;
  std::vector<int64_t> rows;  // of the batch, for each of the pass that has logits; -1: not wanted
  int64_t blocks = 0;
  for (size_t d = first; d < last; ++d) {
    const int64_t begin = batch.first[d], end = EndOf(batch, d);
    if (end - begin > config.context) {
      return Error{Code::kInvalid,
                   fmt::format("{}: a document of {} tokens exceeds the teacher's context of {}; a "
                               "smaller sequence_length cuts it",
                               options_.model, end - begin, config.context)};
    }
    const auto wanted = [&](int64_t t) { return batch.weights[static_cast<size_t>(t)] != 0; };
    int64_t target = begin + 1;  // the first one
    while (target < end && !wanted(target)) ++target;
    if (target >= end) continue;
    SeqInput in;
    in.tokens = batch.tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    in.logits = end - target + 1;
    inputs.push_back(in);
    for (; target < end; ++target) rows.push_back(wanted(target) ? target - 1 : -1);
    rows.push_back(-1);  // nothing stands after the last token
    blocks += (end - begin + kKvBlock - 1) / kKvBlock;
  }
  if (inputs.empty()) return {};
  if (cache_ == nullptr || cache_->blocks() < blocks) {
    cache_ = std::make_unique<KvCache>(config, KvType::kF32, blocks);
  }
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  std::iota(table.begin(), table.end(), 0);
  const int32_t* next = table.data();
  for (SeqInput& in : inputs) {
    in.blocks = next;
    next += (static_cast<int64_t>(in.tokens.size()) + kKvBlock - 1) / kKvBlock;
  }
  const ForwardResult r = model_->Forward(inputs, *cache_);
  CHECK(r.logits.rows == static_cast<int64_t>(rows.size()));
  for (const int32_t layer : r.bad_layer) {
    if (layer < 0) continue;
    return Error{Code::kNumeric, fmt::format("{}: NaN or Inf behind layer {} of the teacher",
                                             options_.model, layer)};
  }
  exec_.pool().For(r.logits.rows, [&](int64_t i, int) {
    const int64_t row = rows[static_cast<size_t>(i)];
    if (row >= 0) FillRow({r.logits.row(i), r.logits.cols}, row);
  });
  return {};
}

// Documents together while their logits stay small; a row's bits do not depend on its company.
Result<TeacherTopK> LiveTeacher::TopK(std::span<const PackedSequence> /*sequences*/,
                                      const TrainBatch& batch) {
  constexpr int64_t kLogitBytes = 64 << 20;
  const int64_t most = kLogitBytes / 4 / model_->config().vocab;
  const auto total = static_cast<int64_t>(batch.tokens.size());
  rows_.Clear(total, k_);
  for (size_t first = 0; first < batch.first.size();) {
    size_t last = first + 1;
    while (last < batch.first.size() && EndOf(batch, last) - batch.first[first] <= most) ++last;
    TRY(Forward(batch, first, last));
    first = last;
  }
  return rows_.View(total, k_);
}

class StoredTeacher : public Teacher {
 public:
  StoredTeacher(LogitSet set, int64_t top_k) : set_(std::move(set)), k_(top_k) {}
  Result<TeacherTopK> TopK(std::span<const PackedSequence> sequences,
                           const TrainBatch& batch) override;

 private:
  LogitSet set_;
  const int64_t k_;
  std::vector<int32_t> ids_;
  std::vector<float> log_probs_;
  Rows rows_;
};

Result<TeacherTopK> StoredTeacher::TopK(std::span<const PackedSequence> sequences,
                                        const TrainBatch& batch) {
  const auto total = static_cast<int64_t>(batch.tokens.size());
  rows_.Clear(total, k_);
  int64_t base = 0;  // of the sequence in the batch
  for (const PackedSequence& s : sequences) {
    ids_.clear();
    log_probs_.clear();
    TRY(set_.Read(s, k_, &ids_, &log_probs_));
    int64_t from = 0;
    for (size_t i = 0; i < s.loss.size(); ++i) {
      if (s.loss[i] == 0) continue;
      const int64_t to = (base + static_cast<int64_t>(i) - 1) * k_;
      std::copy_n(ids_.begin() + from, k_, rows_.ids.begin() + to);
      std::copy_n(log_probs_.begin() + from, k_, rows_.log_probs.begin() + to);
      from += k_;
    }
    base += static_cast<int64_t>(s.loss.size());
  }
  return rows_.View(total, k_);
}

// The set, once the options fit it.
Result<LogitSet> OpenLogits(const TeacherOptions& o) {
  LogitSet set = TRY(LogitSet::Open(o.logits));
  const LogitFacts& f = set.facts();
  if (o.top_k > f.top_k) {
    return Error{Code::kInvalid,
                 fmt::format("{}: lists {} tokens a row, teacher.top_k wants {}; store more, or "
                             "want fewer",
                             o.logits, f.top_k, o.top_k)};
  }
  if (o.temperature != f.temperature) {
    return Error{Code::kInvalid,
                 fmt::format("{}: holds probabilities at temperature {}, teacher.temperature is "
                             "{}; give both stages the same",
                             o.logits, f.temperature, o.temperature)};
  }
  return set;
}

Error OtherVocabulary(const std::string& teacher, int64_t its, int64_t students) {
  return {Code::kInvalid, fmt::format("{}: the teacher has a vocabulary of {} tokens, the student "
                                      "of {}; distil through teacher text instead",
                                      teacher, its, students)};
}

}  // namespace

Result<std::unique_ptr<Teacher>> Teacher::Open(const Exec& exec, const TeacherOptions& o,
                                               int64_t vocab) {
  if (!o.logits.empty()) {
    LogitSet set = TRY(OpenLogits(o));
    const int64_t its = set.facts().vocab_size, k = o.top_k > 0 ? o.top_k : set.facts().top_k;
    if (its != vocab) return OtherVocabulary(o.logits, its, vocab);
    return std::unique_ptr<Teacher>(new StoredTeacher(std::move(set), k));
  }
  const WeightFile file = TRY(WeightFile::Open(o.model));
  std::unique_ptr<Model> model = TRY(Model::Load(exec, file));
  const int64_t its = model->config().vocab;
  if (its != vocab) return OtherVocabulary(o.model, its, vocab);
  return std::unique_ptr<Teacher>(new LiveTeacher(exec, std::move(model), o));
}

Status CheckStoredLogits(const TeacherOptions& teacher, std::span<const WeightedSet> sets,
                         int64_t sequence_length) {
  if (teacher.logits.empty()) return {};
  const LogitSet logits = TRY(OpenLogits(teacher));
  for (const WeightedSet& set : sets) {
    TRY(logits.Check(TRY(ShardSet::Open(set.path)), sequence_length));
  }
  return {};
}

}  // namespace hadal
