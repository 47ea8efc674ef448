#include "cli/gguf_metadata.h"

#include <cmath>
#include <numbers>

#include "cli/param_reader.h"

namespace hadal::cli {
namespace {

// GGUF's numbers of value types.
constexpr uint32_t kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9;

MetaValue Float(double value) {
  return {
      .gguf_type = kF32, .array_type = 0, .value = static_cast<double>(static_cast<float>(value))};
}
MetaValue Bool(bool value) { return {.gguf_type = kBool, .array_type = 0, .value = value}; }
MetaValue Array(uint32_t type, MetaArray values) {
  return {.gguf_type = kArray, .array_type = type, .value = std::move(values)};
}

const char* GgufArchName(Arch arch) {
  switch (arch) {
    case Arch::kLlama:
    case Arch::kMixtral:
      return "llama";
    case Arch::kQwen2:
      return "qwen2";
    case Arch::kQwen3:
      return "qwen3";
    case Arch::kDeepseekV2:
    case Arch::kDeepseekV3:
      return "deepseek2";
  }
  return "";
}

class Writer {
 public:
  Writer(Metadata& metadata, std::string prefix) : m_(metadata), prefix_(std::move(prefix)) {}
  void Int(const char* key, int64_t value) {
    m_[prefix_ + key] = MetaU32(static_cast<uint64_t>(value));
  }
  void Number(const char* key, double value) { m_[prefix_ + key] = Float(value); }
  void Flag(const char* key, bool value) { m_[prefix_ + key] = Bool(value); }
  void Text(const char* key, const char* value) { m_[prefix_ + key] = MetaText(value); }

 private:
  Metadata& m_;
  std::string prefix_;
};

void AddRope(const ModelConfig& c, Writer& w) {
  w.Number("rope.freq_base", c.rope_base);
  w.Int("rope.dimension_count", c.mla() ? c.rope_dim : c.head_dim);
  const RopeScaling& r = c.rope_scaling;
  if (r.kind == RopeScaling::Kind::kLinear) {
    w.Text("rope.scaling.type", "linear");
    w.Number("rope.scaling.factor", r.factor);
  }
  if (r.kind != RopeScaling::Kind::kYarn) return;
  w.Text("rope.scaling.type", "yarn");
  w.Number("rope.scaling.factor", r.factor);
  w.Int("rope.scaling.original_context_length", r.original_context);
  w.Number("rope.scaling.yarn_beta_fast", r.beta_fast);
  w.Number("rope.scaling.yarn_beta_slow", r.beta_slow);
  if (r.mscale_all_dim != 0) w.Number("rope.scaling.yarn_log_multiplier", 0.1 * r.mscale_all_dim);
  if (r.attention_factor) w.Number("rope.scaling.yarn_attn_factor", *r.attention_factor);
}

void AddAttention(const ModelConfig& c, Writer& w) {
  w.Int("attention.head_count", c.heads);
  w.Int("attention.head_count_kv", c.mla() ? c.heads : c.kv_heads);
  w.Number("attention.layer_norm_rms_epsilon", c.norm_eps);
  if (!c.mla()) {
    w.Int("attention.key_length", c.head_dim);
    w.Int("attention.value_length", c.head_dim);
    return;
  }
  if (c.q_latent > 0) w.Int("attention.q_lora_rank", c.q_latent);
  w.Int("attention.kv_lora_rank", c.latent);
  w.Int("attention.key_length", c.nope_dim + c.rope_dim);
  w.Int("attention.value_length", c.v_dim);
}

void AddExperts(const ModelConfig& c, Writer& w) {
  const GateShape& g = c.gate;
  if (c.mla()) w.Int("leading_dense_block_count", g.experts > 0 ? c.dense_layers : c.layers);
  if (g.experts == 0) return;
  w.Int("expert_count", g.experts);
  w.Int("expert_used_count", g.top_k);
  if (!c.mla()) return;
  w.Int("expert_feed_forward_length", c.expert_ffn);
  w.Int("expert_shared_count", c.shared_experts);
  w.Number("expert_weights_scale", g.scale);
  w.Flag("expert_weights_norm", g.normalise);
  w.Int("expert_gating_func", g.score == GateShape::Score::kSigmoid ? 2 : 1);
  if (g.groups > 1) {
    w.Int("expert_group_count", g.groups);
    w.Int("expert_group_used_count", g.top_groups);
  }
}

}  // namespace

MetaValue MetaU32(uint64_t value) { return {.gguf_type = kU32, .array_type = 0, .value = value}; }
MetaValue MetaText(std::string value) {
  return {.gguf_type = kString, .array_type = 0, .value = std::move(value)};
}

Metadata ArchMetadata(const ModelConfig& c, const std::string& name, DType type) {
  const std::string arch = GgufArchName(c.arch);
  Metadata m;
  m["general.architecture"] = MetaText(arch);
  m["general.type"] = MetaText("model");
  m["general.name"] = MetaText(name);
  m["general.file_type"] = MetaU32(GgufFileType(type));
  m["general.quantization_version"] = MetaU32(2);
  Writer w(m, arch + ".");
  w.Int("vocab_size", c.vocab);
  w.Int("context_length", c.context);
  w.Int("embedding_length", c.width);
  w.Int("block_count", c.layers);
  w.Int("feed_forward_length", c.ffn > 0 ? c.ffn : c.expert_ffn);
  AddAttention(c, w);
  AddRope(c, w);
  AddExperts(c, w);
  return m;
}

void AddTokenizer(const TokenizerSpec& spec, int64_t vocab, const std::vector<int32_t>& eos_ids,
                  Metadata& m) {
  const bool spm = spec.model == TokenizerSpec::Model::kSpm;
  const std::string key = "tokenizer.ggml.";
  m[key + "model"] = MetaText(spm ? "llama" : "gpt2");
  m[key + "pre"] = MetaText(spec.pre);
  std::vector<std::string> tokens = spec.tokens;
  std::vector<int64_t> types(spec.types.begin(), spec.types.end());
  std::vector<double> scores(spec.scores.begin(), spec.scores.end());
  types.resize(tokens.size(), 1);
  while (static_cast<int64_t>(tokens.size()) < vocab) {
    tokens.push_back("[PAD" + std::to_string(tokens.size()) + "]");
    types.push_back(5);
  }
  if (!scores.empty()) scores.resize(tokens.size(), -1000.0);
  m[key + "tokens"] = Array(kString, std::move(tokens));
  m[key + "token_type"] = Array(kI32, std::move(types));
  if (!scores.empty()) m[key + "scores"] = Array(kF32, std::move(scores));
  if (!spm) m[key + "merges"] = Array(kString, spec.merges);
  const auto id = [&](const char* name, std::optional<int32_t> value) {
    if (value) m[key + name] = MetaU32(static_cast<uint64_t>(*value));
  };
  id("bos_token_id", spec.bos);
  id("eos_token_id", spec.eos);
  id("unknown_token_id", spec.unknown);
  id("padding_token_id", spec.pad);
  for (const int32_t eos : eos_ids) {
    if (spec.eos != eos) id("eot_token_id", eos);
  }
  m[key + "add_bos_token"] = Bool(spec.add_bos);
  m[key + "add_eos_token"] = Bool(spec.add_eos);
  if (spm) m[key + "add_space_prefix"] = Bool(spec.add_space_prefix);
}

std::vector<float> RopeFactors(const ModelConfig& c) {
  const RopeScaling& r = c.rope_scaling;
  if (!r.frequency_factors.empty()) return r.frequency_factors;
  if (r.kind != RopeScaling::Kind::kLlama3) return {};
  const auto original = static_cast<double>(r.original_context);
  std::vector<float> factors;
  for (int64_t i = 0; i < c.head_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(c.head_dim);
    const double wavelength = 2 * std::numbers::pi * std::pow(c.rope_base, exponent);
    double factor = 1;
    if (wavelength > original / r.low_freq_factor) {
      factor = r.factor;
    } else if (wavelength >= original / r.high_freq_factor) {
      const double smooth =
          (original / wavelength - r.low_freq_factor) / (r.high_freq_factor - r.low_freq_factor);
      factor = 1 / ((1 - smooth) / r.factor + smooth);
    }
    factors.push_back(static_cast<float>(factor));
  }
  return factors;
}

}  // namespace hadal::cli
