// A model in training: its f32 masters, one pass forward and backward, and the model that serves.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/exec.h"
#include "kernels/gemm.h"
#include "kernels/loss.h"
#include "model/config.h"
#include "model/expert_exchange.h"
#include "model/model.h"
#include "model/parameters.h"

namespace hadal {

// Documents laid one after the other; attention and positions stay within a document.
struct TrainBatch {
  std::span<const int32_t> tokens;  // [T]
  std::span<const int32_t> first;   // first row of each document, ascending, first[0] == 0
  std::span<const float> weights;   // [T]: weight of predicting token t from those before it; that
                                    // of a document's first token is not read
};

// What a pass minimises:
//   loss_scale * sum_t weight_t CE_t + mtp_scale * sum_t weight_t CE^mtp_t
//   + balance_scale * sum over sequences and MoE layers of balance_alpha * sum_i f_i P_i
// (arXiv:2412.19437 eq. 17-20, 24-25).
struct Objective {
  double loss_scale = 1;
  double mtp_scale = 0;  // lambda included; 0: the MTP layer is not run
  double balance_alpha = 0, balance_scale = 0;
  float z_loss = 0;  // weight of logsumexp^2
  // Keeps each layer's input only and runs it again for its gradient: the same bits, less memory,
  // a third more time.
  bool recompute = false;
  // Distillation: the teacher's distribution at each position, and how it is mixed in.
  const TeacherTopK* teacher = nullptr;  // a row for each t of the batch, at the row that predicts
  DistillOptions distill;
  double distill_weight = 0;  // cross-entropy gets 1 - this
};

struct PassResult {
  double loss = 0, weight = 0;  // sum of weighted cross-entropies, and of weights
  double mtp_loss = 0, mtp_weight = 0;
  double balance_loss = 0;
  double distill_loss = 0;
  int64_t predicted = 0, correct = 0;               // rows with weight, and those the maximum hits
  std::vector<std::vector<int64_t>> expert_tokens;  // [MoE layer, MTP's last][E]
};

class TrainableModel {
 public:
  // Parameters as they are after construction: zero. Initialise or read them, then Publish().
  // With an exchange (it outlives the model) only this rank's share of the routed experts is kept,
  // and every pass, model()'s too, is one that all ranks of the share run together, with the same
  // objective but for the teacher. An error when the share does not divide the experts.
  static Result<std::unique_ptr<TrainableModel>> Create(const Exec& exec, const ModelConfig& config,
                                                        ComputeType compute,
                                                        ExpertExchange* exchange = nullptr);
  ~TrainableModel();

  const ModelConfig& config() const;
  Parameters& parameters();
  ComputeType compute() const;
  // The serving model over the published masters, exactly (kF32) or rounded to bf16. Lives as long
  // as this; the first call after a Publish() packs the weights, and the next Publish(), which no
  // Forward may overlap, gives them back. In f32 its logits are those of the passes to the bit.
  Model& model();
  // Makes changed masters those of the passes. NaN or Inf in a master is an error naming the
  // parameter and row.
  Status Publish();

  // Adds the gradient of the objective to parameters().gradients(). Preconditions (CHECKed): ids
  // within the vocabulary, first[] ascending. An activation that is NaN or Inf is an error naming
  // the layer; gradients are then not usable. With an exchange the batch may be empty: such a pass
  // serves the others' tokens, and its own results are zero.
  Result<PassResult> Accumulate(const TrainBatch& batch, const Objective& objective);
  // The losses alone.
  Result<PassResult> Evaluate(const TrainBatch& batch, const Objective& objective);

 private:
  struct Impl;
  explicit TrainableModel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
