// A loaded model and its one forward pass.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/weight_file.h"
#include "kernels/attention.h"
#include "kernels/exec.h"
#include "model/config.h"
#include "tensor/view.h"

namespace hadal {

// Paged cache of all layers: `blocks` blocks of 16 tokens. Which sequence owns which block is the
// engine's business.
class KvCache {
 public:
  KvCache(const ModelConfig& config, KvType type, int64_t blocks);
  static int64_t BlockBytes(const ModelConfig& config, KvType type);  // all layers

  int64_t blocks() const { return blocks_; }
  KvType type() const { return type_; }
  KvStore layer(int64_t index) const;
  int64_t bytes() const { return static_cast<int64_t>(memory_.bytes()); }

 private:
  Buffer memory_;
  KvType type_;
  int64_t blocks_, layer_block_bytes_;
};

// Consecutive tokens of one sequence within a batch.
struct SeqInput {
  const int32_t* blocks = nullptr;  // table covering positions [0, start + tokens)
  int64_t start = 0;                // position of the first token
  std::span<const int32_t> tokens;
  // MLA form. Prompt tokens run expanded, generated tokens absorbed: a property of the token, not
  // of the batch or chunk it came in, so results do not depend on either. Other archs ignore it.
  bool expanded = true;
  // Logits are wanted for the last `logits` tokens (0: none, 1: decode, tokens.size(): scoring).
  int64_t logits = 1;
};

struct ForwardResult {
  View2<float>
      logits;  // [sum of logits over seqs, vocab], in seq order; lives until the next Forward
  View2<float> hidden;  // [same rows, width]: last hidden state before the final norm
  std::span<const int32_t> bad_layer;  // per row: first layer whose output held NaN or Inf, -1 none
};

struct LoadOptions {
  // Called as bytes are packed; return false to cancel.
  bool (*progress)(void* user, int64_t done, int64_t total) = nullptr;
  void* progress_user = nullptr;
  int64_t max_layers = -1;  // tests
};

// Chosen experts, recorded when asked for: ids[layer][token][slot] of MoE layers in order.
struct RoutingTrace {
  std::vector<std::vector<int32_t>> ids;
};

class Model {
 public:
  // exec outlives the model. Weights are packed tile by tile and their file pages dropped.
  static Result<std::unique_ptr<Model>> Load(const Exec& exec, const WeightFile& file,
                                             const LoadOptions& options = {});
  // Random weights of a given type, for benchmarks: seeded, N(0, 0.02).
  static Result<std::unique_ptr<Model>> Random(const Exec& exec, const ModelConfig& config,
                                               DType type, uint64_t seed);
  // No weights yet: a trainer puts them in (model/trainable.h).
  static std::unique_ptr<Model> Empty(const Exec& exec, const ModelConfig& config);
  ~Model();

  const ModelConfig& config() const;
  const Exec& exec() const;
  int64_t weight_bytes() const;
  int64_t bytes_per_token() const;  // weight bytes a decode step of batch 1 touches

  // One step over several sequences: writes their keys and values to the cache and computes the
  // logits asked for. Preconditions (CHECKed): token ids in [0, vocab), positions < context
  // limits given by the caller's block tables. After the first step of a given size it allocates
  // nothing.
  ForwardResult Forward(std::span<const SeqInput> seqs, const KvCache& cache,
                        RoutingTrace* trace = nullptr);

  // The MTP layer (deepseek_v3): logits for position p+2 from the hidden state at p and the token
  // at p+1. hidden: a row a token, as Forward returns it (the model's last norm is applied here).
  // seqs: start is p of the first row, tokens are those at p+1. Keys go to cache layer
  // config.layers, slot p. Only when config().mtp_layers > 0. Forward's results stay valid.
  ForwardResult ForwardMtp(std::span<const SeqInput> seqs, View2<const float> hidden,
                           const KvCache& cache);

 private:
  friend class TrainableModel;
  struct Impl;
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
