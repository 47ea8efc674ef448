// The architecture as GGUF metadata states it: keys "<architecture>.<name>".
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "model/config.h"
#include "model/internal_config.h"

namespace hadal {
namespace {

using internal::ConfigError;
using internal::Quoted;

class Keys {
 public:
  Keys(const Metadata& metadata, std::string prefix)
      : metadata_(metadata), prefix_(std::move(prefix)) {}

  Result<std::optional<int64_t>> MaybeInt(std::string_view name, int64_t low, int64_t high) const {
    const std::string key = prefix_ + std::string(name);
    const std::optional<uint64_t> v = TRY(MetaUint(metadata_, key));
    if (!v) return std::optional<int64_t>();
    if (*v > static_cast<uint64_t>(high) || static_cast<int64_t>(*v) < low) {
      return ConfigError(
          key, std::to_string(*v),
          "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return std::optional<int64_t>(static_cast<int64_t>(*v));
  }
  Result<int64_t> Int(std::string_view name, int64_t low, int64_t high) const {
    const std::optional<int64_t> v = TRY(MaybeInt(name, low, high));
    if (!v) {
      return Error{Code::kInvalid,
                   "config: " + prefix_ + std::string(name) + " is missing from the GGUF metadata"};
    }
    return *v;
  }
  Result<int64_t> IntOr(std::string_view name, int64_t low, int64_t high, int64_t fallback) const {
    return TRY(MaybeInt(name, low, high)).value_or(fallback);
  }
  Result<std::optional<double>> MaybeNumber(std::string_view name, double low, double high) const {
    const std::string key = prefix_ + std::string(name);
    const std::optional<double> v = TRY(MetaFloat(metadata_, key));
    if (v && !(*v >= low && *v <= high)) {
      return ConfigError(key, std::to_string(*v),
                         "a number from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return v;
  }
  Result<double> NumberOr(std::string_view name, double low, double high, double fallback) const {
    return TRY(MaybeNumber(name, low, high)).value_or(fallback);
  }
  Result<bool> BoolOr(std::string_view name, bool fallback) const {
    return TRY(MetaBool(metadata_, prefix_ + std::string(name))).value_or(fallback);
  }
  Result<std::string> StringOr(std::string_view name, std::string_view fallback) const {
    return TRY(MetaString(metadata_, prefix_ + std::string(name))).value_or(std::string(fallback));
  }

 private:
  const Metadata& metadata_;
  std::string prefix_;
};

int64_t ArrayLength(const Metadata& m, std::string_view key) {
  const MetaArray* array = MetaFindArray(m, key);
  return array == nullptr
             ? 0
             : std::visit([](const auto& v) { return static_cast<int64_t>(v.size()); }, *array);
}

Result<Arch> ParseArch(const std::string& name, bool experts) {
  if (name == "llama") return experts ? Arch::kMixtral : Arch::kLlama;
  if (name == "qwen2") return Arch::kQwen2;
  if (name == "qwen3") return Arch::kQwen3;
  if (name == "deepseek2") return Arch::kDeepseekV2;  // V3 when its gate says so
  Error error =
      ConfigError("general.architecture", Quoted(name), "llama, qwen2, qwen3 or deepseek2");
  error.code = Code::kUnsupported;
  return error;
}

Status ParseSizes(const Keys& k, const Metadata& m, ModelConfig& c) {
  c.mtp_layers = TRY(k.IntOr("nextn_predict_layers", 0, 16, 0));
  c.layers = TRY(k.Int("block_count", 1, internal::kMaxLayers)) - c.mtp_layers;
  if (c.layers < 1) {
    return ConfigError("nextn_predict_layers", std::to_string(c.mtp_layers),
                       "less than block_count");
  }
  c.width = TRY(k.Int("embedding_length", 1, internal::kMaxWidth));
  c.context = TRY(k.IntOr("context_length", 1, internal::kMaxContext, 4096));
  c.heads = TRY(k.Int("attention.head_count", 1, internal::kMaxHeads));
  c.kv_heads = TRY(k.IntOr("attention.head_count_kv", 1, internal::kMaxHeads, c.heads));
  c.ffn = TRY(k.IntOr("feed_forward_length", 0, internal::kMaxFfn, 0));
  c.norm_eps = static_cast<float>(TRY(k.NumberOr("attention.layer_norm_rms_epsilon", 0, 1, 1e-6)));
  const int64_t tokens = ArrayLength(m, "tokenizer.ggml.tokens");
  const std::optional<int64_t> vocab = TRY(k.MaybeInt("vocab_size", 1, internal::kMaxVocab));
  c.vocab = vocab.value_or(tokens);
  if (c.vocab < 1 || c.vocab > internal::kMaxVocab) {
    return ConfigError(
        "vocab_size", std::to_string(c.vocab),
        "1 to " + std::to_string(internal::kMaxVocab) + ", stated or as tokenizer.ggml.tokens");
  }
  return {};
}

Status ParseAttention(const Keys& k, ModelConfig& c) {
  const std::optional<int64_t> rope =
      TRY(k.MaybeInt("rope.dimension_count", 2, internal::kMaxHeadDim));
  const std::optional<int64_t> key =
      TRY(k.MaybeInt("attention.key_length", 2, internal::kMaxWidth));
  if (!key && c.width % c.heads != 0) {
    return ConfigError("attention.head_count", std::to_string(c.heads),
                       "a divisor of embedding_length (" + std::to_string(c.width) + ")");
  }
  c.head_dim = key.value_or(c.width / c.heads);
  const int64_t value = TRY(k.IntOr("attention.value_length", 1, internal::kMaxWidth, c.head_dim));
  if (value != c.head_dim || c.head_dim > internal::kMaxHeadDim) {
    return ConfigError("attention.value_length", std::to_string(value),
                       "attention.key_length (" + std::to_string(c.head_dim) + ")");
  }
  if (rope && *rope != c.head_dim) {
    return ConfigError("rope.dimension_count", std::to_string(*rope),
                       "the head size (" + std::to_string(c.head_dim) + ")");
  }
  // llama's converter permutes q and k so that pairs lie side by side; qwen's leaves halves.
  c.rope_interleaved = c.arch == Arch::kLlama || c.arch == Arch::kMixtral;
  c.qkv_bias = c.arch == Arch::kQwen2;
  c.qk_norm = c.arch == Arch::kQwen3;
  return {};
}

Status ParseLatentAttention(const Keys& k, ModelConfig& c) {
  c.kv_heads = c.heads;  // files state 1 (absorbed) or all heads: the same model
  c.q_latent = TRY(k.IntOr("attention.q_lora_rank", 0, internal::kMaxWidth, 0));
  c.latent = TRY(k.Int("attention.kv_lora_rank", 1, internal::kMaxWidth));
  c.rope_dim = TRY(k.Int("rope.dimension_count", 2, internal::kMaxHeadDim));
  // Newer files give the absorbed sizes under key_length and the real ones under ..._mla.
  std::optional<int64_t> key =
      TRY(k.MaybeInt("attention.key_length_mla", 2, internal::kMaxHeadDim));
  std::optional<int64_t> value =
      TRY(k.MaybeInt("attention.value_length_mla", 1, internal::kMaxHeadDim));
  if (!key) key = TRY(k.Int("attention.key_length", 2, internal::kMaxHeadDim));
  if (!value) value = TRY(k.Int("attention.value_length", 1, internal::kMaxHeadDim));
  c.v_dim = *value;
  c.nope_dim = *key - c.rope_dim;
  if (c.nope_dim < 1) {
    return ConfigError("attention.key_length", std::to_string(*key),
                       "more than rope.dimension_count (" + std::to_string(c.rope_dim) + ")");
  }
  c.rope_interleaved = true;
  return {};
}

Status ParseRope(const Keys& k, ModelConfig& c) {
  c.rope_base = TRY(k.NumberOr("rope.freq_base", 1.0001, 1e12, 10000));
  RopeScaling& r = c.rope_scaling;
  const std::string type = TRY(k.StringOr("rope.scaling.type", "none"));
  r.factor = TRY(k.NumberOr("rope.scaling.factor", 1e-3, 1e6,
                            TRY(k.NumberOr("rope.scale_linear", 1e-3, 1e6, 1))));
  if (type == "linear" || (type == "none" && r.factor != 1)) {
    r.kind = RopeScaling::Kind::kLinear;
  } else if (type == "yarn") {
    r.kind = RopeScaling::Kind::kYarn;
    r.original_context =
        TRY(k.IntOr("rope.scaling.original_context_length", 1, internal::kMaxContext, c.context));
    r.beta_fast = TRY(k.NumberOr("rope.scaling.yarn_beta_fast", 1e-6, 1e6, 32));
    r.beta_slow = TRY(k.NumberOr("rope.scaling.yarn_beta_slow", 1e-6, 1e6, 1));
    r.attention_factor = TRY(k.MaybeNumber("rope.scaling.yarn_attn_factor", 1e-6, 1e6));
    // Stored as 0.1 * mscale_all_dim; mscale itself is not stored and equals it in every release.
    // The float is rounded to the decimal that was meant: 0.0707 stands for 0.707.
    const double stored = TRY(k.NumberOr("rope.scaling.yarn_log_multiplier", 0, 100, 0));
    r.mscale_all_dim = std::round(stored * 1e6) / 1e5;
    if (r.mscale_all_dim != 0) r.mscale = r.mscale_all_dim;
  } else if (type != "none") {
    return Error{Code::kUnsupported, "config: rope.scaling.type is \"" + type +
                                         "\"; none, linear and yarn are done here"};
  }
  return {};
}

Status ParseExperts(const Keys& k, ModelConfig& c) {
  GateShape& g = c.gate;
  g.experts = TRY(k.IntOr("expert_count", 0, internal::kMaxExperts, 0));
  if (g.experts == 0) return {};
  g.top_k = TRY(k.Int("expert_used_count", 1, internal::kMaxExperts));
  c.expert_ffn = TRY(k.IntOr("expert_feed_forward_length", 1, internal::kMaxFfn, c.ffn));
  if (c.arch == Arch::kMixtral) {
    g.normalise = true;
    c.expert_ffn = c.ffn;
    return {};
  }
  c.shared_experts = TRY(k.IntOr("expert_shared_count", 0, 1024, 0));
  c.dense_layers = TRY(k.IntOr("leading_dense_block_count", 0, internal::kMaxLayers, 0));
  g.normalise = TRY(k.BoolOr("expert_weights_norm", false));
  g.scale = static_cast<float>(TRY(k.NumberOr("expert_weights_scale", 0, 1e6, 1)));
  if (g.scale == 0) g.scale = 1;  // how some writers say "none"
  const int64_t function = TRY(k.IntOr("expert_gating_func", 0, 16, 1));
  if (function != 0 && function != 1 && function != 2) {
    return ConfigError("expert_gating_func", std::to_string(function), "1 softmax or 2 sigmoid");
  }
  if (function == 2) {
    g.score = GateShape::Score::kSigmoid;
    g.group_score = GateShape::GroupScore::kTop2Sum;
    c.gate_bias = true;
    c.arch = Arch::kDeepseekV3;
  }
  g.groups = TRY(k.IntOr("expert_group_count", 1, internal::kMaxExperts, 1));
  g.top_groups = TRY(k.IntOr("expert_group_used_count", 1, internal::kMaxExperts, g.groups));
  return {};
}

Status ParseTokens(const Metadata& m, ModelConfig& c) {
  const auto add = [&](const std::optional<uint64_t>& id) {
    if (!id || *id >= static_cast<uint64_t>(c.vocab)) return;
    const auto value = static_cast<int32_t>(*id);
    if (std::find(c.eos_ids.begin(), c.eos_ids.end(), value) == c.eos_ids.end()) {
      c.eos_ids.push_back(value);
    }
  };
  add(TRY(MetaUint(m, "tokenizer.ggml.eos_token_id")));
  add(TRY(MetaUint(m, "tokenizer.ggml.eot_token_id")));
  const std::optional<uint64_t> bos = TRY(MetaUint(m, "tokenizer.ggml.bos_token_id"));
  if (bos && *bos < static_cast<uint64_t>(c.vocab)) c.bos_id = static_cast<int32_t>(*bos);
  return {};
}

// What only the tensors tell: ties, biases, which optional layers were kept.
Status AdoptGgufTensors(const WeightFile& file, ModelConfig& c) {
  c.tied_embeddings = file.Find("output.weight") == nullptr;
  c.qkv_bias = file.Find(c.mla() ? "blk.0.attn_kv_a_mqa.bias" : "blk.0.attn_q.bias") != nullptr;
  c.output_bias = file.Find("blk.0.attn_output.bias") != nullptr;
  c.mlp_bias = file.Find("blk.0.ffn_gate.bias") != nullptr;
  if (c.gate_bias) {
    int64_t layer = 0;
    while (layer < c.layers && !c.moe(layer)) ++layer;
    c.gate_bias = file.Find("blk." + std::to_string(layer) + ".exp_probs_b.bias") != nullptr;
  }
  const std::string mtp = "blk." + std::to_string(c.layers) + ".nextn.eh_proj.weight";
  if (file.Find(mtp) == nullptr) c.mtp_layers = 0;
  const TensorInfo* embed = file.Find("token_embd.weight");
  if (embed != nullptr) c.stored_type = std::string(Info(embed->type).name);
  for (const TensorInfo& t : file.tensors()) {  // the type of the first large matrix of a layer
    if (t.name.starts_with("blk.0.attn_") && t.shape.size() == 2) {
      c.stored_type = std::string(Info(t.type).name);
      break;
    }
  }
  const TensorInfo* factors = file.Find("rope_freqs.weight");
  if (factors == nullptr || c.mla()) return {};
  if (factors->type != DType::kF32 || factors->elements() != c.head_dim / 2) {
    return ConfigError("rope_freqs.weight", std::to_string(factors->elements()) + " values",
                       std::to_string(c.head_dim / 2) + " of type F32, half the head size");
  }
  c.rope_scaling.frequency_factors.resize(static_cast<size_t>(c.head_dim / 2));
  std::memcpy(c.rope_scaling.frequency_factors.data(), factors->bytes.data(),
              factors->bytes.size());
  for (const float v : c.rope_scaling.frequency_factors) {
    if (!(v >= 1e-6f && v <= 1e6f)) {
      return ConfigError("rope_freqs.weight", std::to_string(v), "factors from 1e-6 to 1e6");
    }
  }
  return {};
}

}  // namespace

Result<ModelConfig> ModelConfig::FromGguf(const Metadata& metadata) {
  const std::optional<std::string> name = TRY(MetaString(metadata, "general.architecture"));
  if (!name) {
    return Error{
        Code::kInvalid,
        "config: general.architecture is missing from the GGUF metadata; is this a model?"};
  }
  const Keys k(metadata, *name + ".");
  ModelConfig c;
  const int64_t experts = TRY(k.IntOr("expert_count", 0, internal::kMaxExperts, 0));
  c.arch = TRY(ParseArch(*name, experts > 0));
  TRY(ParseSizes(k, metadata, c));
  if (c.arch == Arch::kDeepseekV2) {
    TRY(ParseLatentAttention(k, c));
  } else {
    TRY(ParseAttention(k, c));
  }
  TRY(ParseRope(k, c));
  TRY(ParseExperts(k, c));
  if (c.ffn < 1 && (c.gate.experts == 0 || c.dense_layers > 0 || c.arch == Arch::kMixtral)) {
    return ConfigError(*name + ".feed_forward_length", std::to_string(c.ffn), "at least 1");
  }
  TRY(ParseTokens(metadata, c));
  const std::optional<int64_t> window =
      TRY(k.MaybeInt("attention.sliding_window", 0, internal::kMaxContext));
  if (window && *window > 0 && *window < c.context && c.arch != Arch::kQwen2) {
    return Error{Code::kUnsupported, "config: attention.sliding_window is " +
                                         std::to_string(*window) + ", under the context of " +
                                         std::to_string(c.context) +
                                         "; only full attention is done here"};
  }
  TRY(internal::ValidateConfig(c));
  return c;
}

Result<ModelConfig> ModelConfig::FromFile(const WeightFile& file) {
  if (file.kind() == WeightFile::Kind::kGguf) {
    ModelConfig c = TRY(FromGguf(file.metadata()));
    TRY(AdoptGgufTensors(file, c));
    TRY(internal::ValidateConfig(c));
    return c;
  }
  ModelConfig c = TRY(FromJson(TRY(file.ReadText("config.json"))));
  const std::string mtp = "model.layers." + std::to_string(c.layers) + ".eh_proj.weight";
  if (file.Find(mtp) == nullptr) c.mtp_layers = 0;
  if (file.Find("lm_head.weight") == nullptr && file.Find("model.embed_tokens.weight") != nullptr) {
    c.tied_embeddings = true;
  }
  return c;
}

}  // namespace hadal
