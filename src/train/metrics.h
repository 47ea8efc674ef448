// metrics.jsonl: what happened in each training step, one JSON object a line.
//
//   {"step":7,"loss":5.25,"lr":0.0003,"grad_norm":1.5,"tokens":8192,"total_tokens":57344, ...}
//
// The keys are the fields of StepRecord. A number that is not finite is written as null and reads
// back as NaN. Fields at their default (no experts, no note, not skipped) are left out. A step
// after which the model was evaluated has
//   "evaluation":{"pass@1":0.25,"answers":4,"errors":0,"seconds":1.5,"tasks":{"chain:1":0.5, ...}}
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hadal {

// How the model answered after a step.
struct StepEvaluation {
  double pass_at_1 = 0;             // mean over the tasks with a graded answer; NaN without any
  int64_t answers = 0, errors = 0;  // errors: answers that nobody could grade
  double seconds = 0;
  std::vector<std::pair<std::string, double>> tasks;  // pass@1; NaN without a graded answer
};

struct StepRecord {
  int64_t step = 0;
  double loss = 0, mtp_loss = 0, balance_loss = 0;  // nats per token
  double distill_loss = 0;                          // temperature^2 KL per token; 0: no teacher
  double grad_norm = 0;                             // before clipping
  double lr = 0;
  int64_t tokens = 0;        // of this step, all ranks
  int64_t total_tokens = 0;  // since the run began
  double seconds = 0;        // of this step
  double elapsed_seconds = 0;
  double tokens_per_second = 0;
  double model_flops =
      0;  // of this step: what the mathematics asks (ledger.h), recompute not counted
  double peak_share = 0;  // model_flops / seconds / the machine's measured peak
  std::vector<std::vector<int64_t>> expert_tokens;  // [MoE layer][expert]; may be empty
  double max_over_mean_load = 0;                    // of the worst layer; 0 without experts
  std::optional<double> validation_loss, validation_bits_per_byte;
  std::optional<StepEvaluation> evaluation;
  bool skipped = false;  // the spike guard left the weights alone
  std::string note;
  uint64_t rss_bytes = 0;
};

// The largest ratio of an expert's tokens to its layer's mean; 0 without experts or tokens.
double MaxOverMean(const std::vector<std::vector<int64_t>>& expert_tokens);

std::string ToJsonLine(const StepRecord& record);        // ends with \n
Result<StepRecord> FromJsonLine(std::string_view line);  // kCorrupt when it is no record

// Appends records. A line is one write: a killed process leaves whole lines and at most one torn
// one, which Open removes, so what follows a resume starts on a line of its own.
class MetricsWriter {
 public:
  // Lines of steps above `through` go too: the run is resumed from there and makes them again.
  static Result<MetricsWriter> Open(const std::string& path,
                                    int64_t through = std::numeric_limits<int64_t>::max());
  MetricsWriter(MetricsWriter&&) noexcept;
  MetricsWriter& operator=(MetricsWriter&&) noexcept;
  ~MetricsWriter();

  // When the disk is full the part that was written is taken back.
  Status Append(const StepRecord& record);
  // Lines of another kind, each an object whose first key is "step", with their ends.
  Status AppendLines(std::string_view lines);
  Status Sync();  // for checkpoints: the lines so far survive a power cut

 private:
  MetricsWriter() = default;
  std::string path_;
  int fd_ = -1;
};

struct MetricsLog {
  std::vector<StepRecord> steps;  // steps increase strictly
  int64_t rewinds = 0;            // how often a line went back to an earlier step: resumes
  int64_t damaged_lines = 0, first_damaged_line = 0;  // lines that are no record, counted from 1
  bool torn = false;                                  // the last line has no end and is not counted
};

// A line whose step is not above the one before it replaces that step and all after it: the run was
// resumed from there. Expert counts of long runs are kept for every 2nd, 4th, 8th, ... record only,
// so that at most `expert_cells` numbers are held.
Result<MetricsLog> ReadMetrics(const std::string& path, int64_t expert_cells = int64_t{1} << 23);

}  // namespace hadal
