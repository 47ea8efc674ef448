// The recipe stage that evaluates a model.
#include <fmt/format.h>

#include "cli/evaluation_table.h"
#include "cli/recipe.h"
#include "eval/evaluate.h"
#include "infer/bundle.h"

namespace hadal::cli {
namespace {

struct EvaluateStage {
  std::string model;
  NamedTasks tasks;
  eval::ProceduralOptions problems;
  eval::EvalOptions options;
};

Result<EvaluateStage> ReadEvaluate(const StageCall& call) {
  ConfigTable& t = call.table;
  EvaluateStage s;
  s.model = TRY(call.run.ResolveModel(t, "model", TRY(t.Text("model"))));
  s.tasks = TRY(ReadNamedTasks(t));
  s.problems = TRY(ReadEvaluatedProblems(t, call.run.seed));
  s.options.limit = TRY(t.Integer("items", 1, int64_t{1} << 32, 50));
  s.options.samples = TRY(t.Integer("samples", 1, 4096, 1));
  s.options.max_tokens = TRY(t.Integer("max_tokens", 0, 1 << 20, 0));
  s.options.temperature = static_cast<float>(TRY(t.Number("temperature", -1, 10, -1.0)));
  s.options.seed = call.run.seed;
  TRY(t.Finish());
  return s;
}

}  // namespace

// Leaves evaluation.json and samples.jsonl: the tasks named, or held-out problems of the families.
Status RunEvaluate(const StageCall& call) {
  EvaluateStage s = TRY(ReadEvaluate(call));
  if (call.check_only) return {};
  const Bundle bundle = TRY(LoadBundle(call.run.exec, s.model));
  const auto tasks = s.tasks.names.empty() ? eval::ProceduralTasks(s.problems)
                                           : TRY(eval::OpenTasks(s.tasks.names, s.tasks.data));
  s.options.folder = call.folder;
  s.options.progress = [&](int64_t done, int64_t total) {
    if (!call.run.options.quiet && (done % 64 == 0 || done == total)) {
      fmt::print(stderr, "\r   {} of {}", done, total);
      if (done == total) fmt::print(stderr, "\n");
    }
    return !call.run.options.interrupted || !call.run.options.interrupted();
  };
  const auto results = TRY(eval::EvaluateBundle(bundle, tasks, s.options));
  if (!call.run.options.quiet) fmt::print("{}", eval::ResultsToText(results, s.options));
  return {};
}

}  // namespace hadal::cli
