#include "train/report_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/file.h"
#include "train/internal_json.h"

namespace hadal::internal {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr uint64_t kMaxFile = 64 << 20;
constexpr size_t kMaxRows = 2000, kMaxFacts = 300, kMaxFactBytes = 1000, kMaxCommands = 100;
constexpr size_t kKeptSamples = 256;  // from each end of the file
constexpr size_t kSamplesOfStep = 16, kSamplesOfTask = 2, kNameBytes = 200;
constexpr size_t kMaxRecipeBytes = 64 << 10;

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// At most `size` bytes of `text`, not ending inside a character.
std::string Shortened(const std::string& text, size_t size) {
  if (text.size() <= size) return text;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  return text.substr(0, size) + " …";
}

// Reads one file of the folder for RunData: absent is fine, anything else leaves a remark.
class Reader {
 public:
  Reader(const std::string& folder, RunData& run) : folder_(folder), run_(run) {}

  std::string Path(const char* name) const { return folder_ + "/" + name; }
  void Remark(const char* name, const std::string& what) {
    run_.remarks.push_back(std::string(name) + ": " + what);
  }

  std::optional<json> Json(const char* name) {
    if (!Exists(Path(name))) return std::nullopt;
    const auto text = ReadFile(Path(name), kMaxFile);
    if (!text.ok()) {
      Remark(name, text.error().message);
      return std::nullopt;
    }
    json value = ParseJson(*text);
    if (!value.is_discarded()) return value;
    Remark(name, "not JSON");
    return std::nullopt;
  }

  // The objects of a list, or of the list that an object holds under `inner`; at most kMaxRows.
  std::vector<json> List(const char* name, const char* inner = "") {
    auto value = Json(name);
    if (!value) return {};
    if (value->is_object() && value->contains(inner)) value = json((*value)[inner]);
    if (!value->is_array()) {
      Remark(name, "not a list");
      return {};
    }
    std::vector<json> rows;
    size_t odd = 0;
    for (const json& row : *value) {
      if (!row.is_object()) {
        ++odd;
      } else if (rows.size() < kMaxRows) {
        rows.push_back(row);
      }
    }
    if (odd > 0) Remark(name, fmt::format("{} entries are no objects", odd));
    if (value->size() > kMaxRows) Remark(name, fmt::format("only {} entries shown", kMaxRows));
    return rows;
  }

 private:
  std::string folder_;
  RunData& run_;
};

void Flatten(const json& value, const std::string& key, int depth, RunData& run) {
  if (run.facts.size() >= kMaxFacts) return;
  if (value.is_object() && depth < 4) {
    for (const auto& [name, inner] : value.items()) {
      Flatten(inner, key.empty() ? name : key + "." + name, depth + 1, run);
    }
    return;
  }
  const std::string text = value.is_string()
                               ? value.get<std::string>()
                               : value.dump(-1, ' ', false, json::error_handler_t::replace);
  run.facts.emplace_back(Shortened(key, kNameBytes), Shortened(text, kMaxFactBytes));
}

void ReadFacts(Reader& reader, RunData& run) {
  auto value = reader.Json("run.json");
  if (!value) return;
  if (!value->is_object()) return reader.Remark("run.json", "not an object");
  const std::string name = TextOr(*value, "name", TextOr(*value, "title", ""));
  if (!name.empty()) run.name = name;
  for (const char* key : {"command", "commands"}) {
    const auto it = value->find(key);
    if (it == value->end()) continue;
    const json list = it->is_array() ? *it : json::array({*it});
    for (const json& command : list) {
      if (command.is_string() && run.commands.size() < kMaxCommands) {
        run.commands.push_back(Shortened(command.get<std::string>(), 4000));
      }
    }
    value->erase(it);
  }
  Flatten(*value, "", 0, run);
}

void ReadEvaluation(Reader& reader, RunData& run) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  for (const json& row : reader.List("evaluation.json", "tasks")) {
    EvaluationRow r;
    r.task = Shortened(TextOr(row, "task", ""), kNameBytes);
    r.family = Shortened(TextOr(row, "family", ""), kNameBytes);
    r.level = IntegerOr(row, "level", 0);
    r.n = IntegerOr(row, "n", 0);
    r.correct = IntegerOr(row, "correct", 0);
    const double share =
        r.n > 0 ? static_cast<double>(r.correct) / static_cast<double>(r.n) : kNone;
    r.samples = IntegerOr(row, "samples", r.n);
    r.pass_at_1 = NumberOr(row, "pass@1", NumberOr(row, "pass_at_1", share));
    r.bits_per_byte = NumberOr(row, "bits_per_byte", kNone);
    r.low = NumberOr(row, "low", kNone);
    r.high = NumberOr(row, "high", kNone);
    run.evaluation.push_back(std::move(r));
  }
}

void ReadClaims(Reader& reader, RunData& run) {
  const auto text = [](const json& row, const char* key) {
    const auto it = row.find(key);
    if (it == row.end() || it->is_null()) return std::string();
    return Shortened(it->is_string() ? it->get<std::string>()
                                     : it->dump(-1, ' ', false, json::error_handler_t::replace),
                     kMaxFactBytes);
  };
  for (const json& row : reader.List("claims.json")) {
    Claim claim = {text(row, "claim"),    text(row, "source"), text(row, "must"),
                   text(row, "measured"), text(row, "recipe"), std::nullopt};
    const auto holds = row.find("holds");
    if (holds != row.end() && holds->is_boolean()) claim.holds = holds->get<bool>();
    run.claims.push_back(std::move(claim));
  }
}

void ReadSamples(Reader& reader, RunData& run) {
  if (!Exists(reader.Path("samples.jsonl"))) return;
  const auto file = MappedFile::Open(reader.Path("samples.jsonl"));
  if (!file.ok()) return reader.Remark("samples.jsonl", file.error().message);
  std::string_view text(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
  std::deque<Sample> latest;
  std::map<std::tuple<int64_t, std::string, std::string>, size_t> kept;
  size_t damaged = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const bool torn = end == text.size();
    text.remove_prefix(std::min(text.size(), end + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const json object = line.size() <= kMaxFile ? ParseJson(line) : json();
    if (!object.is_object()) {
      damaged += torn ? 0 : 1;
      continue;
    }
    Sample sample = {IntegerOr(object, "step", 0),
                     Shortened(TextOr(object, "prompt", ""), kSampleBytes),
                     Shortened(TextOr(object, "completion", ""), kSampleBytes),
                     Shortened(TextOr(object, "task", ""), kNameBytes),
                     Shortened(TextOr(object, "verdict", ""), kNameBytes),
                     Shortened(TextOr(object, "gold", ""), kMaxFactBytes),
                     Shortened(TextOr(object, "extracted", ""), kMaxFactBytes)};
    size_t& like_it = kept[{sample.step, sample.task, sample.verdict}];
    if (like_it++ >= (sample.task.empty() ? kSamplesOfStep : kSamplesOfTask)) continue;
    if (kept.size() > kMaxRows) kept.erase(kept.begin());
    if (run.samples.size() < kKeptSamples) {
      run.samples.push_back(std::move(sample));
      continue;
    }
    latest.push_back(std::move(sample));
    if (latest.size() > kKeptSamples) latest.pop_front();
  }
  run.samples.insert(run.samples.end(), latest.begin(), latest.end());
  std::stable_sort(run.samples.begin(), run.samples.end(),
                   [](const Sample& a, const Sample& b) { return a.step < b.step; });
  if (damaged > 0) reader.Remark("samples.jsonl", fmt::format("{} lines are no samples", damaged));
}

void ReadMetricsAndLedger(Reader& reader, RunData& run) {
  if (Exists(reader.Path("metrics.jsonl"))) {
    auto log = ReadMetrics(reader.Path("metrics.jsonl"));
    if (!log.ok()) {
      reader.Remark("metrics.jsonl", log.error().message);
    } else {
      if (log->damaged_lines > 0) {
        reader.Remark("metrics.jsonl", fmt::format("{} lines are no records, the first is line {}",
                                                   log->damaged_lines, log->first_damaged_line));
      }
      if (log->torn) reader.Remark("metrics.jsonl", "the last line is torn and left out");
      if (!log->steps.empty()) run.metrics = *std::move(log);
    }
  }
  if (Exists(reader.Path("ledger.json"))) {
    auto ledger = ReadLedger(reader.Path("ledger.json"));
    if (ledger.ok()) {
      run.ledger = *std::move(ledger);
    } else {
      run.remarks.push_back(ledger.error().message);
    }
  }
}

}  // namespace

bool RunData::empty() const {
  return !metrics && !ledger && evaluation.empty() && samples.empty() && claims.empty() &&
         facts.empty() && commands.empty() && recipe.stages.empty() && recipe_text.empty() &&
         remarks.empty() && !seconds;
}

Result<RunData> ReadRun(const std::string& run_dir) {
  std::error_code error;
  if (!fs::is_directory(run_dir, error)) {
    return Error{Code::kNotFound, run_dir + ": no such folder; give the folder of a run"};
  }
  RunData run;
  Reader reader(run_dir, run);
  auto recipe = ReadStages(run_dir);
  if (recipe.ok()) {
    run.recipe = *std::move(recipe);
    run.name = run.recipe.name;
  } else {
    run.remarks.push_back(recipe.error().message);
  }
  ReadFacts(reader, run);
  ReadMetricsAndLedger(reader, run);
  ReadEvaluation(reader, run);
  ReadSamples(reader, run);
  ReadClaims(reader, run);
  run.seconds = StageSeconds(run_dir);
  if (Exists(reader.Path("recipe.toml"))) {
    const auto text = ReadFile(reader.Path("recipe.toml"), kMaxFile);
    if (text.ok()) run.recipe_text = Shortened(*text, kMaxRecipeBytes);
    if (!text.ok()) reader.Remark("recipe.toml", text.error().message);
  }
  if (run.empty()) {
    return Error{Code::kNotFound,
                 run_dir +
                     ": no metrics.jsonl, ledger.json, recipe.json or evaluation.json; "
                     "is this the folder of a run?"};
  }
  if (run.name.empty()) {
    const fs::path path = fs::weakly_canonical(run_dir, error);
    run.name = path.filename();
  }
  return run;
}

}  // namespace hadal::internal
