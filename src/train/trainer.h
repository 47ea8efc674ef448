// One training step: gradients of a global batch, clipping, the optimizer, the router's bias.
//
// Bits. The batch is cut into gradient_parts equal parts of whole sequences; a part's gradient is
// one chain over its passes in order, parts are added along a binary tree of neighbours, and so are
// ranks. With gradient_parts a multiple of the number of ranks and that a power of two, losses,
// gradients and weights are the same bits on any number of ranks. With other numbers of ranks the
// sums run in another order and agree to about 1e-6. Sharing experts (train/expert_parallel.h)
// changes no bit: the keeper of an expert holds a gradient per rank of its group, that is per part,
// and adds them along the same tree.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "comm/world.h"
#include "data/pack.h"
#include "model/trainable.h"
#include "train/expert_parallel.h"
#include "train/metrics.h"
#include "train/options.h"

namespace hadal {

// What a step leaves behind beside the weights: everything a resumed run needs to go on bit for
// bit.
struct TrainerState {
  int64_t step = 0;
  int64_t tokens = 0;         // seen in all
  double mean_grad_norm = 0;  // running, for the spike guard
  int64_t skipped = 0;
};

class Trainer {
 public:
  // exec, world, model and parallel outlive the trainer. The model's weights are published.
  // parallel: the exchange that the model was made with, if any.
  static Result<std::unique_ptr<Trainer>> Create(const Exec& exec, World& world,
                                                 TrainableModel& model, const TrainOptions& options,
                                                 ExpertParallel* parallel = nullptr);
  ~Trainer();

  // One step over the global batch (all of it on every rank; each works on its own part). Errors
  // (kNumeric) name the tensor or layer that is not finite; the weights are as before the step.
  // The record lacks times and rates. Fails on a batch without a single target.
  Result<StepRecord> Step(std::span<const PackedSequence> batch);
  // Loss per target and its weight over sequences; nothing changes. All ranks take part.
  struct Validation {
    double loss = 0;        // nats per target
    double total_nats = 0;  // summed
    int64_t targets = 0, correct = 0;
  };
  Result<Validation> Validate(std::span<const PackedSequence> sequences);

  const TrainerState& state() const;
  // Copies parameter `index` to `out` on rank 0, whichever rank keeps it; nothing elsewhere. All
  // ranks call this together.
  void Master(int64_t index, std::span<float> out);
  // Optimizer state by name and shape, whole, on rank 0: the same whatever the number of ranks. All
  // ranks call these together; to restore, each is asked for what it keeps.
  struct StateTensor {
    std::string name;
    std::vector<int64_t> shape;
    std::span<float> values;
  };
  using Visit = std::function<Status(const StateTensor&)>;
  Status VisitOptimizer(const Visit& visit);   // to be written
  Status RestoreOptimizer(const Visit& fill);  // to be filled
  void RestoreState(const TrainerState& state);

 private:
  struct Impl;
  explicit Trainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
