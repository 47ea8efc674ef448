// What recipes say of evaluations: the problems to ask, and the table [stage.evaluate] of training.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "cli/recipe.h"
#include "eval/evaluate.h"
#include "train/run.h"

namespace hadal::cli {

// The keys `families`, `first_level` and `last_level`. Items of the test split.
Result<eval::ProceduralOptions> ReadEvaluatedProblems(ConfigTable& table, uint64_t seed);
// The keys `tasks` and `data`: what OpenTasks takes.
struct NamedTasks {
  std::string names, data;
};
Result<NamedTasks> ReadNamedTasks(ConfigTable& table);

// The table `evaluate` of a training stage whose other keys are read: sets run.evaluate, which
// keeps what it needs. Problems are of the validation split. The tokenizer's folder is opened
// unless call.check_only. A tokenizer without a chat template gets the prompts as they are.
Status ReadEvaluation(const StageCall& call, RunOptions& run);

}  // namespace hadal::cli
