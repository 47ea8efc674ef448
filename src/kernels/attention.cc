#include "kernels/attention.h"

#include <cstddef>

#include "tensor/half.h"

namespace hadal {
namespace {

void StoreElement(const KvStore& store, int32_t block, int64_t index, float value) {
  std::byte* base = static_cast<std::byte*>(store.data) + block * store.block_bytes;
  if (store.type == KvType::kF32) {
    reinterpret_cast<float*>(base)[index] = value;
  } else {
    reinterpret_cast<uint16_t*>(base)[index] = F32ToF16(value);
  }
}

}  // namespace

void GqaWrite(const Exec&, std::span<const SeqSpan> seqs, const GqaShape& s, View2<const float> k,
              View2<const float> v, const KvStore& store) {
  for (const SeqSpan& seq : seqs) {
    for (int64_t r = 0; r < seq.rows; ++r) {
      const int64_t position = seq.start + r, slot = position % kKvBlock;
      const int32_t block = seq.blocks[position / kKvBlock];
      for (int64_t h = 0; h < s.kv_heads; ++h) {
        const int64_t base = h * kKvBlock * (s.k_dim + s.v_dim);
        for (int64_t d = 0; d < s.k_dim; ++d) {
          StoreElement(store, block, base + d * kKvBlock + slot,
                       k.row(seq.first_row + r)[h * s.k_dim + d]);
        }
        for (int64_t d = 0; d < s.v_dim; ++d) {
          StoreElement(store, block, base + kKvBlock * s.k_dim + slot * s.v_dim + d,
                       v.row(seq.first_row + r)[h * s.v_dim + d]);
        }
      }
    }
  }
}

void GqaAttention(const Exec&, std::span<const SeqSpan> seqs, const GqaShape& shape,
                  View2<const float> q, const KvStore& store, View2<float> out) {
  GqaAttentionRef(seqs, shape, q, store, out);
}

void MlaWrite(const Exec&, std::span<const SeqSpan> seqs, const MlaShape& s, View2<const float> kv,
              const KvStore& store) {
  const int64_t width = s.latent + s.rope;
  for (const SeqSpan& seq : seqs) {
    for (int64_t r = 0; r < seq.rows; ++r) {
      const int64_t position = seq.start + r;
      for (int64_t d = 0; d < width; ++d) {
        StoreElement(store, seq.blocks[position / kKvBlock], position % kKvBlock * width + d,
                     kv.row(seq.first_row + r)[d]);
      }
    }
  }
}

void MlaRead(const Exec&, const int32_t* blocks, int64_t count, const MlaShape& s,
             const KvStore& store, View2<float> out) {
  const int64_t width = s.latent + s.rope;
  for (int64_t j = 0; j < count; ++j) {
    const std::byte* base =
        static_cast<const std::byte*>(store.data) + blocks[j / kKvBlock] * store.block_bytes;
    for (int64_t d = 0; d < width; ++d) {
      const int64_t index = j % kKvBlock * width + d;
      out.row(j)[d] = store.type == KvType::kF32
                          ? reinterpret_cast<const float*>(base)[index]
                          : F16ToF32(reinterpret_cast<const uint16_t*>(base)[index]);
    }
  }
}

void MlaAttention(const Exec&, std::span<const SeqSpan> seqs, const MlaShape& shape,
                  View2<const float> q, const KvStore& store, View2<float> out) {
  MlaAttentionRef(seqs, shape, q, store, out);
}

}  // namespace hadal
