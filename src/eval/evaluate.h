// Runs tasks on a model: samples, grades, estimates with intervals, files to look into.
//
//   auto tasks = TRY(OpenTasks("chain:1-4,countdown:1-4", kDefaultData));
//   auto results = TRY(EvaluateBundle(bundle, tasks, {.limit = 100, .folder =
//   "runs/x/evaluation"}));
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "eval/backend.h"
#include "eval/task.h"

namespace hadal::eval {

// A graded sample, as the log has it.
struct SampleView {
  const std::string& task;
  const Item& item;
  int64_t number;  // of the item's samples
  const Completion& completion;
  const Grade& grade;
};

struct EvalOptions {
  int64_t samples = 1;     // an item
  int64_t limit = 100;     // items a task; -1: all (1,000 of an endless task)
  int64_t max_tokens = 0;  // a sample; 0: what each task says
  float temperature = -1;  // -1: 0 for one sample, 0.6 with top_p 0.95 for more
  uint64_t seed = 0;
  bool strict = false;               // only the answer format that the prompt asks for
  std::vector<int64_t> pass_k = {};  // pass@k for these, besides 1
  // Written when not empty: folder/evaluation.json and folder/samples.jsonl; log: the samples only.
  std::string folder = {}, log = {};
  // done and total count samples of all tasks; false stops.
  std::function<bool(int64_t done, int64_t total)> progress = {};
  // At the end, every sample that was answered: by task, item and number.
  std::function<void(const SampleView&)> seen = {};
  EngineBackendOptions engine = {};  // of EvaluateBundle
};

struct TaskResult {
  std::string task, family;
  int level = 0;
  int64_t n = 0;                               // items with at least one graded sample
  int64_t correct = 0;                         // right samples
  int64_t samples = 0, wrong = 0, errors = 0;  // errors: not graded, in no estimate
  double pass1 = 0, low = 0, high = 1;
  std::vector<std::pair<int64_t, double>> pass_k;
  int64_t majority_k = 0;  // votes an item, 0: none (one sample, or nothing to vote on)
  double majority = 0;
  double bits_per_byte = -1;  // of kText tasks, whose other figures are 0
  std::string prompt_hash;    // SHA-256 over the items' ids and prompts
  uint64_t seed = 0;
  int64_t max_tokens = 0, prompt_tokens = 0, tokens = 0, truncated = 0;
  double seconds = 0;
  std::string first_error;  // of the ungraded samples
};

Result<std::vector<TaskResult>> Evaluate(Backend& backend,
                                         const std::vector<std::unique_ptr<Task>>& tasks,
                                         const EvalOptions& options);
Result<std::vector<TaskResult>> EvaluateBundle(const Bundle& bundle,
                                               const std::vector<std::unique_ptr<Task>>& tasks,
                                               const EvalOptions& options);

// The content of evaluation.json: {"model", "seed", ..., "tasks": [...]}.
std::string ResultsToJson(const std::string& model, const std::vector<TaskResult>& results,
                          const EvalOptions& options);
// A table for people, with what is needed to run it again.
std::string ResultsToText(const std::vector<TaskResult>& results, const EvalOptions& options);

// Procedural problems, one task a (family, level).
struct ProceduralOptions {
  std::vector<Family> families = {};  // empty: all
  int first_level = 1, last_level = 4;
  Split split = Split::kTest;  // kValidation while training
  Language language = Language::kEnglish;
  uint64_t seed = 1;
};
std::vector<std::unique_ptr<Task>> ProceduralTasks(const ProceduralOptions& options);

}  // namespace hadal::eval
