// The small sparse model that the tests of training share.
#pragma once

#include <string>

namespace hadal {

// config.json of it.
inline std::string SparseConfig(int layers) {
  return R"({"model_type":"deepseek_v3",
"vocab_size":64,"hidden_size":32,"intermediate_size":48,"moe_intermediate_size":16,
"num_hidden_layers":)" +
         std::to_string(layers) + R"(,"num_nextn_predict_layers":1,"num_attention_heads":2,
"num_key_value_heads":2,"n_routed_experts":8,"n_shared_experts":1,"num_experts_per_tok":2,
"n_group":1,"topk_group":1,"first_k_dense_replace":1,"norm_topk_prob":true,
"scoring_func":"sigmoid","topk_method":"noaux_tc","routed_scaling_factor":2.5,"kv_lora_rank":16,
"q_lora_rank":null,"qk_nope_head_dim":16,"qk_rope_head_dim":16,"v_head_dim":16,
"max_position_embeddings":128,"rope_theta":10000.0,"rms_norm_eps":1e-6,"hidden_act":"silu",
"attention_bias":false,"tie_word_embeddings":false})";
}

}  // namespace hadal
