#include "cli/bench_shape.h"

#include <fmt/format.h>

#include <map>

#include "base/rng.h"
#include "cli/gguf_metadata.h"
#include "cli/param_reader.h"
#include "cli/store.h"
#include "formats/writer.h"
#include "tensor/quant.h"

namespace hadal::cli {

Result<ModelConfig> ShapeByName(const std::string& name) {
  if (name == "v2-lite") {
    return ModelConfig::FromJson(R"({"model_type":"deepseek_v2","num_hidden_layers":27,
      "hidden_size":1024,"vocab_size":102400,"max_position_embeddings":4096,
      "num_attention_heads":16,"num_key_value_heads":16,"q_lora_rank":null,"kv_lora_rank":512,
      "qk_nope_head_dim":128,"qk_rope_head_dim":64,"v_head_dim":128,"intermediate_size":5472,
      "moe_intermediate_size":352,"n_routed_experts":64,"num_experts_per_tok":6,
      "n_shared_experts":2,"first_k_dense_replace":1,"moe_layer_freq":1,"n_group":1,"topk_group":1,
      "topk_method":"greedy","scoring_func":"softmax","norm_topk_prob":false,
      "routed_scaling_factor":1.0,"rms_norm_eps":1e-6,"rope_theta":10000,
      "hidden_act":"silu","tie_word_embeddings":false})");
  }
  if (name == "smol") {
    return ModelConfig::FromJson(R"({"model_type":"llama","num_hidden_layers":30,
      "hidden_size":576,"vocab_size":49152,"max_position_embeddings":8192,
      "num_attention_heads":9,"num_key_value_heads":3,"intermediate_size":1536,
      "rms_norm_eps":1e-5,"rope_theta":100000,"hidden_act":"silu","tie_word_embeddings":true})");
  }
  return Error{Code::kInvalid, fmt::format("--shape {}: there are v2-lite and smol", Quoted(name))};
}

Status WriteRandomGguf(ThreadPool& pool, const ModelConfig& config, DType type, uint64_t seed,
                       const std::string& path) {
  Metadata metadata = ArchMetadata(config, "random", type);
  metadata["tokenizer.ggml.model"] = MetaText("no_vocab");
  return WriteRandomGguf(pool, config, metadata, {type, seed}, path);
}

Status WriteRandomGguf(ThreadPool& pool, const ModelConfig& config, const Metadata& metadata,
                       const RandomWeights& weights, const std::string& path) {
  std::vector<TensorSpec> specs;
  std::map<std::string, size_t> index;
  for (const ParamSpec& p : ListParams(config)) {
    const auto [it, fresh] = index.emplace(p.gguf_name, specs.size());
    if (fresh) specs.push_back({p.gguf_name, DType::kF32, p.shape});
    if (p.expert < 0) continue;
    TensorSpec& s = specs[it->second];
    if (p.expert == 0) s.shape.insert(s.shape.begin(), 0);
    s.shape[0] = p.expert + 1;
  }
  for (TensorSpec& s : specs) s.type = ChooseType(weights.type, s.name, s.shape);
  return WriteGguf(path, metadata, specs, [&](size_t i, std::span<std::byte> out) -> Status {
    const TensorSpec& s = specs[i];
    const int64_t cols = s.shape.back(), row_bytes = RowBytes(s.type, cols);
    const int64_t rows = static_cast<int64_t>(out.size()) / row_bytes;
    const bool norm = s.name.find("norm") != std::string::npos;
    pool.For(rows, [&](int64_t r, int) {
      Rng rng(weights.seed + i, static_cast<uint64_t>(r));
      std::vector<float> row(static_cast<size_t>(cols), 1.0f);
      if (!norm) {
        for (float& v : row) v = static_cast<float>(0.02 * rng.NextNormal());
      }
      Quantize(s.type, row.data(), out.data() + r * row_bytes, cols);
    });
    return {};
  });
}

}  // namespace hadal::cli
