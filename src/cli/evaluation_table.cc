#include "cli/evaluation_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "infer/bundle.h"

namespace hadal::cli {
namespace {

constexpr int64_t kMostShown = 64;

// What the callback of a run holds: all of it lives as long as the run does.
struct Evaluator {
  Bundle texts;  // no model: it is the one in training
  std::vector<std::unique_ptr<eval::Task>> tasks;
  eval::EvalOptions options;
  int64_t shown = 0;

  Result<Evaluated> Run(Model& model) const;
};

// The mean is over tasks, each as heavy as the other.
StepEvaluation Scores(const std::vector<eval::TaskResult>& results) {
  StepEvaluation scores;
  double sum = 0;
  int64_t graded = 0;
  for (const eval::TaskResult& r : results) {
    scores.answers += r.samples;
    scores.errors += r.errors;
    scores.tasks.emplace_back(r.task, r.n > 0 ? r.pass1 : std::numeric_limits<double>::quiet_NaN());
    if (r.n == 0) continue;
    sum += r.pass1;
    ++graded;
  }
  scores.pass_at_1 =
      graded > 0 ? sum / static_cast<double>(graded) : std::numeric_limits<double>::quiet_NaN();
  return scores;
}

Result<Evaluated> Evaluator::Run(Model& model) const {
  const auto backend = TRY(eval::OpenEngineBackend(texts, model, options.engine));
  Evaluated out;
  eval::EvalOptions with = options;
  with.seen = [&](const eval::SampleView& s) {
    out.samples.push_back({s.task, std::string(eval::VerdictName(s.grade.verdict)),
                           s.grade.extracted, s.item.gold, s.item.prompt, s.completion.text});
  };
  const auto results = TRY(eval::Evaluate(*backend, tasks, with));
  out.scores = Scores(results);
  // Evenly from all tasks, the same items each time.
  const size_t all = out.samples.size(), keep = std::min(all, static_cast<size_t>(shown));
  for (size_t i = 0; i < keep; ++i) {
    if (const size_t from = i * all / keep; from != i) {
      out.samples[i] = std::move(out.samples[from]);
    }
  }
  out.samples.resize(keep);
  const auto failed = std::find_if(results.begin(), results.end(),
                                   [](const eval::TaskResult& r) { return r.errors > 0; });
  if (failed != results.end()) {
    out.note = fmt::format("{} of {} answers not graded: {}", out.scores.errors, out.scores.answers,
                           failed->first_error);
  }
  return out;
}

Result<std::vector<std::unique_ptr<eval::Task>>> OpenNamed(ConfigTable& table) {
  const NamedTasks named = TRY(ReadNamedTasks(table));
  if (named.names.empty()) return std::vector<std::unique_ptr<eval::Task>>();
  auto tasks = eval::OpenTasks(named.names, named.data);
  if (!tasks.ok()) return table.At("tasks", tasks.error().message);
  for (const auto& task : *tasks) {
    if (task->info().kind == eval::TaskInfo::Kind::kText) {
      return table.At("tasks", task->info().name + " has no right answers, so no pass@1");
    }
  }
  return tasks;
}

}  // namespace

Result<eval::ProceduralOptions> ReadEvaluatedProblems(ConfigTable& t, uint64_t seed) {
  eval::ProceduralOptions problems;
  problems.families = TRY(ReadFamilies(t));
  for (size_t i = 0; i < problems.families.size(); ++i) {
    const auto first = problems.families.begin(), at = first + static_cast<std::ptrdiff_t>(i);
    if (std::find(first, at, *at) == at) continue;
    return t.At("families", fmt::format("\"{}\" is named twice", FamilyName(*at)));
  }
  const int64_t first = TRY(t.Integer("first_level", 1, kLevels, 1));
  problems.first_level = static_cast<int>(first);
  problems.last_level =
      static_cast<int>(TRY(t.Integer("last_level", first, kLevels, std::max<int64_t>(first, 4))));
  problems.seed = seed;
  return problems;
}

Result<NamedTasks> ReadNamedTasks(ConfigTable& t) {
  NamedTasks named;
  for (const std::string& name : TRY(t.Texts("tasks"))) {
    named.names.append(named.names.empty() ? "" : ",").append(name);
  }
  named.data = TRY(t.Text("data", eval::kDefaultData));
  return named;
}

Status ReadEvaluation(const StageCall& call, RunOptions& run) {
  auto table = TRY(call.table.Table("evaluate"));
  if (!table) return {};
  ConfigTable& t = *table;
  if (run.options.expert_parallel > 1) {
    return t.At("", "evaluation needs all experts on one rank: 1 for expert_parallel");
  }
  constexpr int64_t kMost = int64_t{1} << 40;
  const int64_t validations = run.options.validate_every;
  run.evaluate.every = TRY(t.Integer(
      "every", 1, kMost, validations > 0 ? std::optional<int64_t>(validations) : std::nullopt));
  if (t.Has("stop_at")) run.evaluate.stop_at = TRY(t.Number("stop_at", 1e-9, 1));
  const auto evaluator = std::make_shared<Evaluator>();
  evaluator->tasks = TRY(OpenNamed(t));
  eval::ProceduralOptions problems = TRY(ReadEvaluatedProblems(t, call.run.seed));
  problems.split = Split::kValidation;
  if (evaluator->tasks.empty() || t.Has("families")) {
    for (auto& task : eval::ProceduralTasks(problems)) evaluator->tasks.push_back(std::move(task));
  }
  evaluator->options.limit = TRY(t.Integer("items", 1, 1'000'000, 4));
  evaluator->options.max_tokens = TRY(t.Integer("max_tokens", 1, 1 << 20, 256));
  evaluator->options.seed = call.run.seed;
  evaluator->shown = TRY(t.Integer("samples_shown", 0, kMostShown, 8));
  TRY(t.Finish());
  if (!call.check_only) {
    evaluator->texts = TRY(LoadBundleWithoutModel(run.tokenizer));
    if (!evaluator->texts.chat_template_error.empty()) {
      return Error{Code::kUnsupported, run.tokenizer + ": its chat template cannot be used: " +
                                           evaluator->texts.chat_template_error};
    }
    evaluator->options.engine.raw_prompts = evaluator->texts.chat_template == nullptr;
  }
  run.evaluate.run = [evaluator](Model& model) { return evaluator->Run(model); };
  return {};
}

}  // namespace hadal::cli
