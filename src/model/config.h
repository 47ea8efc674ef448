// What a model is: architecture and sizes, from config.json or GGUF metadata.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/weight_file.h"
#include "kernels/moe.h"

namespace hadal {

enum class Arch { kLlama, kQwen2, kQwen3, kMixtral, kDeepseekV2, kDeepseekV3 };
std::string_view ArchName(Arch arch);  // "llama", ..., "deepseek_v3": config.json's model_type

struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3, kYarn } kind = Kind::kNone;
  double factor = 1;
  int64_t original_context = 0;
  double beta_fast = 32, beta_slow = 1;              // YaRN
  double mscale = 1, mscale_all_dim = 0;             // YaRN, deepseek
  std::optional<double> attention_factor;            // YaRN, others
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  std::vector<float> frequency_factors;              // GGUF rope_freqs: divides the frequencies
};

struct ModelConfig {
  Arch arch = Arch::kLlama;
  int64_t layers = 0, width = 0, vocab = 0, context = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t ffn = 0;  // dense intermediate size
  float norm_eps = 1e-6f;
  double rope_base = 10000;
  RopeScaling rope_scaling;
  bool rope_interleaved = false;  // pairing of the weights as stored
  bool qkv_bias = false, output_bias = false, qk_norm = false, mlp_bias = false;
  bool tied_embeddings = false;

  // Multi-head latent attention (deepseek); latent == 0: grouped-query attention.
  int64_t q_latent = 0;  // 0: no query compression
  int64_t latent = 0, nope_dim = 0, rope_dim = 0, v_dim = 0;

  // Mixture of experts; gate.experts == 0: dense.
  GateShape gate;
  bool gate_bias = false;  // e_score_correction_bias
  int64_t expert_ffn = 0, shared_experts = 0;
  int64_t dense_layers = 0, moe_every = 1;  // from dense_layers on, multiples of moe_every are MoE

  int64_t mtp_layers = 0;
  std::string stored_type;  // "bfloat16", "fp8", ... as the file states, for inspect
  std::vector<int32_t> eos_ids;
  std::optional<int32_t> bos_id;

  bool mla() const { return latent > 0; }
  bool moe(int64_t layer) const {
    return gate.experts > 0 && layer >= dense_layers && layer % moe_every == 0;
  }
  int64_t q_head_dim() const { return mla() ? nope_dim + rope_dim : head_dim; }
  float attention_scale() const;  // 1/sqrt(d), YaRN's mscale^2 included where the arch does so

  // Validated: every size positive, divisible and within sane bounds; unknown model_type, active
  // sliding windows or rope types we do not compute are refused by name.
  static Result<ModelConfig> FromJson(std::string_view config_json);
  static Result<ModelConfig> FromGguf(const Metadata& metadata);
  static Result<ModelConfig> FromFile(const WeightFile& file);
  // config.json that transformers opens. torch_dtype "bfloat16" or "float32".
  std::string ToJson(std::string_view torch_dtype) const;
};

// Exact arithmetic from the config alone (deepseek-facts §1.1, §1.2).
struct ModelCounts {
  int64_t total_parameters = 0;   // without routing biases and MTP
  int64_t active_parameters = 0;  // per token, embedding and head included
  int64_t active_without_embedding = 0;
  int64_t routing_biases = 0, mtp_parameters = 0;
  int64_t attention_per_layer = 0, expert = 0, dense_ffn_layer = 0, moe_layer = 0, embedding = 0;
  int64_t kv_elements_per_token = 0;  // all layers
  int64_t flops_per_token = 0;        // 2 * active_without_embedding, attention scores apart
  int64_t attention_flops_per_token_per_position =
      0;  // decode (MLA absorbed): more per cached token
};
ModelCounts Count(const ModelConfig& config);

// Every parameter of the model by its Hugging Face name with its shape: the one list that loading,
// saving, counting and conversion walk.
struct ParamSpec {
  std::string name;       // model.layers.0.self_attn.q_proj.weight
  std::string gguf_name;  // blk.0.attn_q.weight; experts are stacked in GGUF, see `expert`
  std::vector<int64_t> shape;
  int64_t expert = -1;  // index within the stacked GGUF tensor, -1 when not an expert
};
std::vector<ParamSpec> ListParams(const ModelConfig& config);

}  // namespace hadal
