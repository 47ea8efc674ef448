// The weights of a model in the layout the forward pass reads.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/result.h"
#include "kernels/exec.h"
#include "kernels/matmul.h"
#include "model/config.h"
#include "model/expert_exchange.h"
#include "model/internal_source.h"
#include "model/model.h"
#include "tensor/buffer.h"

namespace hadal::internal {

// Which rows of which parameter (its place in ListParams) packed values come from.
struct ParamRef {
  int32_t index = -1;
  int64_t first_row = 0, rows = 0;
  bool high = false;  // never quantised in training: the gate
};
struct Vector : std::vector<float> {
  using std::vector<float>::vector;
  int32_t param = -1;
};
inline const Vector kNoBias;
struct Weight : PackedMatrix {
  Weight() = default;
  Weight(PackedMatrix&& packed, ParamRef from) : PackedMatrix(std::move(packed)), from(from) {}
  ParamRef from;
};

struct SwiGluWeights {
  Weight gate, up, down;
  Vector gate_bias, up_bias, down_bias;  // empty: none
};

struct LayerWeights {
  Vector attention_norm, ffn_norm;

  // Grouped-query attention.
  Weight q, k, v;
  Vector q_bias, k_bias, v_bias;
  Vector q_norm, k_norm;

  // Latent attention: q = q_b(norm(q_a x)), or q alone without a query latent.
  Weight q_a, q_b, kv_a;
  Vector q_a_bias, kv_a_bias, q_a_norm, kv_a_norm;
  // kv_b by head. Expanded: k_up [nope, latent], v_up [v, latent]. Absorbed: q_absorb is k_up
  // transposed, [latent, nope], and v_up again. The file holds one of k_up and q_absorb; the other
  // is derived and kept as AbsorbedType says.
  std::vector<PackedMatrix> k_up, v_up, q_absorb;
  ParamRef kv_b;

  Weight o;
  Vector o_bias;

  SwiGluWeights ffn;  // the dense block, or the shared experts of an MoE layer
  bool moe = false;
  Weight router;
  Vector router_bias;
  std::vector<PackedMatrix> expert_gate, expert_up, expert_down;
  // The parameter of expert 0; the others of its kind follow.
  int32_t gate_param = -1, up_param = -1, down_param = -1;
  // Not null in training with the experts spread over ranks: those of others are empty here.
  ExpertExchange* exchange = nullptr;
};

struct MtpWeights {
  Vector embed_norm, hidden_norm, head_norm;
  Weight project;  // [width, 2 * width], over [norm(embedding); norm(hidden)]
  LayerWeights layer;
};

struct ModelWeights {
  Arena tiles;         // of the packed matrices
  Weight embed, head;  // head is empty when tied
  Vector final_norm;
  std::vector<LayerWeights> layers;
  std::unique_ptr<MtpWeights> mtp;
  const Weight& OutputHead() const { return head.from.index >= 0 ? head : embed; }

  int64_t bytes = 0;            // all packed matrices and vectors
  int64_t derived_bytes = 0;    // of these, the derived copies of kv_b
  int64_t bytes_per_token = 0;  // read by a decode step of batch 1
};

// Storage of a transposed copy of a matrix stored as `type`, with rows of `cols` elements. Float
// types keep their exact values (F8 times its scale needs F32). Blocks of block types do not
// transpose: their values are rounded to Q8_0, as their activations are, and a decode step reads
// half the bytes of F16, which is kept for rows that are not whole blocks.
DType AbsorbedType(DType type, int64_t cols);

// What is filled in: only the byte counts (exec null), vectors and the places of parameters, or
// packed matrices as well.
enum class Filled : uint8_t { kVectors, kAll };
Result<ModelWeights> BuildWeights(const Exec* exec, const ModelConfig& config, ParamSource& source,
                                  Filled filled = Filled::kAll);

// cos in columns [0, dim/2), sin in [dim/2, dim), rows first..first+count-1 of positions.
// Frequencies, scaling and angles in double, rounded to f32 once.
void FillRope(const Exec& exec, const ModelConfig& config, int64_t first, View2<float> out);
// The rotation's dimension: rope_dim or head_dim.
int64_t RopeDim(const ModelConfig& config);
struct RopeTable {
  Buffer values;
  int64_t rows = 0;
};
// The table's rows, made first where it has none for a position yet; at most `limit` ahead.
View2<const float> RopeRows(const Exec& exec, const ModelConfig& config,
                            std::span<const int32_t> positions, int64_t limit, RopeTable& table);

// Bytes of workspace a forward step takes at most, the kernels' own scratch included.
struct StepShape {
  int64_t tokens = 0;  // rows in the batch
  int64_t sequences = 0;
  int64_t logit_rows = 0;
  int64_t expand_tokens = 0;  // sum over expanded sequences of their blocks' tokens, MLA only
  int64_t jobs = 0;           // most products handed to one MatMulGroup or MatMulJobs
};
int64_t WorkspaceBytes(const ModelConfig& config, const StepShape& shape);

// Heads expanded at a time, so that their keys and values stay within a fixed budget.
int64_t ExpandHeads(const ModelConfig& config, int64_t expand_tokens);
inline constexpr int64_t kExpandTile = 256;                   // rows expanded at a time
inline constexpr int64_t kExpandBudget = int64_t{256} << 20;  // bytes of expanded keys and values

}  // namespace hadal::internal

namespace hadal {

struct Model::Impl {
  const Exec* exec = nullptr;
  ModelConfig config;
  internal::ModelWeights weights;
  Workspace work, mtp_work;  // results of Forward survive ForwardMtp
  internal::RopeTable rope;
};

}  // namespace hadal
