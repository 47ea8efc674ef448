// hadal verify: a model's files against its manifest, or an answer against a second run.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/progress.h"
#include "base/terminal.h"
#include "cli/answer_json.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/source.h"

namespace hadal::cli {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxReplayBytes = 256 << 20;

struct Flags {
  std::string name, replay;
  ModelFlags model;
  bool repair = false, json = false;
};

Result<std::vector<StoredModel>> Choose(const std::string& name) {
  auto models = TRY(ListModels());
  if (name.empty()) {
    if (models.empty()) return Error{Code::kNotFound, "no models are pulled: nothing to verify"};
    return models;
  }
  for (auto& m : models) {
    if (m.manifest.name == name) return std::vector<StoredModel>{std::move(m)};
  }
  return Error{Code::kNotFound,
               fmt::format("no pulled model {}: hadal list shows them", Quoted(name))};
}

Status Repair(const StoredModel& model, const std::vector<FileCheck>& checks) {
  PullOptions options;
  options.name = model.manifest.name;
  for (const auto& c : checks) {
    if (c.problem.empty()) continue;
    options.only.push_back(c.file.path);
    std::error_code ignored;
    std::filesystem::remove(model.folder + "/" + c.file.path, ignored);
  }
  const auto pulled = TRY(Pull(TRY(ParseSource(model.manifest.source)), options,
                               TRY(DownloadOptionsFromEnvironment())));
  for (const auto& c : TRY(CheckFiles(pulled, {}))) {
    const auto old = std::find_if(checks.begin(), checks.end(),
                                  [&](const FileCheck& o) { return o.file.path == c.file.path; });
    if (!c.problem.empty()) {
      return Error{Code::kCorrupt, fmt::format("{}: still wrong after pulling it again: {}",
                                               c.file.path, c.problem)};
    }
    if (old != checks.end() && old->file.sha256 != c.file.sha256) {
      return Error{Code::kCorrupt, fmt::format("{}: the source now has another file than the one "
                                               "first pulled (SHA-256 {}, was {})",
                                               c.file.path, c.file.sha256, old->file.sha256)};
    }
  }
  return {};
}

struct Outcome {
  int wrong = 0;
  json report = json::array();
};

Status CheckModel(const Flags& flags, const StoredModel& model, Outcome& outcome) {
  if (!model.problem.empty()) return Error{Code::kCorrupt, model.problem};
  std::vector<FileCheck> checks;
  {
    Progress bar("verify " + model.manifest.name);
    checks = TRY(CheckFiles(model, [&](uint64_t done, uint64_t total) {
      bar.Update(static_cast<int64_t>(done), static_cast<int64_t>(total));
    }));
  }
  json files = json::array();
  int wrong = 0;
  for (const auto& c : checks) {
    wrong += !c.problem.empty();
    files.push_back({{"path", c.file.path}, {"ok", c.problem.empty()}, {"problem", c.problem}});
    if (!flags.json && !c.problem.empty()) {
      fmt::print("{}  {}: {}\n", model.manifest.name, c.file.path, c.problem);
    }
  }
  const bool repair = flags.repair && wrong > 0;
  if (repair) TRY(Repair(model, checks));
  if (!flags.json) {
    fmt::print("{}  {} of {} files as recorded{}\n", model.manifest.name,
               checks.size() - static_cast<size_t>(wrong), checks.size(),
               repair ? ", the others were repaired" : "");
  }
  outcome.report.push_back({{"name", model.manifest.name},
                            {"ok", wrong == 0 || repair},
                            {"repaired", repair},
                            {"files", std::move(files)}});
  if (!repair) outcome.wrong += wrong;
  return {};
}

Status RunFiles(const Flags& flags) {
  const auto models = TRY(Choose(flags.name));
  const InterruptGuard guard;
  Outcome outcome;
  for (const auto& model : models) TRY(CheckModel(flags, model, outcome));
  if (flags.json) {
    fmt::print("{}\n", outcome.report.dump(2, ' ', false, json::error_handler_t::replace));
  }
  if (outcome.wrong == 0) return {};
  return Error{Code::kCorrupt, fmt::format("{} files differ from the manifest: --repair pulls them "
                                           "again",
                                           outcome.wrong)};
}

Status RunReplay(const Flags& flags) {
  Replay replay = TRY(ParseReplay(TRY(ReadFile(flags.replay, kMaxReplayBytes))));
  ModelFlags model = flags.model;
  if (!flags.name.empty()) model.model = flags.name;
  if (model.model.empty() && ResolveModel(replay.model).ok()) model.model = replay.model;
  if (model.context == 0) model.context = replay.context;
  const auto session = TRY(OpenSession(model));
  const InterruptGuard guard;
  const Answer answer = TRY(Generate(*session->engine, replay.request, [&](const SampledToken&) {
    return !InterruptGuard::interrupted();
  }));
  const auto ids = answer.ids();
  const size_t common = std::min(ids.size(), replay.ids.size());
  const auto differ =
      std::mismatch(ids.begin(), ids.begin() + static_cast<int64_t>(common), replay.ids.begin());
  const auto at = static_cast<size_t>(differ.first - ids.begin());
  const bool same = at == common && ids.size() == replay.ids.size();
  if (flags.json) {
    json out = {{"identical", same}, {"tokens", replay.ids.size()}};
    if (!same) out["first_difference"] = at;
    fmt::print("{}\n", out.dump(2));
  } else if (same) {
    fmt::print("identical: {} tokens\n", ids.size());
  }
  if (same) return {};
  return Error{
      Code::kCorrupt,
      fmt::format("the answer differs at token {} ({} tokens then, {} now): other weights, "
                  "or it was changed",
                  at, replay.ids.size(), ids.size())};
}

}  // namespace

void AddVerify(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("verify", "Check a model's files, or replay an answer");
  verb->add_option("name", flags->name,
                   "A pulled model; without it all of them. With --replay: the model to run");
  auto* repair = verb->add_flag("--repair", flags->repair, "Pull again what differs");
  verb->add_option("--replay", flags->replay,
                   "A file from hadal complete --json: run it again and compare every token")
      ->excludes(repair);
  AddModelFlags(*verb, flags->model);
  AddJson(*verb, flags->json);
  verb->footer(
      "Examples:\n"
      "  hadal verify\n"
      "  hadal verify SmolLM2-135M-Instruct --repair\n"
      "  hadal verify --replay answer.json\n");
  verb->callback(
      [flags, &status] { status = flags->replay.empty() ? RunFiles(*flags) : RunReplay(*flags); });
}

}  // namespace hadal::cli
