// The small pipeline that the tests of recipes share: problems, a tokenizer, shards, a sparse
// model.
#pragma once

namespace hadal::cli {

inline constexpr const char* kTinyRecipe = R"(name = "tiny"
seed = 7
[[stage]]
name = "problems"
kind = "problems"
items = 400
families = ["chain", "sort"]
levels = [1]
[[stage]]
name = "tokenizer"
kind = "tokenizer"
sources = ["stage:problems/train.documents.jsonl"]
vocab_size = 384
[[stage]]
name = "talks"
kind = "dataset"
tokenizer = "stage:tokenizer"
format = "conversation"
sources = ["stage:problems/train.jsonl"]
validation = 0.05
[[stage]]
name = "pretrain"
kind = "train"
tokenizer = "stage:tokenizer"
data = ["stage:talks"]
sequence_length = 128
batch_sequences = 4
micro_tokens = 256
steps = 12
validate_every = 4
validate_sequences = 4
checkpoint_every = 2
[stage.schedule]
learning_rate = 3e-3
warmup_steps = 2
[stage.model]
model_type = "deepseek_v3"
hidden_size = 32
intermediate_size = 64
moe_intermediate_size = 16
num_hidden_layers = 2
num_nextn_predict_layers = 1
num_attention_heads = 2
num_key_value_heads = 2
n_routed_experts = 4
n_shared_experts = 1
num_experts_per_tok = 2
n_group = 1
topk_group = 1
first_k_dense_replace = 1
norm_topk_prob = true
scoring_func = "sigmoid"
topk_method = "noaux_tc"
routed_scaling_factor = 2.5
kv_lora_rank = 16
qk_nope_head_dim = 16
qk_rope_head_dim = 16
v_head_dim = 16
max_position_embeddings = 256
rope_theta = 10000.0
rms_norm_eps = 1e-6
hidden_act = "silu"
attention_bias = false
tie_word_embeddings = false
)";

}  // namespace hadal::cli
