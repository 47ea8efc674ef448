#include "model/config.h"

#include <cmath>
#include <string>

#include "model/internal_config.h"

namespace hadal {
namespace internal {

std::string Quoted(std::string_view text) {
  std::string quoted(1, '"');
  quoted.append(text).push_back('"');
  return quoted;
}

Error ConfigError(std::string_view key, std::string_view value, std::string_view wanted) {
  std::string text = "config: ";
  text.append(key).append(" is ").append(value.substr(0, 200)).append(", wants ").append(wanted);
  return {Code::kInvalid, std::move(text)};
}

double YarnMscale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

namespace {

Status ValidateAttention(const ModelConfig& c) {
  if (c.mla()) {
    if (c.rope_dim % 2 != 0) {
      return ConfigError("qk_rope_head_dim", std::to_string(c.rope_dim), "an even number");
    }
    if (c.kv_heads != c.heads) {
      return ConfigError("num_key_value_heads", std::to_string(c.kv_heads),
                         "num_attention_heads (" + std::to_string(c.heads) +
                             "): latent attention has a key per head");
    }
    return {};
  }
  if (c.heads % c.kv_heads != 0) {
    return ConfigError("num_key_value_heads", std::to_string(c.kv_heads),
                       "a divisor of num_attention_heads (" + std::to_string(c.heads) + ")");
  }
  if (c.head_dim % 2 != 0) {
    return ConfigError("head_dim", std::to_string(c.head_dim), "an even number, for rotation");
  }
  return {};
}

Status ValidateExperts(const ModelConfig& c) {
  const GateShape& g = c.gate;
  if (g.experts == 0) return {};
  if (g.top_k < 1 || g.top_k > g.experts) {
    return ConfigError("num_experts_per_tok", std::to_string(g.top_k),
                       "1 to the number of experts (" + std::to_string(g.experts) + ")");
  }
  if (g.groups < 1 || g.experts % g.groups != 0) {
    return ConfigError("n_group", std::to_string(g.groups),
                       "a divisor of the number of experts (" + std::to_string(g.experts) + ")");
  }
  if (g.top_groups < 1 || g.top_groups > g.groups) {
    return ConfigError("topk_group", std::to_string(g.top_groups),
                       "1 to n_group (" + std::to_string(g.groups) + ")");
  }
  const int64_t reachable = g.experts / g.groups * g.top_groups;
  if (g.top_k > reachable) {
    return ConfigError("num_experts_per_tok", std::to_string(g.top_k),
                       "at most the " + std::to_string(reachable) +
                           " experts that topk_group leaves to choose from");
  }
  if (g.groups > 1 && g.group_score == GateShape::GroupScore::kTop2Sum &&
      g.experts / g.groups < 2) {
    return ConfigError("n_group", std::to_string(g.groups),
                       "groups of at least two experts: they are ranked by their two best");
  }
  if ((c.layers + c.mtp_layers) * g.experts > kMaxExpertMatrices) {
    return ConfigError("n_routed_experts", std::to_string(g.experts),
                       "at most " + std::to_string(kMaxExpertMatrices) +
                           " experts over all layers; is this the right config.json?");
  }
  return {};
}

// Every count that follows is an int64: the whole model stays under 2^53 parameters.
Status ValidateTotal(const ModelConfig& c) {
  const double width = static_cast<double>(c.width);
  const double heads = static_cast<double>(c.heads);
  double layer = 3.0 * width * static_cast<double>(c.ffn);
  layer += 3.0 * width * static_cast<double>(c.expert_ffn) *
           static_cast<double>(c.gate.experts + c.shared_experts + 1);
  const auto per_head = static_cast<double>(c.q_head_dim() + c.v_dim + c.nope_dim);
  layer += heads * per_head * (2.0 * width + static_cast<double>(c.q_latent + c.latent));
  const double total = static_cast<double>(c.layers + c.mtp_layers) * layer +
                       2.0 * width * static_cast<double>(c.vocab);
  if (!(total < 0x1p53)) {
    return ConfigError("hidden_size", std::to_string(c.width),
                       "a model under 2^53 parameters; is this the right config.json?");
  }
  return {};
}

}  // namespace

Status ValidateConfig(const ModelConfig& c) {
  TRY(ValidateAttention(c));
  TRY(ValidateExperts(c));
  if (c.dense_layers > c.layers) {
    return ConfigError("first_k_dense_replace", std::to_string(c.dense_layers),
                       "at most num_hidden_layers (" + std::to_string(c.layers) + ")");
  }
  return ValidateTotal(c);
}

}  // namespace internal

std::string_view ArchName(Arch arch) {
  switch (arch) {
    case Arch::kLlama:
      return "llama";
    case Arch::kQwen2:
      return "qwen2";
    case Arch::kQwen3:
      return "qwen3";
    case Arch::kMixtral:
      return "mixtral";
    case Arch::kDeepseekV2:
      return "deepseek_v2";
    case Arch::kDeepseekV3:
      return "deepseek_v3";
  }
  return "unknown";
}

float ModelConfig::attention_scale() const {
  double scale = 1.0 / std::sqrt(static_cast<double>(q_head_dim()));
  // The temperature goes into the softmax, squared, not onto cos and sin (arXiv:2405.04434 §3.1.4).
  if (mla() && rope_scaling.kind == RopeScaling::Kind::kYarn && rope_scaling.mscale_all_dim != 0) {
    const double m = internal::YarnMscale(rope_scaling.factor, rope_scaling.mscale_all_dim);
    scale *= m * m;
  }
  return static_cast<float>(scale);
}

}  // namespace hadal
