// Checkpoints of a run: RUN/step-N/ is a Hugging Face folder (f32 masters, config.json, tokenizer)
// with optimizer.safetensors and state.json beside. A folder appears under its name only when it
// is complete and synced: a kill at any byte leaves the one before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "comm/world.h"
#include "formats/writer.h"
#include "model/trainable.h"
#include "train/trainer.h"

namespace hadal {

struct CheckpointState {
  TrainerState trainer;
  std::string cursor;       // of the data stream, JSON
  std::string fingerprint;  // TrainOptions::Fingerprint
  std::string model;        // config.json of the model
  double best_validation = 0;
  int64_t best_step = 0;  // 0: no validation yet
  int64_t worse_validations = 0;
  double elapsed_seconds = 0;
  // Why training ended before its last step.
  enum class Ended : uint8_t { kNot, kPatience, kTarget } ended = Ended::kNot;

  std::string ToJson() const;
  static Result<CheckpointState> FromJson(std::string_view text, const std::string& where);
};

// The texts that make the folder a model: tokenizer.json, tokenizer_config.json, ...
using ModelTexts = std::vector<FolderText>;

// All ranks call this together; rank 0 writes.
Status SaveCheckpoint(const std::string& run, World& world, Trainer& trainer, TrainableModel& model,
                      const CheckpointState& state, const ModelTexts& texts);
// Only the model: what a finished stage hands on. All ranks call this together; rank 0 writes.
Status SaveModel(const std::string& folder, World& world, Trainer& trainer, TrainableModel& model,
                 const ModelTexts& texts);

// step numbers of complete checkpoints, ascending.
std::vector<int64_t> ListCheckpoints(const std::string& run);
std::string CheckpointFolder(const std::string& run, int64_t step);
Result<CheckpointState> ReadCheckpointState(const std::string& folder);
// Masters, optimizer and state from a folder. Refuses another model, other training options (the
// error names what differs) and damaged files.
Status LoadCheckpoint(const std::string& folder, Trainer& trainer, TrainableModel& model,
                      const CheckpointState& state, const std::string& fingerprint);
// Removes all but the newest `keep` and `best_step`, and what a killed writer left.
void PruneCheckpoints(const std::string& run, int64_t keep, int64_t best_step);

}  // namespace hadal
