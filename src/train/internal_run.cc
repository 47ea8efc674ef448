#include "train/internal_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "train/internal_json.h"

namespace hadal::internal {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr size_t kMaxStages = 256;

// The folder that run_dir names, when it is inside `root` after links are followed.
std::string InsideOf(const std::string& root, const std::string& run_dir) {
  if (run_dir.empty() || run_dir.find('\0') != std::string::npos) return {};
  std::error_code error;
  const fs::path base = fs::weakly_canonical(root, error);
  if (error) return {};
  const fs::path path = fs::weakly_canonical(base / run_dir, error);
  if (error) return {};
  const auto [at, rest] = std::mismatch(base.begin(), base.end(), path.begin(), path.end());
  return at == base.end() && rest != path.end() ? path.string() : std::string();
}

}  // namespace

Result<RecipeStages> ParseStages(std::string_view text, const std::string& run_dir) {
  const json root = ParseJson(text);
  const json* list = &root;
  if (root.is_object() && root.contains("stages")) list = &root["stages"];
  if (!list->is_array()) return Error{Code::kCorrupt, "no list of stages"};
  if (list->size() > kMaxStages) {
    return Error{Code::kLimit, fmt::format("{} stages, at most {}", list->size(), kMaxStages)};
  }
  RecipeStages recipe;
  recipe.name = TextOr(root, "name", "");
  for (const json& entry : *list) {
    if (!entry.is_object()) return Error{Code::kCorrupt, "a stage that is no object"};
    Stage stage;
    stage.run_dir = TextOr(entry, "run_dir", TextOr(entry, "dir", ""));
    stage.name = TextOr(entry, "name", stage.run_dir);
    stage.verb = TextOr(entry, "verb", "");
    stage.status = TextOr(entry, "status", "");
    stage.folder = InsideOf(run_dir, stage.run_dir);
    recipe.stages.push_back(std::move(stage));
  }
  return recipe;
}

std::optional<double> StageSeconds(const std::string& folder) {
  const auto text = ReadFile(folder + "/done.json", 1 << 20);
  if (!text.ok()) return std::nullopt;
  const double seconds = NumberOr(ParseJson(*text), "seconds", -1);
  if (!std::isfinite(seconds) || seconds < 0) return std::nullopt;
  return seconds;
}

Result<RecipeStages> ReadStages(const std::string& run_dir) {
  const std::string path = run_dir + "/recipe.json";
  std::error_code error;
  if (!fs::exists(path, error)) return RecipeStages{};
  auto stages = ParseStages(TRY(ReadFile(path, 16 << 20)), run_dir);
  if (!stages.ok()) return Error{stages.error().code, path + ": " + stages.error().message};
  return stages;
}

}  // namespace hadal::internal
