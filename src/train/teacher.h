// A teacher's most likely next tokens: run beside the student, or read from what a run of it left.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "comm/world.h"
#include "data/loader.h"
#include "data/logits.h"
#include "kernels/loss.h"
#include "model/model.h"
#include "model/trainable.h"
#include "train/options.h"

namespace hadal {

class Teacher {
 public:
  virtual ~Teacher() = default;
  // Live or stored, as the options say. vocab: the student's; another vocabulary is an error.
  static Result<std::unique_ptr<Teacher>> Open(const Exec& exec, const TeacherOptions& options,
                                               int64_t vocab);
  // A row for each token of the batch, which is the sequences laid end to end, at the row that
  // predicts; rows that predict no target list nothing. Lives until the next call.
  virtual Result<TeacherTopK> TopK(std::span<const PackedSequence> sequences,
                                   const TrainBatch& batch) = 0;
};

// That each sequence of the sets will find its rows and the options fit the files. Nothing without
// teacher.logits.
Status CheckStoredLogits(const TeacherOptions& teacher, std::span<const WeightedSet> sets,
                         int64_t sequence_length);

struct StoreLogitsOptions {
  std::string folder;             // of the files; made when absent
  std::string model;              // the teacher: folder or file
  std::vector<std::string> sets;  // folders of token shards
  int64_t top_k = 16;
  int64_t sequence_length = 512;  // the student's: longer documents are cut there
  int64_t micro_tokens = 2048;    // of one forward pass at most
  double temperature = 1;
  // Rows of this rank's shards done and wanted; false stops with kCancelled.
  std::function<bool(int64_t done, int64_t total)> progress;
};
struct StoredLogits {
  std::string teacher_hash;
  int64_t shards = 0, kept = 0;  // files in all, and those that were there before
  int64_t rows = 0, bytes = 0;   // in all
};
// A logit shard for each token shard of the sets, shards shared out among the ranks, which all
// call this. Each appears whole or not at all; those that fit already are kept, others removed.
// Any number of ranks and threads gives the same bytes.
Result<StoredLogits> StoreLogits(const Exec& exec, World& world, const StoreLogitsOptions& options);

}  // namespace hadal
