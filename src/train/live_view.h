// The view of a running training: redrawn in place on a terminal, plain lines on a pipe.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/ledger.h"
#include "train/metrics.h"

namespace hadal {

struct LiveOptions {
  int fd = 2;
  std::string title;         // what is trained
  int64_t total_steps = 0;   // 0: not known, so no bar and no time left
  int64_t plain_every = 10;  // on a pipe: a line every so many steps, and for validations and notes
};

// What the view shows, gathered step by step.
struct LiveState {
  std::string title;
  int64_t total_steps = 0;
  StepRecord last;
  std::vector<double> losses;  // the history, thinned to at most kHistory points
  int64_t loss_stride = 1;     // steps that a point stands for
  std::optional<double> validation_loss, validation_bits_per_byte;
  double best_validation = 0;                // lowest so far, where validation_loss is set
  std::optional<StepEvaluation> evaluation;  // the latest
  int64_t evaluation_step = 0;
  double seconds_per_step = 0;  // of the last steps, for the time left
  int64_t skipped_steps = 0;
  Ledger ledger;

  static constexpr size_t kHistory = 240;
  void Add(const StepRecord& record);
};

// "▁▂▄█": the values in `columns` characters, averaged where there are more; NaN is a blank.
std::string Sparkline(const std::vector<double>& values, size_t columns);
// The lines of the view: each is at most `width` - 1 columns wide. color: dim and bold by ANSI
// codes.
std::vector<std::string> LiveLines(const LiveState& state, int width, bool color);
// The line for a pipe.
std::string PlainLine(const LiveState& state);

// One view at a time. Redraws at most ten times a second; on a terminal without cursor control
// (TERM=dumb) it prints as on a pipe. NO_COLOR takes the colours away, nothing else.
class LiveView {
 public:
  explicit LiveView(const LiveOptions& options);
  ~LiveView();  // leaves the last view on the screen
  LiveView(const LiveView&) = delete;
  LiveView& operator=(const LiveView&) = delete;

  void Update(const StepRecord& record, const Ledger& so_far);
  void Print(const std::string& line);  // a message that stays, above the view

 private:
  void Draw();
  void Write(const std::string& text);

  LiveOptions options_;
  LiveState state_;
  bool in_place_ = false, color_ = false;
  int drawn_lines_ = 0;
  bool pending_ = false;
  std::chrono::steady_clock::time_point last_draw_;
};

}  // namespace hadal
