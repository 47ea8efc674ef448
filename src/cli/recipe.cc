#include "cli/recipe.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/session.h"
#include "train/report.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;

struct Kind {
  std::string_view name, verb;
  Status (*run)(const StageCall&);
  bool long_run = false;  // all ranks take part; what an interrupted one left is gone on with
};
constexpr std::array<Kind, 8> kKinds = {{{"problems", "data problems", RunProblems},
                                         {"tokenizer", "data tokenizer", RunTokenizer},
                                         {"dataset", "data build", RunDataset},
                                         {"logits", "logits", RunLogits, true},
                                         {"train", "train", RunTrain, true},
                                         {"evaluate", "eval", RunEvaluate},
                                         {"compare", "compare", RunCompare},
                                         {"generate", "generate", RunGenerate}}};
constexpr const char* kDoneFile = "done.json";
constexpr const char* kSchema = "2";  // of what stages leave; raise it when that changes

struct Stage {
  std::string name;
  const Kind* kind = nullptr;
  ConfigTable table;
  std::string key;  // hash of everything that decides the result
};

bool PlainName(const std::string& name) {
  return !name.empty() && name.size() <= 64 &&
         name.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
             ".") == std::string::npos &&
         name[0] != '.';
}

// like = "NAME": what an earlier stage says, where this one does not say otherwise.
Status Inherit(const std::vector<Stage>& stages, ConfigTable& table) {
  const std::string like = TRY(table.Text("like", ""));
  if (like.empty()) return {};
  std::vector<std::string> names;
  for (const Stage& s : stages) {
    if (s.name == like) {
      table.Inherit(s.table);
      return {};
    }
    names.push_back(s.name);
  }
  const std::string near = Nearest(like, names);
  return table.At("like", "no earlier stage is named \"" + like + "\"" +
                              (near.empty() ? "" : "; did you mean \"" + near + "\"?"));
}

// Opens the recipe and its stages; keys of a stage itself are read by its kind.
Result<std::vector<Stage>> OpenStages(RecipeRun& run, ConfigTable& top) {
  std::vector<Stage> stages;
  std::vector<std::string_view> names;
  for (const Kind& k : kKinds) names.push_back(k.name);
  std::vector<ConfigTable> tables = TRY(top.Tables("stage"));
  if (tables.empty()) return top.At("", "holds no [[stage]]");
  std::string before = run.options.smoke ? "smoke" : "whole";
  before.append(kSchema).append(std::to_string(run.seed));
  for (ConfigTable& table : tables) {
    Stage stage{TRY(table.Text("name")), nullptr, std::move(table), {}};
    TRY(Inherit(stages, stage.table));
    if (!PlainName(stage.name)) {
      return stage.table.At("name", "wants letters, digits, - _ and . only");
    }
    if (run.folders.contains(stage.name)) {
      return stage.table.At("name", "\"" + stage.name + "\" is the name of an earlier stage");
    }
    stage.kind = &kKinds[TRY(stage.table.Choice("kind", names))];
    TRY(stage.table.Overlay("smoke", run.options.smoke));
    // Later stages build on earlier ones: a change invalidates what follows.
    nlohmann::json keys = nlohmann::json::parse(stage.table.Canonical(), nullptr, false);
    if (keys.is_object()) keys.erase("expert_parallel");  // no part of the result
    before = Sha256Hex(before + stage.name + std::string(stage.kind->name) + keys.dump());
    stage.key = before;
    run.folders[stage.name] = run.folder + "/" + stage.name;
    stages.push_back(std::move(stage));
  }
  return stages;
}

bool Done(const std::string& folder, const std::string& key) {
  const Result<std::string> text = ReadFile(folder + "/" + kDoneFile, 1 << 20);
  if (!text.ok()) return false;
  const auto j = nlohmann::json::parse(*text, nullptr, false);
  return j.is_object() && j.value("key", "") == key;
}

Status WriteStages(const RecipeRun& run, const std::vector<Stage>& stages, size_t finished) {
  nlohmann::json list = nlohmann::json::array();
  for (size_t i = 0; i < stages.size(); ++i) {
    list.push_back({{"name", stages[i].name},
                    {"verb", stages[i].kind->verb},
                    {"run_dir", stages[i].name},
                    {"status", i < finished    ? "done"
                               : i == finished ? "running"
                                               : "waiting"}});
  }
  return WriteFileAtomic(run.folder + "/recipe.json",
                         nlohmann::json{{"name", run.name}, {"stages", list}}.dump(2) + "\n");
}

Status RunStage(RecipeRun& run, Stage& stage) {
  const std::string folder = run.folders[stage.name];
  const bool root = run.world.rank() == 0;
  std::error_code ec;
  if (!run.options.restart && Done(folder, stage.key)) {
    if (root && !run.options.quiet) fmt::print(stderr, "== {}: done before\n", stage.name);
    return {};
  }
  // A long stage keeps its checkpoints or files; what others left half-made goes.
  const std::string marker = folder + "/stage.key";
  const Result<std::string> began = ReadFile(marker, 1 << 20);
  const bool resumes =
      stage.kind->long_run && !run.options.restart && began.ok() && *began == stage.key;
  run.world.Barrier();  // nobody looks after somebody wrote
  if (root) {
    if (!resumes) fs::remove_all(folder, ec);
    fs::create_directories(folder, ec);
    if (ec) return Error{Code::kIo, folder + ": cannot be made: " + ec.message()};
    TRY(WriteFileAtomic(marker, stage.key));
    if (!run.options.quiet) fmt::print(stderr, "== {} ({})\n", stage.name, stage.kind->name);
  }
  const auto start = std::chrono::steady_clock::now();
  if (root || stage.kind->long_run) {
    TRY(stage.kind->run({run, stage.table, folder}));
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (root) {
    TRY(WriteFileAtomic(folder + "/" + kDoneFile,
                        nlohmann::json{{"key", stage.key}, {"seconds", seconds}}.dump() + "\n"));
    if (!run.options.quiet) fmt::print(stderr, "   {:.0f} s\n", seconds);
  }
  run.world.Barrier();
  return {};
}

}  // namespace

std::string RecipeRun::Command() const {
  return "hadal recipe " + options.file + (options.smoke ? " --smoke" : "") +
         (options.output.empty() ? "" : " -o " + options.output);
}

Result<std::string> RecipeRun::Resolve(const ConfigTable& table, std::string_view key,
                                       const std::string& path) const {
  constexpr std::string_view kPrefix = "stage:";
  if (!path.starts_with(kPrefix)) return path;
  const size_t slash = path.find('/');
  const std::string stage = path.substr(
      kPrefix.size(), slash == std::string::npos ? std::string::npos : slash - kPrefix.size());
  const auto found = folders.find(stage);
  if (found == folders.end()) {
    std::vector<std::string> names;
    for (const auto& [n, folder_of] : folders) names.push_back(n);
    const std::string near = Nearest(stage, names);
    return table.At(key, "no earlier stage is named \"" + stage + "\"" +
                             (near.empty() ? "" : "; did you mean \"" + near + "\"?"));
  }
  return found->second + (slash == std::string::npos ? "" : path.substr(slash));
}

namespace {

bool WholeStage(const std::string& path) {
  return path.starts_with("stage:") && path.find('/') == std::string::npos;
}

}  // namespace

Result<std::string> RecipeRun::ResolveModel(const ConfigTable& table, std::string_view key,
                                            const std::string& path) const {
  return TRY(Resolve(table, key, path)) + (WholeStage(path) ? "/model" : "");
}

Result<std::string> RecipeRun::ResolveShards(const ConfigTable& table, std::string_view key,
                                             const std::string& path) const {
  return TRY(Resolve(table, key, path)) + (WholeStage(path) ? "/train" : "");
}

Status RunRecipe(const Exec& exec, World& world, const RecipeOptions& options) {
  RecipeRun run{exec, world, options, {}, {}, {}, 1, {}, {}};
  run.text = TRY(ReadFile(options.file, 1 << 20));
  ConfigTable top = TRY(ConfigTable::Parse(run.text, options.file));
  run.name = TRY(top.Text("name"));
  if (!PlainName(run.name)) return top.At("name", "wants letters, digits, - _ and . only");
  TRY(top.Text("description", ""));
  run.seed = static_cast<uint64_t>(TRY(top.Integer("seed", 0, int64_t{1} << 40, 1)));
  if (top.Has("price_per_core_hour")) {
    run.price_per_core_hour = TRY(top.Number("price_per_core_hour", 0, 1e6));
  }
  run.folder = !options.output.empty() ? options.output
                                       : "runs/" + run.name + (options.smoke ? "-smoke" : "");
  std::vector<Stage> stages = TRY(OpenStages(run, top));
  TRY(top.Finish());
  for (Stage& s : stages) {
    TRY(s.kind->run({run, s.table, run.folders[s.name], /*check_only=*/true}));
  }
  const bool root = world.rank() == 0;
  std::error_code ec;
  if (root) {
    fs::create_directories(run.folder, ec);
    if (ec) return Error{Code::kIo, run.folder + ": cannot be made: " + ec.message()};
    TRY(WriteFileAtomic(run.folder + "/recipe.toml", run.text));
    const nlohmann::json about = {{"program", "hadal"},
                                  {"title", run.name},
                                  {"commands", {run.Command()}},
                                  {"seed", run.seed},
                                  {"recipe_sha256", Sha256Hex(run.text)},
                                  {"threads", exec.threads()},
                                  {"ranks", world.size()}};
    TRY(WriteFileAtomic(run.folder + "/run.json", about.dump(2) + "\n"));
  }
  for (size_t i = 0; i < stages.size(); ++i) {
    if (!options.only.empty() && stages[i].name != options.only) continue;
    if (!options.evaluate && stages[i].kind->name == "evaluate") continue;
    if (root) TRY(WriteStages(run, stages, i));
    const Status done = RunStage(run, stages[i]);
    if (!done.ok()) {
      return Error{done.error().code, "stage " + stages[i].name + ": " + done.error().message};
    }
  }
  if (!root) return {};
  TRY(WriteStages(run, stages, stages.size()));
  const std::string report = TRY(WriteReport(run.folder));
  if (!options.quiet) fmt::print("{}\n", report);
  return {};
}

namespace {

struct Flags {
  RecipeOptions recipe;
  int threads = 0;
};

Status Run(Flags& flags) {
  const auto world = TRY(World::Start());
  const auto exec = TRY(MakeExec(flags.threads));
  const InterruptGuard guard;
  flags.recipe.interrupted = [] { return InterruptGuard::interrupted(); };
  const Status done = RunRecipe(*exec, *world, flags.recipe);
  // The others may be waiting for a rank that leaves.
  if (!done.ok() && !world->alone()) world->Abort(done.error().message);
  world->Finish();
  return done;
}

void AddRecipeVerb(Verb& app, Status& status, const char* name, const char* what,
                   const char* footer, bool evaluate) {
  auto flags = std::make_shared<Flags>();
  flags->recipe.evaluate = evaluate;
  Verb* verb = app.add_subcommand(name, what);
  verb->add_option("recipe", flags->recipe.file, "The recipe, a TOML file")->required();
  verb->add_option("-o,--output", flags->recipe.output, "The run's folder; default runs/NAME");
  verb->add_option("--stage", flags->recipe.only, "Only this stage; the earlier ones are there");
  verb->add_flag("--smoke", flags->recipe.smoke, "The small variant of every stage");
  verb->add_flag("--restart", flags->recipe.restart, "Forget what earlier runs left");
  verb->add_flag("-q,--quiet", flags->recipe.quiet, "No live view");
  AddThreads(*verb, flags->threads);
  verb->footer(footer);
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace

void AddRecipe(Verb& app, Status& status) {
  AddRecipeVerb(app, status, "recipe", "Run a whole pipeline from a TOML file",
                "Example:\n"
                "  hadal recipe recipes/nano.toml           from problems to a small reasoner\n"
                "  hadal recipe recipes/nano.toml --smoke   the same stages in minutes\n",
                true);
}

void AddTrain(Verb& app, Status& status) {
  AddRecipeVerb(app, status, "train", "Train what a recipe describes, on one machine or many",
                "Runs the recipe's data and training stages; evaluation is left to hadal recipe\n"
                "and hadal eval. An interrupted run goes on from its newest checkpoint, on any\n"
                "number of ranks that divides gradient_parts.\n"
                "Examples:\n"
                "  hadal train recipes/nano.toml --stage pretrain\n"
                "  mpirun -n 2 hadal train recipes/nano.toml --threads 1\n",
                false);
}

}  // namespace hadal::cli
