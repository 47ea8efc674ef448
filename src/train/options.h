// How a model is trained: everything that decides the result, from one table of a recipe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/config_file.h"
#include "base/result.h"
#include "kernels/gemm.h"
#include "kernels/loss.h"
#include "kernels/optimizer.h"

namespace hadal {

struct ScheduleOptions {
  enum class Kind : uint8_t {
    kConstant,
    kLinear,
    kCosine,
    kWarmupStableDecay
  } kind = Kind::kCosine;
  double learning_rate = 1e-3;
  double final_ratio = 0.1;     // of learning_rate, at the last step
  int64_t warmup_steps = 0;     // from 0, linearly
  double decay_fraction = 0.2;  // warmup_stable_decay: the last share of steps, linearly down
};
// Learning rate of a step in [1, steps].
double LearningRate(const ScheduleOptions& options, int64_t step, int64_t steps);

struct OptimizerOptions {
  enum class Kind : uint8_t { kAdamW, kMuon } kind = Kind::kAdamW;  // muon: matrices inside layers
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 1.0;
  MomentType moments = MomentType::kF32;
  double muon_momentum = 0.95;
};

// Parameters whose name contains `match` (the first group that fits): factors on the schedule's
// rate and on the decay; 0 freezes.
struct ParameterGroup {
  std::string match;
  double lr_scale = 1, decay_scale = 1;
};

struct LoraOptions {
  int64_t rank = 0;  // 0: every parameter is trained
  double alpha = 16;
  std::vector<std::string> targets;  // parts of names; empty: all matrices inside layers
};

struct TeacherOptions {
  std::string model;    // folder or file, run beside the student
  std::string logits;   // folder of logit shards (data/logits.h); both empty: no teacher
  int64_t top_k = 16;   // 0: all that the logit shards list
  double weight = 0.5;  // cross-entropy gets the rest
  double temperature = 1;
  KlDirection direction = KlDirection::kForward;
  bool any() const { return !model.empty() || !logits.empty(); }
};

struct TrainOptions {
  int64_t sequence_length = 512;
  int64_t batch_sequences = 16;  // of a step, over all ranks
  int64_t micro_tokens = 2048;   // tokens of one pass forward and backward at most
  // The batch is cut into so many equal parts whose gradients are added along a fixed tree. Ranks
  // share the parts, so any number of ranks that divides it gives the same bits.
  int64_t gradient_parts = 4;
  // Ranks that share the routed experts of each layer: each keeps its part of them alone, and
  // tokens travel. Divides the ranks and the experts; no part of the result.
  int64_t expert_parallel = 1;
  bool recompute = false;  // run layers again in the backward pass instead of keeping them
  int64_t steps = 1000;
  uint64_t seed = 1;
  double init_std = 0.02;
  ComputeType compute = ComputeType::kF32;
  ScheduleOptions schedule;
  OptimizerOptions optimizer;
  std::vector<ParameterGroup> groups;
  LoraOptions lora;
  TeacherOptions teacher;
  double mtp_weight = 0.3, balance_alpha = 1e-4, bias_update_speed = 1e-3, z_loss = 0;
  int64_t validate_every = 100, validate_sequences = 64;
  int64_t checkpoint_every = 200, keep_checkpoints = 2;
  int64_t patience = 0;     // validations without a better one before stopping early; 0: never
  double spike_factor = 0;  // a step whose gradient norm exceeds so many times its running mean
                            // is skipped and logged; 0: none is

  // Reads the keys above (schedule, optimizer, lora, teacher, group are tables) and checks that
  // they fit together. Leaves other keys of the table alone.
  static Result<TrainOptions> Read(ConfigTable& table);
  // Of everything that decides the result, for checkpoints to be compared with.
  std::string Fingerprint() const;
};

}  // namespace hadal
