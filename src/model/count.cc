#include "model/config.h"

namespace hadal {
namespace {

int64_t AttentionParameters(const ModelConfig& c) {
  int64_t count = 0;
  if (c.mla()) {
    const int64_t q_rows = c.heads * c.q_head_dim();
    if (c.q_latent > 0) {
      count += c.q_latent * c.width + c.q_latent + q_rows * c.q_latent;
      if (c.qkv_bias) count += c.q_latent;
    } else {
      count += q_rows * c.width;
    }
    count += (c.latent + c.rope_dim) * c.width + c.latent;
    if (c.qkv_bias) count += c.latent + c.rope_dim;
    count += c.heads * (c.nope_dim + c.v_dim) * c.latent;
    count += c.width * c.heads * c.v_dim;
  } else {
    const int64_t rows = (c.heads + 2 * c.kv_heads) * c.head_dim;
    count += rows * c.width + c.width * c.heads * c.head_dim;
    if (c.qkv_bias) count += rows;
    if (c.qk_norm) count += 2 * c.head_dim;
  }
  if (c.output_bias) count += c.width;
  return count;
}

}  // namespace

ModelCounts Count(const ModelConfig& c) {
  ModelCounts n;
  n.embedding = c.vocab * c.width;
  n.attention_per_layer = AttentionParameters(c);
  n.expert = 3 * c.width * c.expert_ffn;
  const int64_t norms = 2 * c.width;
  n.dense_ffn_layer = n.attention_per_layer + norms + 3 * c.width * c.ffn;
  if (c.mlp_bias) n.dense_ffn_layer += 2 * c.ffn + c.width;
  int64_t active_moe_layer = 0;
  if (c.gate.experts > 0) {
    const int64_t always =
        n.attention_per_layer + norms + c.gate.experts * c.width + c.shared_experts * n.expert;
    n.moe_layer = always + c.gate.experts * n.expert;
    active_moe_layer = always + c.gate.top_k * n.expert;
  }
  int64_t moe_layers = 0;
  for (int64_t layer = 0; layer < c.layers; ++layer) moe_layers += c.moe(layer) ? 1 : 0;
  const int64_t dense = (c.layers - moe_layers) * n.dense_ffn_layer;
  const int64_t tables = (c.tied_embeddings ? 1 : 2) * n.embedding;
  n.total_parameters = tables + c.width + dense + moe_layers * n.moe_layer;
  // A tied table is read once as a head; the embedding row it also gives is not counted again.
  n.active_parameters = tables + c.width + dense + moe_layers * active_moe_layer;
  n.active_without_embedding = n.active_parameters - (c.tied_embeddings ? 0 : n.embedding);
  if (c.gate_bias) n.routing_biases = moe_layers * c.gate.experts;
  const int64_t mtp_layer = c.moe(c.layers) ? n.moe_layer : n.dense_ffn_layer;
  n.mtp_parameters = c.mtp_layers * (mtp_layer + 2 * c.width * c.width + 3 * c.width);
  if (c.mla()) {
    n.kv_elements_per_token = c.layers * (c.latent + c.rope_dim);
    n.attention_flops_per_token_per_position = 2 * c.layers * c.heads * (2 * c.latent + c.rope_dim);
  } else {
    n.kv_elements_per_token = c.layers * 2 * c.kv_heads * c.head_dim;
    n.attention_flops_per_token_per_position = 2 * c.layers * c.heads * 2 * c.head_dim;
  }
  n.flops_per_token = 2 * n.active_without_embedding;
  return n;
}

}  // namespace hadal
