// The list of parameters. Hugging Face names first, GGUF names beside them.
#include <string>

#include "model/config.h"

namespace hadal {
namespace {

class Lister {
 public:
  Lister(const ModelConfig& config, std::vector<ParamSpec>& out) : c_(config), out_(out) {}

  void Top(std::string_view hf, std::string_view gguf, std::vector<int64_t> shape) {
    out_.push_back({std::string(hf), std::string(gguf), std::move(shape)});
  }

  void Layer(int64_t index) {
    hf_ = "model.layers." + std::to_string(index) + ".";
    gguf_ = "blk." + std::to_string(index) + ".";
    Add("input_layernorm.weight", "attn_norm.weight", {c_.width});
    if (c_.mla()) {
      LatentAttention();
    } else {
      GroupedAttention();
    }
    Add("post_attention_layernorm.weight", "ffn_norm.weight", {c_.width});
    if (c_.moe(index)) {
      MixtureOfExperts();
    } else {
      SwiGlu("mlp.", "", c_.ffn, c_.mlp_bias);
    }
  }

  void Mtp(int64_t index) {
    Layer(index);
    Add("enorm.weight", "nextn.enorm.weight", {c_.width});
    Add("hnorm.weight", "nextn.hnorm.weight", {c_.width});
    Add("eh_proj.weight", "nextn.eh_proj.weight", {c_.width, 2 * c_.width});
    Add("shared_head.norm.weight", "nextn.shared_head_norm.weight", {c_.width});
  }

 private:
  void Add(const std::string& hf, const std::string& gguf, std::vector<int64_t> shape,
           int64_t expert = -1) {
    out_.push_back({hf_ + hf, gguf_ + gguf, std::move(shape), expert});
  }
  void Linear(const std::string& hf, const std::string& gguf, int64_t rows, int64_t cols,
              bool bias) {
    Add(hf + ".weight", gguf + ".weight", {rows, cols});
    if (bias) Add(hf + ".bias", gguf + ".bias", {rows});
  }

  void GroupedAttention() {
    const int64_t q = c_.heads * c_.head_dim;
    const int64_t kv = c_.kv_heads * c_.head_dim;
    Linear("self_attn.q_proj", "attn_q", q, c_.width, c_.qkv_bias);
    Linear("self_attn.k_proj", "attn_k", kv, c_.width, c_.qkv_bias);
    Linear("self_attn.v_proj", "attn_v", kv, c_.width, c_.qkv_bias);
    if (c_.qk_norm) {
      Add("self_attn.q_norm.weight", "attn_q_norm.weight", {c_.head_dim});
      Add("self_attn.k_norm.weight", "attn_k_norm.weight", {c_.head_dim});
    }
    Linear("self_attn.o_proj", "attn_output", c_.width, q, c_.output_bias);
  }

  void LatentAttention() {
    const int64_t q = c_.heads * c_.q_head_dim();
    if (c_.q_latent > 0) {
      Linear("self_attn.q_a_proj", "attn_q_a", c_.q_latent, c_.width, c_.qkv_bias);
      Add("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight", {c_.q_latent});
      Linear("self_attn.q_b_proj", "attn_q_b", q, c_.q_latent, false);
    } else {
      Linear("self_attn.q_proj", "attn_q", q, c_.width, false);
    }
    Linear("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", c_.latent + c_.rope_dim, c_.width,
           c_.qkv_bias);
    Add("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight", {c_.latent});
    Linear("self_attn.kv_b_proj", "attn_kv_b", c_.heads * (c_.nope_dim + c_.v_dim), c_.latent,
           false);
    Linear("self_attn.o_proj", "attn_output", c_.width, c_.heads * c_.v_dim, c_.output_bias);
  }

  void SwiGlu(const std::string& hf, const std::string& suffix, int64_t ffn, bool bias) {
    Linear(hf + "gate_proj", "ffn_gate" + suffix, ffn, c_.width, bias);
    Linear(hf + "up_proj", "ffn_up" + suffix, ffn, c_.width, bias);
    Linear(hf + "down_proj", "ffn_down" + suffix, c_.width, ffn, bias);
  }

  void MixtureOfExperts() {
    const bool mixtral = c_.arch == Arch::kMixtral;
    const std::string block = mixtral ? "block_sparse_moe." : "mlp.";
    const int64_t f = c_.expert_ffn;
    Add(block + "gate.weight", "ffn_gate_inp.weight", {c_.gate.experts, c_.width});
    if (c_.gate_bias) {
      Add(block + "gate.e_score_correction_bias", "exp_probs_b.bias", {c_.gate.experts});
    }
    // One kind after the other, as GGUF stacks them.
    for (int kind = 0; kind < 3; ++kind) {
      static constexpr const char* kHf[] = {"gate_proj", "up_proj", "down_proj"};
      static constexpr const char* kMixtral[] = {"w1", "w3", "w2"};
      static constexpr const char* kGguf[] = {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"};
      for (int64_t e = 0; e < c_.gate.experts; ++e) {
        std::string name = block;
        name.append("experts.").append(std::to_string(e)).append(".");
        name.append(mixtral ? kMixtral[kind] : kHf[kind]).append(".weight");
        std::vector<int64_t> shape = {f, c_.width};
        if (kind == 2) shape = {c_.width, f};
        Add(name, std::string(kGguf[kind]) + ".weight", std::move(shape), e);
      }
    }
    if (c_.shared_experts > 0) {
      SwiGlu("mlp.shared_experts.", "_shexp", c_.shared_experts * f, false);
    }
  }

  const ModelConfig& c_;
  std::vector<ParamSpec>& out_;
  std::string hf_, gguf_;
};

}  // namespace

std::vector<ParamSpec> ListParams(const ModelConfig& config) {
  std::vector<ParamSpec> out;
  Lister lister(config, out);
  lister.Top("model.embed_tokens.weight", "token_embd.weight", {config.vocab, config.width});
  for (int64_t layer = 0; layer < config.layers; ++layer) lister.Layer(layer);
  lister.Top("model.norm.weight", "output_norm.weight", {config.width});
  if (!config.tied_embeddings) {
    lister.Top("lm_head.weight", "output.weight", {config.vocab, config.width});
  }
  for (int64_t i = 0; i < config.mtp_layers; ++i) lister.Mtp(config.layers + i);
  return out;
}

}  // namespace hadal
