// A run folder's recipe.json: the stages and where each left its own run folder.
//
//   {"name":"nano","stages":[{"name":"pretrain","verb":"train","run_dir":"pretrain",
//                             "status":"done"}, ...]}        or the list alone
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal::internal {

struct Stage {
  std::string name, verb, status;
  std::string run_dir;  // as written, relative to the recipe's folder
  std::string folder;   // where it is; empty when there is none inside the recipe's folder
};

struct RecipeStages {
  std::string name;
  std::vector<Stage> stages;
};

// No recipe.json: no stages. A stage whose folder lies outside `run_dir` is listed without a
// folder, so a report never shows files of elsewhere.
Result<RecipeStages> ReadStages(const std::string& run_dir);
// Seconds that a finished stage took, from its done.json; none while it has not finished.
std::optional<double> StageSeconds(const std::string& folder);
// The stages from text.
Result<RecipeStages> ParseStages(std::string_view json, const std::string& run_dir);

}  // namespace hadal::internal
