#include "base/check.h"
#include "model/model.h"

namespace hadal {
namespace {

int64_t LayerBlockBytes(const ModelConfig& c, KvType type) {
  if (c.mla()) return MlaBlockBytes({c.heads, c.latent, c.rope_dim, 0}, type);
  return GqaBlockBytes({c.heads, c.kv_heads, c.head_dim, c.head_dim, 0}, type);
}

// The MTP layer keeps keys of its own.
int64_t CacheLayers(const ModelConfig& c) { return c.layers + c.mtp_layers; }

}  // namespace

KvCache::KvCache(const ModelConfig& config, KvType type, int64_t blocks)
    : memory_(static_cast<size_t>(blocks * BlockBytes(config, type))),
      type_(type),
      blocks_(blocks),
      layer_block_bytes_(LayerBlockBytes(config, type)) {}

int64_t KvCache::BlockBytes(const ModelConfig& config, KvType type) {
  return CacheLayers(config) * LayerBlockBytes(config, type);
}

KvStore KvCache::layer(int64_t index) const {
  const int64_t offset = index * blocks_ * layer_block_bytes_;
  CHECK(index >= 0 && offset + blocks_ * layer_block_bytes_ <= bytes());
  return {memory_.data() + offset, type_, layer_block_bytes_};
}

}  // namespace hadal
