#include "cli/testing_tiny_model.h"

#include "base/thread_pool.h"
#include "cli/bench_shape.h"
#include "cli/gguf_metadata.h"
#include "cli/param_reader.h"
#include "formats/writer.h"

namespace hadal::cli {
namespace {

constexpr const char* kTemplate =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

constexpr const char* kCommon =
    R"("num_hidden_layers":2,"hidden_size":64,"vocab_size":264,"max_position_embeddings":256,
       "num_attention_heads":4,"rms_norm_eps":1e-6,"rope_theta":10000.0,"hidden_act":"silu",
       "bos_token_id":256,"eos_token_id":257)";
constexpr const char* kDeepseek =
    R"("num_key_value_heads":4,"kv_lora_rank":32,"qk_nope_head_dim":16,"qk_rope_head_dim":16,
       "v_head_dim":16,"intermediate_size":96,"moe_intermediate_size":32,"n_routed_experts":8,
       "num_experts_per_tok":2,"n_shared_experts":1,"first_k_dense_replace":1,"moe_layer_freq":1,
       "tie_word_embeddings":false)";

void AppendUtf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else {
    out += static_cast<char>(0xc0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3f));
  }
}

}  // namespace

std::string TinyConfigJson(const std::string& name) {
  std::string rest;
  if (name == "llama") {
    rest = R"("num_key_value_heads":2,"intermediate_size":96,"tie_word_embeddings":true)";
  } else if (name == "mixtral") {
    rest = R"("num_key_value_heads":2,"intermediate_size":96,"num_local_experts":4,
              "num_experts_per_tok":2,"tie_word_embeddings":false)";
  } else if (name == "qwen2" || name == "qwen3") {
    rest = R"("num_key_value_heads":2,"intermediate_size":96,"tie_word_embeddings":false,
              "head_dim":16)";
  } else if (name == "deepseek_v2") {
    rest = std::string(kDeepseek) +
           R"(,"q_lora_rank":null,"topk_method":"greedy","n_group":1,"topk_group":1,
              "scoring_func":"softmax","norm_topk_prob":false,"routed_scaling_factor":1.0)";
  } else {
    rest = std::string(kDeepseek) +
           R"(,"q_lora_rank":32,"topk_method":"noaux_tc","n_group":4,"topk_group":2,
              "scoring_func":"sigmoid","norm_topk_prob":true,"routed_scaling_factor":2.5)";
  }
  return R"({"model_type":")" + name + "\"," + kCommon + "," + rest + "}";
}

TokenizerSpec TinyTokenizer() {
  TokenizerSpec spec;
  spec.pre = "qwen2";
  uint32_t stand_in = 256;  // GPT-2's printable stand-ins for bytes that are not
  for (uint32_t b = 0; b < 256; ++b) {
    const bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    std::string token;
    AppendUtf8(token, plain ? b : stand_in++);
    spec.tokens.push_back(token);
  }
  for (const char* special : {"<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"}) {
    spec.tokens.emplace_back(special);
  }
  spec.types.assign(256, 1);
  spec.types.resize(spec.tokens.size(), 3);
  spec.bos = 256;
  spec.eos = 257;
  return spec;
}

Status WriteTinyGguf(const std::string& name, DType type, const std::string& path) {
  const ModelConfig config = TRY(ModelConfig::FromJson(TinyConfigJson(name)));
  ThreadPool pool(1);
  Metadata metadata = ArchMetadata(config, "tiny " + name, type);
  AddTokenizer(TinyTokenizer(), config.vocab, config.eos_ids, metadata);
  metadata["tokenizer.chat_template"] = MetaText(kTemplate);
  return WriteRandomGguf(pool, config, metadata, {type, 11}, path);
}

}  // namespace hadal::cli
