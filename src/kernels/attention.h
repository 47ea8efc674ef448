// Attention over a paged cache. Blocks hold 16 tokens; a sequence owns a table of block numbers,
// token p lives in slot p % 16 of block table[p / 16].
//
// Order of sums, for query row t of head h over keys 0..p (p its own position): scores are one fma
// chain over the head dimension from 0; times scale; softmax with the row maximum, exp by ExpRef,
// the denominator summed in 16 lanes (key j in lane j mod 16); the output is one fma chain over
// keys in order of weights (not yet divided), divided by the denominator at the end. So a result
// depends on the query and its keys alone, never on chunking, batch, threads or block numbers.
// Slots past p are never read (they may hold NaN).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace hadal {

inline constexpr int64_t kKvBlock = 16;  // tokens a block

enum class KvType : uint8_t { kF16, kF32 };
inline int64_t KvTypeBytes(KvType type) { return type == KvType::kF16 ? 2 : 4; }

// Keys and values of one layer for grouped-query attention. In a block, for each kv head:
// K as [k_dim][16] (a column a token), then V as [16][v_dim].
struct GqaShape {
  int64_t heads, kv_heads, k_dim, v_dim;
  float scale;
};
struct KvStore {
  void* data = nullptr;  // block 0
  KvType type = KvType::kF16;
  int64_t block_bytes = 0;  // distance from block to block
};
inline int64_t GqaBlockBytes(const GqaShape& s, KvType type) {
  return s.kv_heads * kKvBlock * (s.k_dim + s.v_dim) * KvTypeBytes(type);
}

// A run of consecutive tokens of one sequence within the batch: rows [first_row, first_row + rows)
// of q, k, v sit at positions start, start + 1, ... of the sequence.
struct SeqSpan {
  const int32_t* blocks;
  int64_t start;
  int64_t first_row;
  int64_t rows;
};

// Stores k: [T, kv_heads * k_dim], v: [T, kv_heads * v_dim], rounded to the cache type.
void GqaWrite(const Exec& exec, std::span<const SeqSpan> seqs, const GqaShape& shape,
              View2<const float> k, View2<const float> v, const KvStore& store);
// q: [T, heads * k_dim] -> out: [T, heads * v_dim]; keys must be written already. Head h reads kv
// head h / (heads / kv_heads). Parallel over (sequence, kv head, tile of rows).
void GqaAttention(const Exec& exec, std::span<const SeqSpan> seqs, const GqaShape& shape,
                  View2<const float> q, const KvStore& store, View2<float> out);
void GqaAttentionRef(std::span<const SeqSpan> seqs, const GqaShape& shape, View2<const float> q,
                     const KvStore& store, View2<float> out);

// Multi-head latent attention: a block is [16][latent + rope], one row a token (normalised latent,
// then the rotated rope key), shared by all heads.
struct MlaShape {
  int64_t heads, latent, rope;
  float scale;
};
inline int64_t MlaBlockBytes(const MlaShape& s, KvType type) {
  return kKvBlock * (s.latent + s.rope) * KvTypeBytes(type);
}
// kv: [T, latent + rope].
void MlaWrite(const Exec& exec, std::span<const SeqSpan> seqs, const MlaShape& shape,
              View2<const float> kv, const KvStore& store);
// Reads tokens [0, count) of a sequence back as f32 rows: out [count, latent + rope].
void MlaRead(const Exec& exec, const int32_t* blocks, int64_t count, const MlaShape& shape,
             const KvStore& store, View2<float> out);
// Absorbed form: q: [T, heads * (latent + rope)] (query already multiplied into the latent space)
// -> out: [T, heads * latent], the weighted latents. score = scale * (q . [c_j ; k^R_j]).
void MlaAttention(const Exec& exec, std::span<const SeqSpan> seqs, const MlaShape& shape,
                  View2<const float> q, const KvStore& store, View2<float> out);
void MlaAttentionRef(std::span<const SeqSpan> seqs, const MlaShape& shape, View2<const float> q,
                     const KvStore& store, View2<float> out);

}  // namespace hadal
