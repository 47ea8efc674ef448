#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "model/internal_config.h"
#include "model/internal_model.h"
#include "model/model.h"
#include "model/plan.h"

namespace hadal {
namespace {

constexpr std::string_view kV3 = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false, "bos_token_id": 0,
  "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3, "hidden_act": "silu",
  "hidden_size": 7168, "initializer_range": 0.02, "intermediate_size": 18432,
  "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3",
  "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256,
  "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 128,
  "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
  "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
  "qk_rope_head_dim": 64, "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3",
  "quant_method": "fp8", "weight_block_size": [128, 128]}, "rms_norm_eps": 1e-06,
  "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
  "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"},
  "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
  "tie_word_embeddings": false, "topk_group": 4, "topk_method": "noaux_tc",
  "torch_dtype": "bfloat16", "v_head_dim": 128, "vocab_size": 129280})";

constexpr std::string_view kV2 = R"({
  "model_type": "deepseek_v2", "hidden_size": 5120, "intermediate_size": 12288,
  "moe_intermediate_size": 1536, "num_hidden_layers": 60, "num_attention_heads": 128,
  "num_key_value_heads": 128, "n_shared_experts": 2, "n_routed_experts": 160,
  "routed_scaling_factor": 16.0, "kv_lora_rank": 512, "q_lora_rank": 1536,
  "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
  "topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3,
  "num_experts_per_tok": 6, "first_k_dense_replace": 1, "norm_topk_prob": false,
  "scoring_func": "softmax", "vocab_size": 102400, "max_position_embeddings": 163840,
  "rms_norm_eps": 1e-06, "rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40,
  "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1, "mscale": 0.707,
  "mscale_all_dim": 0.707}, "torch_dtype": "bfloat16"})";

constexpr std::string_view kV2Lite = R"({
  "model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944,
  "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16,
  "num_key_value_heads": 16, "n_shared_experts": 2, "n_routed_experts": 64,
  "routed_scaling_factor": 1.0, "kv_lora_rank": 512, "q_lora_rank": null,
  "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128, "topk_method": "greedy",
  "n_group": 1, "topk_group": 1, "num_experts_per_tok": 6, "first_k_dense_replace": 1,
  "norm_topk_prob": false, "scoring_func": "softmax", "vocab_size": 102400,
  "max_position_embeddings": 163840, "rms_norm_eps": 1e-06, "rope_theta": 10000,
  "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
  "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707},
  "torch_dtype": "bfloat16"})";

ModelConfig Parse(std::string_view text) {
  Result<ModelConfig> config = ModelConfig::FromJson(text);
  EXPECT_TRUE(config.ok()) << (config.ok() ? "" : config.error().message);
  return config.ok() ? *config : ModelConfig();
}

std::string With(std::string_view text, std::string_view key, std::string_view value) {
  // The last of two equal keys counts.
  return std::string(text.substr(0, text.rfind('}'))) + ", \"" + std::string(key) +
         "\": " + std::string(value) + "}";
}

std::string Message(std::string_view text) {
  const Result<ModelConfig> config = ModelConfig::FromJson(text);
  return config.ok() ? "accepted" : config.error().message;
}

int64_t Listed(const ModelConfig& config) {
  int64_t total = 0;
  for (const ParamSpec& spec : ListParams(config)) {
    int64_t n = 1;
    for (const int64_t d : spec.shape) n *= d;
    total += n;
  }
  return total;
}

// deepseek-facts: the published totals, from config.json alone.
TEST(CountTest, DeepseekV3) {
  const ModelConfig c = Parse(kV3);
  const ModelCounts n = Count(c);
  EXPECT_EQ(n.attention_per_layer, 187107328);
  EXPECT_EQ(n.expert, 44040192);
  EXPECT_EQ(n.dense_ffn_layer, 583483392);
  EXPECT_EQ(n.moe_layer, 11507286016);
  EXPECT_EQ(n.total_parameters, 671026404352);
  EXPECT_EQ(n.routing_biases, 14848);
  EXPECT_EQ(n.active_parameters, 37552282624);
  EXPECT_EQ(n.active_without_embedding, 36625603584);
  EXPECT_EQ(n.embedding, 926679040);
  EXPECT_EQ(n.mtp_parameters, 11610067968);
  EXPECT_EQ(n.kv_elements_per_token, 35136);
  EXPECT_EQ(2 * n.kv_elements_per_token, 70272);
  EXPECT_EQ(n.flops_per_token, 2 * n.active_without_embedding);
  // The list holds the biases of the routers too, MTP's included.
  EXPECT_EQ(Listed(c), n.total_parameters + n.routing_biases + n.mtp_parameters + 256);
}

TEST(CountTest, DeepseekV2) {
  const ModelConfig c = Parse(kV2);
  const ModelCounts n = Count(c);
  EXPECT_EQ(n.attention_per_layer, 149227520);
  EXPECT_EQ(n.expert, 23592960);
  EXPECT_EQ(n.dense_ffn_layer, 337981440);
  EXPECT_EQ(n.moe_layer, 3972116480);
  EXPECT_EQ(n.total_parameters, 235741434880);
  EXPECT_EQ(n.active_parameters, 21375800320);
  EXPECT_EQ(n.active_without_embedding, 20851512320);
  EXPECT_EQ(n.kv_elements_per_token, 34560);
  EXPECT_EQ(Listed(c), n.total_parameters);
}

TEST(CountTest, DeepseekV2Lite) {
  const ModelConfig c = Parse(kV2Lite);
  const ModelCounts n = Count(c);
  EXPECT_EQ(n.attention_per_layer, 13763072);
  EXPECT_EQ(n.expert, 8650752);
  EXPECT_EQ(n.dense_ffn_layer, 81007104);
  EXPECT_EQ(n.moe_layer, 584847872);
  EXPECT_EQ(n.total_parameters, 15706484224);
  EXPECT_EQ(n.active_parameters, 2661150208);
  EXPECT_EQ(n.active_without_embedding, 2451435008);
  EXPECT_EQ(2 * n.kv_elements_per_token, 31104);
  EXPECT_EQ(Listed(c), n.total_parameters);
}

TEST(CountTest, TiedLlamaCountsItsTableOnce) {
  const ModelConfig c = Parse(R"({"model_type": "llama", "hidden_size": 576, "vocab_size": 49152,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "intermediate_size": 1536, "tie_word_embeddings": true, "max_position_embeddings": 8192})");
  EXPECT_EQ(Count(c).total_parameters, 134515008);  // SmolLM2-135M
  EXPECT_EQ(Count(c).active_without_embedding, 134515008);
  EXPECT_EQ(Listed(c), 134515008);
}

TEST(ConfigTest, DeepseekV3Gate) {
  const ModelConfig c = Parse(kV3);
  EXPECT_EQ(c.arch, Arch::kDeepseekV3);
  EXPECT_EQ(c.gate.score, GateShape::Score::kSigmoid);
  EXPECT_EQ(c.gate.group_score, GateShape::GroupScore::kTop2Sum);
  EXPECT_EQ(c.gate.groups, 8);
  EXPECT_EQ(c.gate.top_groups, 4);
  EXPECT_TRUE(c.gate.normalise);
  EXPECT_TRUE(c.gate_bias);
  EXPECT_FLOAT_EQ(c.gate.scale, 2.5f);
  EXPECT_TRUE(c.rope_interleaved);
  EXPECT_EQ(c.stored_type, "fp8");
  EXPECT_FALSE(c.moe(2));
  EXPECT_TRUE(c.moe(3));
  EXPECT_NEAR(c.attention_scale(), 0.1352338, 1e-7);  // 192^-0.5 * 1.3688879^2
}

TEST(ConfigTest, DeepseekV2Gate) {
  const ModelConfig v2 = Parse(kV2);
  EXPECT_EQ(v2.gate.score, GateShape::Score::kSoftmax);
  EXPECT_EQ(v2.gate.group_score, GateShape::GroupScore::kMax);
  EXPECT_EQ(v2.gate.groups, 8);
  EXPECT_EQ(v2.gate.top_groups, 3);
  EXPECT_FALSE(v2.gate.normalise);
  EXPECT_FALSE(v2.gate_bias);
  EXPECT_FLOAT_EQ(v2.gate.scale, 16.0f);
  EXPECT_NEAR(v2.attention_scale(), 0.1147214, 1e-7);
  const ModelConfig lite = Parse(kV2Lite);
  EXPECT_EQ(lite.q_latent, 0);
  EXPECT_EQ(lite.gate.groups, 1);
  EXPECT_FLOAT_EQ(lite.gate.scale, 1.0f);
}

// deepseek-facts §1.3: the ramp of V3's YaRN runs from frequency 10 to 23.
TEST(ConfigTest, YarnFrequencies) {
  const ModelConfig c = Parse(kV3);
  const Exec exec(1, Isa::kScalar);
  std::vector<float> table(2 * 64);
  internal::FillRope(exec, c, 0, {table.data(), 2, 64});
  const auto angle = [&](int k) { return std::atan2(table[64 + 32 + k], table[64 + k]); };
  for (const int k : {0, 9, 10}) EXPECT_NEAR(angle(k), std::pow(1e4, -k / 32.0), 1e-6) << k;
  for (const int k : {23, 31}) EXPECT_NEAR(angle(k), std::pow(1e4, -k / 32.0) / 40, 1e-7) << k;
  const double ramp = (15 - 10) / 13.0;
  EXPECT_NEAR(angle(15), std::pow(1e4, -15 / 32.0) * (1 - ramp + ramp / 40), 1e-7);
  EXPECT_EQ(table[0], 1.0f);  // no temperature on cos and sin
}

TEST(ConfigTest, RopeParametersAndRopeScalingSayTheSame) {
  const std::string base = R"({"model_type": "llama", "hidden_size": 64, "vocab_size": 100,
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128})";
  const ModelConfig old = Parse(With(With(base, "rope_theta", "500000.0"), "rope_scaling",
                                     R"({"rope_type": "llama3", "factor": 8.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"));
  const ModelConfig now = Parse(With(base, "rope_parameters", R"({"rope_type": "llama3",
    "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192})"));
  for (const ModelConfig& c : {old, now}) {
    EXPECT_EQ(c.rope_base, 500000.0);
    EXPECT_EQ(c.rope_scaling.kind, RopeScaling::Kind::kLlama3);
    EXPECT_EQ(c.rope_scaling.factor, 8.0);
    EXPECT_EQ(c.rope_scaling.original_context, 8192);
  }
}

TEST(ConfigTest, ArchitecturesDiffer) {
  const std::string base = R"({"hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128})";
  const ModelConfig qwen2 = Parse(With(base, "model_type", "\"qwen2\""));
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.output_bias);
  const ModelConfig qwen3 = Parse(With(With(base, "model_type", "\"qwen3\""), "head_dim", "32"));
  EXPECT_TRUE(qwen3.qk_norm);
  EXPECT_FALSE(qwen3.qkv_bias);
  EXPECT_EQ(qwen3.head_dim, 32);
  const ModelConfig mixtral =
      Parse(With(With(base, "model_type", "\"mixtral\""), "num_local_experts", "8"));
  EXPECT_EQ(mixtral.gate.top_k, 2);
  EXPECT_TRUE(mixtral.gate.normalise);
  const ModelConfig mistral = Parse(With(base, "model_type", "\"mistral\""));
  EXPECT_EQ(mistral.arch, Arch::kLlama);
}

TEST(ConfigTest, WrittenConfigReadsBack) {
  for (const std::string_view text : {kV3, kV2, kV2Lite}) {
    const ModelConfig c = Parse(text);
    const ModelConfig again = Parse(c.ToJson("bfloat16"));
    EXPECT_EQ(Listed(again), Listed(c));
    EXPECT_EQ(again.attention_scale(), c.attention_scale());
    EXPECT_EQ(again.gate.groups, c.gate.groups);
    EXPECT_EQ(again.gate.scale, c.gate.scale);
    EXPECT_EQ(again.eos_ids, c.eos_ids);
    EXPECT_EQ(again.stored_type, "bfloat16");
    EXPECT_EQ(again.norm_eps, c.norm_eps);
  }
}

struct Hostile {
  const char *key, *value, *expect;  // expect: what the message must contain
};

TEST(ConfigTest, HostileNumbersAreErrorsThatNameTheKey) {
  const Hostile cases[] = {
      {"num_hidden_layers", "0", "num_hidden_layers is 0"},
      {"num_hidden_layers", "-3", "num_hidden_layers is -3"},
      {"num_hidden_layers", "1e30", "num_hidden_layers is 1e+30"},
      {"num_hidden_layers", "2.5", "num_hidden_layers is 2.5"},
      {"num_hidden_layers", "\"61\"", "num_hidden_layers is \"61\""},
      {"num_hidden_layers", "null", "num_hidden_layers is missing"},
      {"num_hidden_layers", "[61]", "num_hidden_layers is an array"},
      {"hidden_size", "9223372036854775807", "hidden_size is 9223372036854775807"},
      {"hidden_size", "18446744073709551615", "hidden_size is 18446744073709551615"},
      {"vocab_size", "-1", "vocab_size is -1"},
      {"vocab_size", "99999999999", "vocab_size is 99999999999"},
      {"num_attention_heads", "0", "num_attention_heads is 0"},
      {"num_key_value_heads", "7", "num_key_value_heads is 7"},
      {"qk_rope_head_dim", "63", "qk_rope_head_dim is 63"},
      {"kv_lora_rank", "0", "kv_lora_rank is 0"},
      {"num_experts_per_tok", "257", "num_experts_per_tok is 257"},
      {"num_experts_per_tok", "200", "num_experts_per_tok is 200"},
      {"n_group", "7", "n_group is 7"},
      {"n_group", "0", "n_group is 0"},
      {"n_group", "256", "num_experts_per_tok is 8"},
      {"topk_group", "9", "topk_group is 9"},
      {"n_routed_experts", "16384", "n_routed_experts is 16384"},
      {"first_k_dense_replace", "62", "first_k_dense_replace is 62"},
      {"moe_layer_freq", "0", "moe_layer_freq is 0"},
      {"rope_theta", "0", "rope_theta is 0"},
      {"rope_theta", "-1e4", "rope_theta is -10000"},
      {"rms_norm_eps", "-1", "rms_norm_eps is -1"},
      {"rms_norm_eps", "\"nan\"", "rms_norm_eps is \"nan\""},
      {"routed_scaling_factor", "1e300", "routed_scaling_factor is 1e+300"},
      {"hidden_act", "\"gelu\"", "hidden_act is \"gelu\""},
      {"model_type", "\"gpt2\"", "model_type is \"gpt2\""},
      {"scoring_func", "\"relu\"", "scoring_func is \"relu\""},
      {"topk_method", "\"best\"", "topk_method is \"best\""},
      {"rope_scaling", "{\"type\": \"longrope\"}", "rope_type is \"longrope\""},
      {"rope_scaling", "{\"type\": \"yarn\", \"factor\": -1}", "rope_scaling.factor is -1"},
      {"rope_scaling", "[1]", "rope_scaling is an array"},
      {"quantization_config", "{\"quant_method\": \"gptq\"}", "gptq"},
      {"tie_word_embeddings", "1", "tie_word_embeddings is 1"},
      {"eos_token_id", "\"x\"", "eos_token_id is \"x\""},
  };
  for (const Hostile& h : cases) {
    const std::string message = Message(With(kV3, h.key, h.value));
    EXPECT_NE(message.find(h.expect), std::string::npos) << h.key << ": " << message;
  }
  EXPECT_NE(Message("").find("not a JSON object"), std::string::npos);
  EXPECT_NE(Message("[]").find("not a JSON object"), std::string::npos);
  EXPECT_NE(Message("{}").find("model_type is missing"), std::string::npos);
}

TEST(ConfigTest, WholeModelMustFitCounting) {
  std::string text(kV3);
  for (const auto& [key, value] : {std::pair("hidden_size", "1048576"),
                                   {"moe_intermediate_size", "4194304"},
                                   {"n_routed_experts", "4096"},
                                   {"vocab_size", "16777216"}}) {
    text = With(text, key, value);
  }
  EXPECT_NE(Message(text).find("2^53"), std::string::npos) << Message(text);
}

TEST(ConfigTest, DeepNestingIsAnErrorNotACrash) {
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  EXPECT_NE(Message(With(kV3, "hidden_size", deep)).find("an array"), std::string::npos);
  EXPECT_NE(Message(With(kV3, "eos_token_id", deep)).find("an array"), std::string::npos);
}

TEST(ConfigTest, ActiveSlidingWindowsAreRefusedByName) {
  const std::string base = R"({"hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 128, "max_position_embeddings": 8192})";
  const std::string mistral = With(base, "model_type", "\"mistral\"");
  EXPECT_NE(Message(With(mistral, "sliding_window", "4096")).find("sliding_window is 4096"),
            std::string::npos);
  EXPECT_EQ(Message(With(mistral, "sliding_window", "8192")), "accepted");
  EXPECT_EQ(Message(With(mistral, "sliding_window", "null")), "accepted");
  const std::string qwen = With(With(base, "model_type", "\"qwen2\""), "sliding_window", "4096");
  EXPECT_EQ(Message(With(qwen, "use_sliding_window", "false")), "accepted");
  EXPECT_NE(Message(With(qwen, "use_sliding_window", "true")).find("sliding_window"),
            std::string::npos);
}

MetaValue U(uint64_t v) { return {4, 0, v}; }
MetaValue F(double v) { return {6, 0, v}; }
MetaValue S(std::string v) { return {8, 0, std::move(v)}; }
MetaValue B(bool v) { return {7, 0, v}; }

Metadata V3Gguf() {
  return {{"general.architecture", S("deepseek2")},
          {"deepseek2.block_count", U(61)},
          {"deepseek2.context_length", U(163840)},
          {"deepseek2.embedding_length", U(7168)},
          {"deepseek2.feed_forward_length", U(18432)},
          {"deepseek2.attention.head_count", U(128)},
          {"deepseek2.attention.head_count_kv", U(1)},
          {"deepseek2.rope.freq_base", F(10000)},
          {"deepseek2.attention.layer_norm_rms_epsilon", F(1e-6)},
          {"deepseek2.expert_used_count", U(8)},
          {"deepseek2.expert_group_count", U(8)},
          {"deepseek2.expert_group_used_count", U(4)},
          {"deepseek2.leading_dense_block_count", U(3)},
          {"deepseek2.vocab_size", U(129280)},
          {"deepseek2.attention.q_lora_rank", U(1536)},
          {"deepseek2.attention.kv_lora_rank", U(512)},
          {"deepseek2.attention.key_length", U(576)},
          {"deepseek2.attention.value_length", U(512)},
          {"deepseek2.attention.key_length_mla", U(192)},
          {"deepseek2.attention.value_length_mla", U(128)},
          {"deepseek2.expert_feed_forward_length", U(2048)},
          {"deepseek2.expert_count", U(256)},
          {"deepseek2.expert_shared_count", U(1)},
          {"deepseek2.expert_weights_scale", F(2.5)},
          {"deepseek2.expert_weights_norm", B(true)},
          {"deepseek2.expert_gating_func", U(2)},
          {"deepseek2.rope.dimension_count", U(64)},
          {"deepseek2.rope.scaling.type", S("yarn")},
          {"deepseek2.rope.scaling.factor", F(40)},
          {"deepseek2.rope.scaling.original_context_length", U(4096)},
          {"deepseek2.rope.scaling.yarn_log_multiplier", F(0.1)}};
}

TEST(GgufConfigTest, DeepseekV3EqualsItsJson) {
  Metadata m = V3Gguf();
  const Result<ModelConfig> c = ModelConfig::FromGguf(m);
  ASSERT_TRUE(c.ok()) << c.error().message;
  const ModelConfig json = Parse(kV3);
  EXPECT_EQ(c->arch, Arch::kDeepseekV3);
  EXPECT_EQ(Count(*c).total_parameters, 671026404352);
  EXPECT_EQ(c->attention_scale(), json.attention_scale());
  EXPECT_EQ(c->gate.group_score, json.gate.group_score);
  EXPECT_EQ(c->gate.scale, 2.5f);
  EXPECT_EQ(c->nope_dim, 128);
  EXPECT_EQ(c->v_dim, 128);
  // Older files: the expanded sizes under the plain keys, one kv head a head.
  m.erase("deepseek2.attention.key_length_mla");
  m.erase("deepseek2.attention.value_length_mla");
  m["deepseek2.attention.key_length"] = U(192);
  m["deepseek2.attention.value_length"] = U(128);
  m["deepseek2.attention.head_count_kv"] = U(128);
  const Result<ModelConfig> old = ModelConfig::FromGguf(m);
  ASSERT_TRUE(old.ok()) << old.error().message;
  EXPECT_EQ(Count(*old).total_parameters, 671026404352);
}

TEST(GgufConfigTest, HostileValuesNameTheKey) {
  const std::pair<const char*, MetaValue> cases[] = {
      {"deepseek2.block_count", U(0)},
      {"deepseek2.block_count", U(~uint64_t{0})},
      {"deepseek2.embedding_length", U(uint64_t{1} << 60)},
      {"deepseek2.attention.head_count", U(0)},
      {"deepseek2.attention.head_count", S("many")},
      {"deepseek2.rope.freq_base", F(std::nan(""))},
      {"deepseek2.rope.scaling.factor", F(0)},
      {"deepseek2.expert_gating_func", U(9)},
      {"deepseek2.attention.key_length_mla", U(64)},
      {"deepseek2.rope.scaling.type", S("su")},
      {"general.architecture", S("mamba")},
  };
  for (const auto& [key, value] : cases) {
    Metadata m = V3Gguf();
    m[key] = value;
    const Result<ModelConfig> c = ModelConfig::FromGguf(m);
    ASSERT_FALSE(c.ok()) << key;
    const std::string name(key);
    const std::string shortest = name.substr(name.rfind('.') + 1, 10);
    EXPECT_NE(c.error().message.find(shortest), std::string::npos) << c.error().message;
  }
  EXPECT_FALSE(ModelConfig::FromGguf({}).ok());
}

TEST(PlanTest, AddsUp) {
  const ModelConfig c = Parse(kV2Lite);
  PlanOptions options;
  options.context = 4096;
  const Result<MemoryPlan> plan = PlanMemory(c, DType::kBF16, options);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_EQ(plan->kv_cache, 4096 * 31104);
  // Keys of kv_b are held twice: [nope, latent] and its transpose, a head.
  EXPECT_EQ(plan->absorbed, int64_t{27} * 16 * 128 * 512 * 2);
  EXPECT_GT(plan->weights, 15706484224 * 2);
  EXPECT_LT(plan->weights, 15706484224 * 2 * 1.01 + static_cast<double>(plan->absorbed));
  EXPECT_EQ(plan->total, plan->weights + plan->kv_cache + plan->rope_tables + plan->workspace +
                             plan->kernel_scratch);
  options.sequences = 0;
  EXPECT_FALSE(PlanMemory(c, DType::kBF16, options).ok());
}

}  // namespace
}  // namespace hadal
