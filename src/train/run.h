// A training run in a folder: data in, steps, validation, checkpoints, metrics, a finished model.
//
//   RUN/run.json          versions, machine, hashes, seed: what is needed to do it again
//   RUN/metrics.jsonl     a line a step                     RUN/ledger.json  what it cost
//   RUN/step-N/           checkpoints                       RUN/model/       the finished model
//   RUN/samples.jsonl     answers while it trained (train/evaluation.h)
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "comm/world.h"
#include "data/loader.h"
#include "model/config.h"
#include "train/evaluation.h"
#include "train/options.h"

namespace hadal {

struct RunOptions {
  std::string folder;
  std::string title;                  // for people
  std::string recipe;                 // text of the recipe, kept as RUN/recipe.toml
  std::vector<std::string> commands;  // that do this run again, for the report
  std::string config;                 // config.json text of a new model; empty: `from`
  std::string from;                   // folder or file to start from
  std::string tokenizer;              // folder with tokenizer.json
  std::vector<WeightedSet> train;
  std::vector<WeightedSet> validation;  // empty: none
  TrainOptions options;
  bool restart = false;  // forget checkpoints; otherwise the newest is resumed
  std::optional<double> price_per_core_hour;
  bool quiet = false;  // no live view
  EvaluateOptions evaluate;
  // True: stop after this step, with a checkpoint (ctrl-C).
  std::function<bool()> interrupted;
};

struct RunSummary {
  int64_t steps = 0, tokens = 0, parameters = 0;
  double loss = 0;                                                  // of the last step
  std::optional<double> validation_loss, validation_bits_per_byte;  // of the model kept
  double seconds = 0;
  std::optional<double> pass_at_1;  // of the last evaluation
  bool stopped_early = false, interrupted = false;
  std::string model;  // folder of the finished model; empty when interrupted
};

// All ranks call this. Errors name what is wrong; nothing half-written is left under a final name.
Result<RunSummary> RunTraining(const Exec& exec, World& world, const RunOptions& options);

}  // namespace hadal
