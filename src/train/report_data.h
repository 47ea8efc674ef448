// What a run folder holds, read for the report: bounded, and whatever is damaged becomes a remark.
//
//   run.json          any object; "name", "command" or "commands" are used, the rest is listed
//   metrics.jsonl     metrics.h            ledger.json   ledger.h        recipe.toml   shown as it
//   is recipe.json       internal_run.h samples.jsonl {"step":100,"prompt":"…","completion":"…"} a
//   line evaluation.json   [{"task":"…","family":"…","level":1,"n":200,"correct":120,
//                       "pass_at_1":0.6,"low":0.53,"high":0.66}, …]
//   claims.json       [{"claim":"…","source":"…","must":"…","measured":"…","holds":true,
//                       "recipe":"recipes/claims/x.toml"}, …]
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "train/internal_run.h"
#include "train/ledger.h"
#include "train/metrics.h"

namespace hadal::internal {

struct Sample {
  int64_t step = 0;
  std::string prompt, completion;  // cut to kSampleBytes
  std::string task, verdict, gold, extracted;
};
inline constexpr size_t kSampleBytes = 6000;

struct EvaluationRow {
  std::string task, family;
  int64_t level = 0, n = 0, correct = 0;
  int64_t samples = 0;                      // of which `correct` are right; n where not given
  double pass_at_1 = 0, low = 0, high = 0;  // NaN where not given
  double bits_per_byte = 0;                 // NaN where not given
};

struct Claim {
  std::string claim, source, must, measured, recipe;
  std::optional<bool> holds;
};

struct RunData {
  std::string name;
  std::optional<MetricsLog> metrics;
  std::optional<Ledger> ledger;
  std::vector<EvaluationRow> evaluation;
  std::vector<Sample> samples;  // by step: the earliest and latest; some of each task and verdict
  std::vector<Claim> claims;
  std::vector<std::pair<std::string, std::string>> facts;  // run.json, flattened: "machine.cpu"
  std::vector<std::string> commands;
  std::string recipe_text;
  std::optional<double> seconds;
  RecipeStages recipe;
  std::vector<std::string> remarks;  // what could not be read, and why

  bool empty() const;
};

// Errors: kNotFound when the folder does not exist or holds none of the files.
Result<RunData> ReadRun(const std::string& run_dir);

}  // namespace hadal::internal
