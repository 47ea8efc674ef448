#include "train/teacher.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "formats/weight_file.h"

namespace hadal {

Result<std::unique_ptr<Teacher>> Teacher::Load(const Exec& exec, const TeacherOptions& options,
                                               int64_t vocab) {
  const WeightFile file = TRY(WeightFile::Open(options.model));
  auto teacher = std::unique_ptr<Teacher>(new Teacher(exec, options));
  teacher->model_ = TRY(Model::Load(exec, file));
  if (teacher->model_->config().vocab != vocab) {
    return Error{Code::kInvalid, options.model + ": the teacher has a vocabulary of " +
                                     std::to_string(teacher->model_->config().vocab) +
                                     " tokens, the student of " + std::to_string(vocab) +
                                     "; distil through teacher text instead"};
  }
  return teacher;
}

// Log-probabilities at the temperature, of the k largest logits, ties to the lower id.
void Teacher::FillRow(View1<const float> logits, int64_t row) {
  const auto k = static_cast<size_t>(options_.top_k);
  std::vector<int32_t> order(static_cast<size_t>(logits.size));
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  const size_t kept = std::min(k, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(kept), order.end(),
                    before);
  const double inverse = 1 / options_.temperature, top = logits[order[0]];
  double sum = 0;
  for (const float v : logits) sum += std::exp((static_cast<double>(v) - top) * inverse);
  const size_t at = static_cast<size_t>(row) * k;
  for (size_t j = 0; j < k; ++j) {
    ids_[at + j] = j < kept ? order[j] : -1;
    const double v = j < kept ? static_cast<double>(logits[order[j]]) : top;
    log_probs_[at + j] = static_cast<float>((v - top) * inverse - std::log(sum));
  }
}

TeacherTopK Teacher::TopK(const TrainBatch& batch) {
  const auto total = static_cast<int64_t>(batch.tokens.size());
  const int64_t k = options_.top_k;
  ids_.resize(static_cast<size_t>(total * k));
  log_probs_.resize(static_cast<size_t>(total * k));
  for (size_t d = 0; d < batch.first.size(); ++d) {
    const int64_t begin = batch.first[d];
    const int64_t end = d + 1 < batch.first.size() ? batch.first[d + 1] : total;
    const int64_t blocks = (end - begin + kKvBlock - 1) / kKvBlock;
    if (cache_ == nullptr || cache_->blocks() < blocks) {
      cache_ = std::make_unique<KvCache>(model_->config(), KvType::kF32, blocks);
    }
    std::vector<int32_t> table(static_cast<size_t>(blocks));
    std::iota(table.begin(), table.end(), 0);
    SeqInput in;
    in.blocks = table.data();
    in.tokens = batch.tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    in.logits = end - begin;
    const ForwardResult r = model_->Forward({&in, 1}, *cache_);
    exec_.pool().For(r.logits.rows, [&](int64_t row, int) {
      FillRow({r.logits.row(row), r.logits.cols}, begin + row);
    });
  }
  return {View2<const int32_t>(ids_.data(), total, k),
          View2<const float>(log_probs_.data(), total, k)};
}

}  // namespace hadal
