// Recipes: a TOML file that lists stages, from generated problems to a trained, evaluated model.
//
//   name = "nano"
//   [[stage]]
//   name = "pretrain"          # its folder within the run
//   kind = "train"             # problems, tokenizer, dataset, generate, logits, train, evaluate,
//                              # compare
//   ...                        # the kind's own keys
//   [stage.smoke]              # what --smoke puts in their place
//
// A text "stage:NAME" anywhere a path is wanted is the folder of an earlier stage. A finished stage
// is skipped when nothing that decides it has changed; an interrupted training stage goes on from
// its newest checkpoint, one of kind logits behind the last shard it finished.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/config_file.h"
#include "base/result.h"
#include "comm/world.h"
#include "data/problems.h"
#include "kernels/exec.h"

namespace hadal::cli {

struct RecipeOptions {
  std::string file;
  std::string output;  // empty: runs/NAME
  bool smoke = false, restart = false, quiet = false;
  std::string only;      // one stage; empty: all
  bool evaluate = true;  // run the evaluating stages as well
  std::function<bool()> interrupted;
};

// What the stages of one run share.
struct RecipeRun {
  const Exec& exec;
  World& world;
  const RecipeOptions& options;
  std::string name, folder, text;
  uint64_t seed = 1;
  std::optional<double> price_per_core_hour;
  std::map<std::string, std::string> folders;  // of stages so far

  // What a reader types to do the run again.
  std::string Command() const;
  // "stage:NAME[/FILE]" or a path as it is. Errors name the key.
  Result<std::string> Resolve(const ConfigTable& table, std::string_view key,
                              const std::string& text) const;
  // The same for a model: a training stage stands for the model it leaves.
  Result<std::string> ResolveModel(const ConfigTable& table, std::string_view key,
                                   const std::string& path) const;
  // The same for shards to train on: a dataset stage stands for its train/.
  Result<std::string> ResolveShards(const ConfigTable& table, std::string_view key,
                                    const std::string& path) const;
};

// Each reads its keys from the table, refuses others, and leaves its results in `folder`. With
// check_only nothing is done but the reading.
struct StageCall {
  RecipeRun& run;
  ConfigTable& table;
  std::string folder;
  bool check_only = false;
};
Status RunProblems(const StageCall& call);
Status RunTokenizer(const StageCall& call);
Status RunDataset(const StageCall& call);
Status RunLogits(const StageCall& call);
Status RunTrain(const StageCall& call);
Status RunEvaluate(const StageCall& call);
Status RunCompare(const StageCall& call);
Status RunGenerate(const StageCall& call);

// Problems of families, levels and languages, as the keys `families`, `levels`, `languages` and
// `seed` name them.
struct ProblemMix {
  std::vector<Family> families;
  std::vector<int> levels;
  std::vector<Language> languages;
  uint64_t seed = 1;
};
Result<ProblemMix> ReadMix(const StageCall& call);
// The key `families`; empty where it is not there.
Result<std::vector<Family>> ReadFamilies(ConfigTable& table);

// Items round the families, levels and languages; of each combination the stream of its split. A
// family that is named twice has two turns in each round.
class ProblemCycle {
 public:
  ProblemCycle(const ProblemMix& mix, Split split);
  Problem Next();

 private:
  std::vector<ProblemStream> streams_;
  std::vector<size_t> turns_;  // of a round: places in streams_
  size_t next_ = 0;
};

// Every stage is read and checked before the first one runs.
Status RunRecipe(const Exec& exec, World& world, const RecipeOptions& options);

}  // namespace hadal::cli
