// A teacher run beside the student: its most likely next tokens at every position of a batch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/loss.h"
#include "model/model.h"
#include "model/trainable.h"
#include "train/options.h"

namespace hadal {

class Teacher {
 public:
  // vocab: the student's; another vocabulary is an error.
  static Result<std::unique_ptr<Teacher>> Load(const Exec& exec, const TeacherOptions& options,
                                               int64_t vocab);
  // Rows as the batch's tokens; lives until the next call.
  TeacherTopK TopK(const TrainBatch& batch);

 private:
  Teacher(const Exec& exec, const TeacherOptions& options) : exec_(exec), options_(options) {}
  void FillRow(View1<const float> logits, int64_t row);

  const Exec& exec_;
  TeacherOptions options_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvCache> cache_;
  std::vector<int32_t> ids_;
  std::vector<float> log_probs_;
};

}  // namespace hadal
