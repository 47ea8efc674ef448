// config.json of Hugging Face folders, read and written.
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "model/config.h"
#include "model/internal_config.h"

namespace hadal {
namespace {

using internal::ConfigError;
using internal::Quoted;
using nlohmann::json;

// Typed reading of one object. A key that is absent or null counts as missing.
class Fields {
 public:
  explicit Fields(const json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  const json* Find(std::string_view key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  bool Has(std::string_view key) const { return Find(key) != nullptr; }

  Result<std::optional<int64_t>> MaybeInt(std::string_view key, int64_t low, int64_t high) const {
    const json* v = Find(key);
    if (v == nullptr) return std::optional<int64_t>();
    const std::string wanted =
        "a whole number from " + std::to_string(low) + " to " + std::to_string(high);
    int64_t value = 0;
    if (v->is_number_unsigned()) {
      const auto raw = v->get<uint64_t>();
      if (raw > static_cast<uint64_t>(high)) return Wrong(key, *v, wanted);
      value = static_cast<int64_t>(raw);
    } else if (v->is_number_integer()) {
      value = v->get<int64_t>();
    } else if (v->is_number_float()) {
      const double raw = v->get<double>();
      if (!(std::fabs(raw) < 0x1p53) || raw != std::floor(raw)) return Wrong(key, *v, wanted);
      value = static_cast<int64_t>(raw);
    } else {
      return Wrong(key, *v, wanted);
    }
    if (value < low || value > high) return Wrong(key, *v, wanted);
    return std::optional<int64_t>(value);
  }
  Result<int64_t> Int(std::string_view key, int64_t low, int64_t high) const {
    const std::optional<int64_t> v = TRY(MaybeInt(key, low, high));
    if (!v) return Missing(key);
    return *v;
  }
  Result<int64_t> IntOr(std::string_view key, int64_t low, int64_t high, int64_t fallback) const {
    return TRY(MaybeInt(key, low, high)).value_or(fallback);
  }

  Result<std::optional<double>> MaybeNumber(std::string_view key, double low, double high) const {
    const json* v = Find(key);
    if (v == nullptr) return std::optional<double>();
    const double value = v->is_number() ? v->get<double>() : std::nan("");
    if (!(value >= low && value <= high)) {
      return Wrong(key, *v, "a number from " + json(low).dump() + " to " + json(high).dump());
    }
    return std::optional<double>(value);
  }
  Result<double> NumberOr(std::string_view key, double low, double high, double fallback) const {
    return TRY(MaybeNumber(key, low, high)).value_or(fallback);
  }

  Result<bool> BoolOr(std::string_view key, bool fallback) const {
    const json* v = Find(key);
    if (v == nullptr) return fallback;
    if (!v->is_boolean()) return Wrong(key, *v, "true or false");
    return v->get<bool>();
  }
  Result<std::string> StringOr(std::string_view key, std::string_view fallback) const {
    const json* v = Find(key);
    if (v == nullptr) return std::string(fallback);
    if (!v->is_string()) return Wrong(key, *v, "a string");
    return v->get<std::string>();
  }

  Error Wrong(std::string_view key, const json& value, std::string_view wanted) const {
    // Nested values are only named: printing them would recurse as deep as the file likes.
    const std::string text = value.is_array() ? "an array"
                             : value.is_object()
                                 ? "an object"
                                 : value.dump(-1, ' ', true, json::error_handler_t::replace);
    return ConfigError(prefix_ + std::string(key), text, wanted);
  }
  Error Missing(std::string_view key) const {
    return {Code::kInvalid, "config: " + prefix_ + std::string(key) +
                                " is missing; is this the config.json of a language model?"};
  }
  const json& object() const { return object_; }

 private:
  const json& object_;
  std::string prefix_;
};

Result<Arch> ParseArch(const Fields& f) {
  if (!f.Has("model_type")) return f.Missing("model_type");
  const std::string type = TRY(f.StringOr("model_type", ""));
  if (type == "llama" || type == "mistral") return Arch::kLlama;
  if (type == "qwen2") return Arch::kQwen2;
  if (type == "qwen3") return Arch::kQwen3;
  if (type == "mixtral") return Arch::kMixtral;
  if (type == "deepseek_v2") return Arch::kDeepseekV2;
  // Kimi K2 is a deepseek_v3 with other sizes.
  if (type == "deepseek_v3" || type == "kimi_k2") return Arch::kDeepseekV3;
  Error error = ConfigError("model_type", Quoted(type),
                            "llama, mistral, qwen2, qwen3, mixtral, deepseek_v2 or deepseek_v3");
  error.code = Code::kUnsupported;
  return error;
}

Status ParseSizes(const Fields& f, ModelConfig& c) {
  c.layers = TRY(f.Int("num_hidden_layers", 1, internal::kMaxLayers));
  c.width = TRY(f.Int("hidden_size", 1, internal::kMaxWidth));
  c.vocab = TRY(f.Int("vocab_size", 1, internal::kMaxVocab));
  c.context = TRY(f.IntOr("max_position_embeddings", 1, internal::kMaxContext, 4096));
  c.heads = TRY(f.Int("num_attention_heads", 1, internal::kMaxHeads));
  c.kv_heads = TRY(f.IntOr("num_key_value_heads", 1, internal::kMaxHeads, c.heads));
  c.ffn = TRY(f.Int("intermediate_size", 1, internal::kMaxFfn));
  c.norm_eps = static_cast<float>(TRY(f.NumberOr("rms_norm_eps", 0, 1, 1e-6)));
  c.tied_embeddings = TRY(f.BoolOr("tie_word_embeddings", false));
  const std::string act = TRY(f.StringOr("hidden_act", "silu"));
  if (act != "silu" && act != "swish") {
    return ConfigError("hidden_act", Quoted(act), "silu, the only activation done here");
  }
  return {};
}

Status ParseAttention(const Fields& f, ModelConfig& c) {
  if (c.arch == Arch::kDeepseekV2 || c.arch == Arch::kDeepseekV3) {
    c.q_latent = TRY(f.IntOr("q_lora_rank", 1, internal::kMaxWidth, 0));
    c.latent = TRY(f.Int("kv_lora_rank", 1, internal::kMaxWidth));
    c.nope_dim = TRY(f.Int("qk_nope_head_dim", 1, internal::kMaxHeadDim));
    c.rope_dim = TRY(f.Int("qk_rope_head_dim", 2, internal::kMaxHeadDim));
    c.v_dim = TRY(f.Int("v_head_dim", 1, internal::kMaxHeadDim));
    c.rope_interleaved = TRY(f.BoolOr("rope_interleave", true));
    c.qkv_bias = c.output_bias = TRY(f.BoolOr("attention_bias", false));
    return {};
  }
  const std::optional<int64_t> head_dim = TRY(f.MaybeInt("head_dim", 2, internal::kMaxHeadDim));
  if (!head_dim && c.width % c.heads != 0) {
    return ConfigError(
        "hidden_size", std::to_string(c.width),
        "a multiple of num_attention_heads (" + std::to_string(c.heads) + "), or head_dim stated");
  }
  c.head_dim = head_dim.value_or(c.width / c.heads);
  if (c.head_dim > internal::kMaxHeadDim) {
    return ConfigError("head_dim", std::to_string(c.head_dim),
                       "at most " + std::to_string(internal::kMaxHeadDim));
  }
  const bool bias = TRY(f.BoolOr("attention_bias", false));
  c.qkv_bias = c.arch == Arch::kQwen2 || bias;
  c.output_bias = c.arch != Arch::kQwen2 && bias;
  c.mlp_bias = TRY(f.BoolOr("mlp_bias", false));
  c.qk_norm = c.arch == Arch::kQwen3;
  return {};
}

// Windows that reach over the whole context are no windows.
Status RefuseWindows(const Fields& f, const ModelConfig& c) {
  const std::optional<int64_t> window =
      TRY(f.MaybeInt("sliding_window", 0, std::numeric_limits<int64_t>::max()));
  if (!window || *window == 0 || *window >= c.context) return {};
  const bool qwen = c.arch == Arch::kQwen2 || c.arch == Arch::kQwen3;
  if (qwen) {
    if (!TRY(f.BoolOr("use_sliding_window", false))) return {};
    const int64_t first =
        TRY(f.IntOr("max_window_layers", 0, std::numeric_limits<int32_t>::max(), 0));
    if (first >= c.layers) return {};
  }
  const json* types = f.Find("layer_types");
  if (types != nullptr && types->is_array()) {
    bool sliding = false;
    for (const json& type : *types) sliding |= type != "full_attention";
    if (!sliding) return {};
  }
  return Error{Code::kUnsupported, "config: sliding_window is " + std::to_string(*window) +
                                       ", under the context of " + std::to_string(c.context) +
                                       "; only full attention is done here"};
}

Status ParseYarn(const Fields& f, const ModelConfig& c, RopeScaling& r) {
  r.original_context =
      TRY(f.IntOr("original_max_position_embeddings", 1, internal::kMaxContext, c.context));
  if (!f.Has("factor")) {
    r.factor = static_cast<double>(c.context) / static_cast<double>(r.original_context);
  }
  r.beta_fast = TRY(f.NumberOr("beta_fast", 1e-6, 1e6, 32));
  r.beta_slow = TRY(f.NumberOr("beta_slow", 1e-6, 1e6, 1));
  r.mscale = TRY(f.NumberOr("mscale", 0, 1e3, 1));
  r.mscale_all_dim = TRY(f.NumberOr("mscale_all_dim", 0, 1e3, 0));
  r.attention_factor = TRY(f.MaybeNumber("attention_factor", 1e-6, 1e6));
  if (!TRY(f.BoolOr("truncate", true))) {
    return f.Wrong("truncate", *f.Find("truncate"), "true, the only form done here");
  }
  return {};
}

Status ParseRopeScaling(const Fields& f, const ModelConfig& c, RopeScaling& r) {
  const std::string type = TRY(f.StringOr("rope_type", TRY(f.StringOr("type", "default"))));
  if (type == "default") return {};
  r.factor = TRY(f.NumberOr("factor", 1e-3, 1e6, 1));
  if (type == "linear") {
    r.kind = RopeScaling::Kind::kLinear;
    return {};
  }
  if (type == "llama3") {
    r.kind = RopeScaling::Kind::kLlama3;
    r.original_context = TRY(f.Int("original_max_position_embeddings", 1, internal::kMaxContext));
    r.low_freq_factor = TRY(f.NumberOr("low_freq_factor", 1e-6, 1e6, 1));
    r.high_freq_factor = TRY(f.NumberOr("high_freq_factor", 1e-6, 1e6, 4));
    if (r.high_freq_factor <= r.low_freq_factor) {
      return f.Wrong("high_freq_factor", *f.Find("high_freq_factor"), "more than low_freq_factor");
    }
    return {};
  }
  if (type == "yarn") {
    r.kind = RopeScaling::Kind::kYarn;
    return ParseYarn(f, c, r);
  }
  Error error = ConfigError("rope_type", Quoted(type), "default, linear, llama3 or yarn");
  error.code = Code::kUnsupported;
  return error;
}

// rope_theta and rope_scaling beside the sizes, or both inside rope_parameters.
Status ParseRope(const Fields& f, ModelConfig& c) {
  const auto base = [](const Fields& from, double fallback) {
    return from.NumberOr("rope_theta", 1.0001, 1e12, fallback);
  };
  c.rope_base = TRY(base(f, 10000));
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* object = f.Find(key);
    if (object == nullptr) continue;
    if (!object->is_object()) return f.Wrong(key, *object, "an object");
    const Fields rope(*object, std::string(key) + ".");
    c.rope_base = TRY(base(rope, c.rope_base));
    TRY(ParseRopeScaling(rope, c, c.rope_scaling));
    if (TRY(rope.NumberOr("partial_rotary_factor", 0, 1, 1)) != 1) {
      return rope.Wrong("partial_rotary_factor", *rope.Find("partial_rotary_factor"), "1");
    }
  }
  if (TRY(f.NumberOr("partial_rotary_factor", 0, 1, 1)) != 1) {
    return f.Wrong("partial_rotary_factor", *f.Find("partial_rotary_factor"), "1");
  }
  return {};
}

Status ParseDeepseekGate(const Fields& f, ModelConfig& c) {
  const bool v3 = c.arch == Arch::kDeepseekV3;
  c.gate.experts = TRY(f.IntOr("n_routed_experts", 0, internal::kMaxExperts, 0));
  if (c.gate.experts == 0) return {};
  c.gate.top_k = TRY(f.Int("num_experts_per_tok", 1, internal::kMaxExperts));
  c.expert_ffn = TRY(f.Int("moe_intermediate_size", 1, internal::kMaxFfn));
  c.shared_experts = TRY(f.IntOr("n_shared_experts", 0, 1024, 0));
  c.dense_layers = TRY(f.IntOr("first_k_dense_replace", 0, internal::kMaxLayers, 0));
  c.moe_every = TRY(f.IntOr("moe_layer_freq", 1, internal::kMaxLayers, 1));
  c.gate.normalise = TRY(f.BoolOr("norm_topk_prob", v3));
  c.gate.scale = static_cast<float>(TRY(f.NumberOr("routed_scaling_factor", 0, 1e6, 1)));

  const std::string score = TRY(f.StringOr("scoring_func", v3 ? "sigmoid" : "softmax"));
  if (score != "sigmoid" && score != "softmax") {
    return ConfigError("scoring_func", Quoted(score), "sigmoid or softmax");
  }
  c.gate.score = score == "sigmoid" ? GateShape::Score::kSigmoid : GateShape::Score::kSoftmax;
  const std::string method = TRY(f.StringOr("topk_method", v3 ? "noaux_tc" : "greedy"));
  if (method == "noaux_tc") {
    c.gate_bias = true;
    c.gate.group_score = GateShape::GroupScore::kTop2Sum;
  } else if (method == "greedy") {
    return {};  // no groups, whatever n_group says
  } else if (method != "group_limited_greedy") {
    return ConfigError("topk_method", Quoted(method), "greedy, group_limited_greedy or noaux_tc");
  }
  c.gate.groups = TRY(f.IntOr("n_group", 1, internal::kMaxExperts, 1));
  c.gate.top_groups = TRY(f.IntOr("topk_group", 1, internal::kMaxExperts, c.gate.groups));
  return {};
}

Status ParseExperts(const Fields& f, ModelConfig& c) {
  if (c.arch == Arch::kDeepseekV2 || c.arch == Arch::kDeepseekV3) {
    TRY(ParseDeepseekGate(f, c));
    c.mtp_layers =
        TRY(f.IntOr("num_nextn_predict_layers", 0, 16, TRY(f.IntOr("num_mtp_layers", 0, 16, 0))));
    return {};
  }
  if (c.arch != Arch::kMixtral) return {};
  c.gate.experts = TRY(f.Int("num_local_experts", 1, internal::kMaxExperts));
  c.gate.top_k = TRY(f.IntOr("num_experts_per_tok", 1, internal::kMaxExperts, 2));
  c.gate.normalise = true;
  c.expert_ffn = c.ffn;
  return {};
}

Status ParseQuantization(const Fields& f, ModelConfig& c) {
  c.stored_type = TRY(f.StringOr("torch_dtype", TRY(f.StringOr("dtype", "float32"))));
  const json* q = f.Find("quantization_config");
  if (q == nullptr) return {};
  if (!q->is_object()) return f.Wrong("quantization_config", *q, "an object");
  const Fields quant(*q, "quantization_config.");
  const std::string method = TRY(quant.StringOr("quant_method", ""));
  const std::string format = TRY(quant.StringOr("fmt", "e4m3"));
  if (method != "fp8" || format != "e4m3") {
    return Error{Code::kUnsupported, "config: quantization_config is " + method + " " + format +
                                         "; of these only fp8 e4m3 in blocks is read here"};
  }
  const json* block = quant.Find("weight_block_size");
  if (block != nullptr && *block != json::array({128, 128})) {
    return quant.Wrong("weight_block_size", *block, "[128, 128]");
  }
  c.stored_type = "fp8";
  return {};
}

Status ParseTokens(const Fields& f, ModelConfig& c) {
  const auto id = [&](const json& v) { return v.is_number_integer() && v >= 0 && v < c.vocab; };
  if (const json* eos = f.Find("eos_token_id")) {
    const size_t count = eos->is_array() ? eos->size() : 1;
    for (size_t i = 0; i < count; ++i) {
      const json& v = eos->is_array() ? (*eos)[i] : *eos;
      // Some published configs state -1 or an id past the table for "none".
      if (!v.is_number_integer()) return f.Wrong("eos_token_id", *eos, "a token id or a list");
      if (id(v) && c.eos_ids.size() < 64) c.eos_ids.push_back(v.get<int32_t>());
    }
  }
  if (const json* bos = f.Find("bos_token_id")) {
    if (!bos->is_number_integer()) return f.Wrong("bos_token_id", *bos, "a token id");
    if (id(*bos)) c.bos_id = bos->get<int32_t>();
  }
  return {};
}

// The double that prints as the shortest text of the float: 1e-06, not 9.999999974752427e-07.
double Shortest(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  double result = 0;
  std::from_chars(text, end, result);
  return result;
}

json RopeJson(const RopeScaling& r) {
  switch (r.kind) {
    case RopeScaling::Kind::kNone:
      break;
    case RopeScaling::Kind::kLinear:
      return {{"type", "linear"}, {"rope_type", "linear"}, {"factor", r.factor}};
    case RopeScaling::Kind::kLlama3:
      return {{"rope_type", "llama3"},
              {"factor", r.factor},
              {"low_freq_factor", r.low_freq_factor},
              {"high_freq_factor", r.high_freq_factor},
              {"original_max_position_embeddings", r.original_context}};
    case RopeScaling::Kind::kYarn: {
      json j = {
          {"type", "yarn"},           {"rope_type", "yarn"},
          {"factor", r.factor},       {"original_max_position_embeddings", r.original_context},
          {"beta_fast", r.beta_fast}, {"beta_slow", r.beta_slow}};
      if (r.mscale_all_dim != 0) {
        j["mscale"] = r.mscale;
        j["mscale_all_dim"] = r.mscale_all_dim;
      }
      if (r.attention_factor) j["attention_factor"] = *r.attention_factor;
      return j;
    }
  }
  return nullptr;
}

const char* ClassName(Arch arch) {
  switch (arch) {
    case Arch::kLlama:
      return "LlamaForCausalLM";
    case Arch::kQwen2:
      return "Qwen2ForCausalLM";
    case Arch::kQwen3:
      return "Qwen3ForCausalLM";
    case Arch::kMixtral:
      return "MixtralForCausalLM";
    case Arch::kDeepseekV2:
      return "DeepseekV2ForCausalLM";
    case Arch::kDeepseekV3:
      return "DeepseekV3ForCausalLM";
  }
  return "";
}

void LatentAttentionJson(const ModelConfig& c, json& j) {
  j["q_lora_rank"] = c.q_latent > 0 ? json(c.q_latent) : json(nullptr);
  j["kv_lora_rank"] = c.latent;
  j["qk_nope_head_dim"] = c.nope_dim;
  j["qk_rope_head_dim"] = c.rope_dim;
  j["v_head_dim"] = c.v_dim;
  j["rope_interleave"] = c.rope_interleaved;
  j["num_nextn_predict_layers"] = c.mtp_layers;
  j["first_k_dense_replace"] = c.gate.experts > 0 ? c.dense_layers : c.layers;
  j["moe_layer_freq"] = c.moe_every;
  if (c.gate.experts == 0) return;
  const GateShape& g = c.gate;
  j["n_routed_experts"] = g.experts;
  j["num_experts_per_tok"] = g.top_k;
  j["n_shared_experts"] = c.shared_experts;
  j["moe_intermediate_size"] = c.expert_ffn;
  j["n_group"] = g.groups;
  j["topk_group"] = g.top_groups;
  j["scoring_func"] = g.score == GateShape::Score::kSigmoid ? "sigmoid" : "softmax";
  j["topk_method"] = c.gate_bias ? "noaux_tc" : g.groups > 1 ? "group_limited_greedy" : "greedy";
  j["norm_topk_prob"] = g.normalise;
  j["routed_scaling_factor"] = Shortest(g.scale);
}

}  // namespace

Result<ModelConfig> ModelConfig::FromJson(std::string_view config_json) {
  const json root = json::parse(config_json, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) {
    return Error{Code::kInvalid,
                 "config: not a JSON object; is this the config.json of a model folder?"};
  }
  const Fields f(root);
  ModelConfig c;
  c.arch = TRY(ParseArch(f));
  TRY(ParseSizes(f, c));
  TRY(ParseAttention(f, c));
  TRY(RefuseWindows(f, c));
  TRY(ParseRope(f, c));
  TRY(ParseExperts(f, c));
  TRY(ParseQuantization(f, c));
  TRY(ParseTokens(f, c));
  TRY(internal::ValidateConfig(c));
  return c;
}

std::string ModelConfig::ToJson(std::string_view torch_dtype) const {
  json j = {{"architectures", {ClassName(arch)}},
            {"model_type", ArchName(arch)},
            {"vocab_size", vocab},
            {"hidden_size", width},
            {"intermediate_size", ffn},
            {"num_hidden_layers", layers},
            {"num_attention_heads", heads},
            {"num_key_value_heads", kv_heads},
            {"max_position_embeddings", context},
            {"rms_norm_eps", Shortest(norm_eps)},
            {"rope_theta", rope_base},
            {"rope_scaling", RopeJson(rope_scaling)},
            {"hidden_act", "silu"},
            {"attention_bias", qkv_bias && arch != Arch::kQwen2},
            {"mlp_bias", mlp_bias},
            {"tie_word_embeddings", tied_embeddings},
            {"torch_dtype", torch_dtype}};
  if (mla()) {
    LatentAttentionJson(*this, j);
  } else {
    j["head_dim"] = head_dim;
  }
  if (arch == Arch::kMixtral) {
    j["num_local_experts"] = gate.experts;
    j["num_experts_per_tok"] = gate.top_k;
  }
  if (bos_id) j["bos_token_id"] = *bos_id;
  if (eos_ids.size() == 1) j["eos_token_id"] = eos_ids[0];
  if (eos_ids.size() > 1) j["eos_token_id"] = eos_ids;
  return j.dump(2) + "\n";
}

}  // namespace hadal
