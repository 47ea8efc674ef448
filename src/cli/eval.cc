// hadal eval: how well a model answers.
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <memory>

#include "base/progress.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "eval/evaluate.h"

namespace hadal::cli {
namespace {

struct Flags {
  ModelFlags model;
  std::string tasks, data = eval::kDefaultData;
  std::string endpoint, key_variable = "OPENAI_API_KEY";
  int concurrency = 4;
  eval::EvalOptions options;
  bool json = false, list = false;
};

void PrintTasks() {
  for (const eval::TaskSource& source : eval::TaskSources()) {
    const std::string name =
        source.argument.empty() ? source.name : source.name + ':' + source.argument;
    fmt::print("{:<24} {}\n", name, source.description);
  }
  fmt::print("families:");
  for (const std::string& family : FamilyNames()) fmt::print(" {}", family);
  fmt::print("\n");
}

Result<std::unique_ptr<eval::Backend>> OpenEndpoint(const Flags& flags) {
  eval::EndpointOptions options;
  options.url = flags.endpoint;
  options.model = flags.model.model;
  options.concurrency = flags.concurrency;
  if (const char* key = getenv(flags.key_variable.c_str())) options.key = key;
  return eval::OpenEndpointBackend(options);
}

// What a local model needs to live on while its backend answers.
struct Local {
  std::unique_ptr<Exec> exec;
  Bundle bundle;
};

Result<std::unique_ptr<eval::Backend>> OpenLocal(const Flags& flags, Local& local) {
  const std::string path = TRY(FindModel(flags.model.model));
  local.exec = TRY(MakeExec(flags.model.threads));
  local.bundle = TRY(LoadBundle(*local.exec, path));
  eval::EngineBackendOptions options = flags.options.engine;
  options.context = flags.model.context;
  return eval::OpenEngineBackend(local.bundle, options);
}

Status Run(Flags& flags) {
  if (flags.list) {
    PrintTasks();
    return {};
  }
  if (flags.tasks.empty()) {
    return Error{Code::kInvalid, "no task: name some with --task, or see them with --list"};
  }
  const auto tasks = TRY(eval::OpenTasks(flags.tasks, flags.data));
  Local local;
  const auto backend = TRY(flags.endpoint.empty() ? OpenLocal(flags, local) : OpenEndpoint(flags));
  const InterruptGuard guard;
  Progress bar("eval", Progress::Unit::kCount);
  flags.options.progress = [&](int64_t done, int64_t total) {
    bar.Update(done, total);
    return !InterruptGuard::interrupted();
  };
  const auto results = TRY(eval::Evaluate(*backend, tasks, flags.options));
  if (flags.json) {
    fmt::print("{}", eval::ResultsToJson(backend->name(), results, flags.options));
  } else {
    fmt::print("{}", eval::ResultsToText(results, flags.options));
  }
  return {};
}

void AddEvalFlags(Verb& verb, Flags& flags) {
  eval::EvalOptions& options = flags.options;
  verb.add_option("--task", flags.tasks, "Tasks, with commas between; --list shows them");
  verb.add_flag("--list", flags.list, "The tasks there are");
  AddModelFlags(verb, flags.model);
  verb.add_option("--samples", options.samples, "Answers an item")
      ->check(Range(int64_t{1}, int64_t{100'000}))
      ->capture_default_str();
  verb.add_option("--limit", options.limit, "Items a task; -1: all")
      ->check(Range(int64_t{-1}, int64_t{1} << 40))
      ->capture_default_str();
  verb.add_option("-n,--max-tokens", options.max_tokens, "Tokens an answer; 0: what the task says")
      ->check(Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  verb.add_option("--temperature", options.temperature,
                  "-1: 0 for one sample, 0.6 for more (top-p 0.95)")
      ->capture_default_str();
  verb.add_option("--seed", options.seed, "The same seed gives the same answers")
      ->capture_default_str();
  verb.add_option("--pass-k", options.pass_k, "Also pass@k for these, with commas between")
      ->delimiter(',');
  verb.add_flag("--strict", options.strict, "Only the answer format that the prompt asks for");
  verb.add_option("--log", options.log, "Write every sample, a JSON object a line");
  verb.add_option("--folder", options.folder, "Write evaluation.json and samples.jsonl there");
  verb.add_option("--data", flags.data, "Folder of the public data sets")->capture_default_str();
  verb.add_option("--parallel", options.engine.max_sequences, "Answers written at once")
      ->check(Range(int64_t{1}, int64_t{4096}))
      ->capture_default_str();
  verb.add_option("--endpoint", flags.endpoint,
                  "Ask an OpenAI-style server (http://host/v1) for --model instead");
  verb.add_option("--key-variable", flags.key_variable, "Environment variable with its key")
      ->capture_default_str();
  verb.add_option("--concurrency", flags.concurrency, "Requests at a time to it")
      ->capture_default_str();
  AddJson(verb, flags.json);
}

}  // namespace

void AddEval(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("eval", "Benchmarks with confidence intervals");
  AddEvalFlags(*verb, *flags);
  verb->footer(
      "Examples:\n"
      "  hadal eval --task chain:1-4,countdown --limit 50\n"
      "  hadal eval --model model.gguf --task gsm8k --samples 4 --pass-k 2,4 --log samples.jsonl\n"
      "  hadal eval --endpoint http://localhost:8000/v1 --model name --task math500 --limit 20\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
