// Evaluation of a model while it trains: what a run asks for, and the answers that it keeps to
// show.
//
//   RUN/samples.jsonl   {"step":100,"task":"chain:1","verdict":"right","extracted":"5","gold":"5",
//                        "prompt":"…","completion":"…"} a line
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/model.h"
#include "train/metrics.h"

namespace hadal {

struct EvaluatedSample {
  std::string task, verdict, extracted, gold, prompt, completion;
};

// What an evaluation found.
struct Evaluated {
  StepEvaluation scores;  // but for its seconds
  std::vector<EvaluatedSample> samples;
  std::string note;  // for the step's record: why answers could not be graded; or empty
};

struct EvaluateOptions {
  int64_t every =
      1;  // steps from one to the next, at least 1; there is one after the last step too
  std::optional<double> stop_at;  // pass@1 from which on nothing is left to train
  // Asks the published model and leaves it alone. Called on rank 0 only. Empty: no evaluation.
  std::function<Result<Evaluated>(Model& model)> run;
};

// The line of samples.jsonl, with its end. Texts longer than kSampleTextBytes lose their middle, a
// completion in its thought and in its answer apart, so that both ends of each are there.
inline constexpr size_t kSampleTextBytes = 2400;
std::string SampleLine(int64_t step, const EvaluatedSample& sample);

}  // namespace hadal
