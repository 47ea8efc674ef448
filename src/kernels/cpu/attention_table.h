// The micro-kernels of attention, in the bodies of one instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hadal::internal {

// Blocks of 16 keys: block b starts at base + (table ? table[b] : b) * block_bytes.
struct BlockList {
  const std::byte* base;
  const int32_t* table;
  int64_t block_bytes;
  const std::byte* operator[](int64_t b) const {
    return base + (table != nullptr ? table[b] : b) * block_bytes;
  }
};

inline constexpr int64_t kTileRows = 6;

// out[r][16 b + lane] = scale * (fma chain over d of q[r][d] * key_block[b][d][lane]).
struct ScoreArgs {
  const float* q[kTileRows];
  int64_t rows;  // 1..kTileRows
  int64_t k_dim;
  BlockList keys;  // a block: [k_dim][16]
  int64_t blocks;
  float scale;
  float* out;
  int64_t out_stride;
};

// acc[r][16 v + lane] = fma chain over keys j in [first, end) of weight[r][j] * value[j][16 v +
// lane].
struct ValueArgs {
  const float* weight;
  int64_t weight_stride = 0;
  int64_t rows = 0;  // 1..kTileRows
  BlockList
      values;  // element (key, column vector v) of a block at key * key_stride + v * vec_stride
  int64_t key_stride, vec_stride;
  int64_t first = 0, end = 0;  // keys, counted from block 0 of `values`
  int64_t vecs;
  float* acc;
  int64_t acc_stride = 0;
};

struct AttentionTable {
  int64_t vectors;  // key blocks or column vectors that one pass serves for a full tile of rows
  void (*scores_f32)(const ScoreArgs&);
  void (*scores_f16)(const ScoreArgs&);
  void (*values_f32)(const ValueArgs&);
  void (*values_f16)(const ValueArgs&);
  // Scores of n keys to weights not yet divided; returns their sum. Room for n rounded up to 16.
  float (*softmax)(float* score, int64_t n);
  void (*divide)(const float* x, float by, int64_t n, float* y);
  void (*narrow)(const float* x, int64_t n, uint16_t* y);  // rounds to f16
  void (*widen)(const uint16_t* x, int64_t n, float* y);
  // 16 rows of n columns, `stride` elements apart, to [n][16]. n may be any.
  void (*transpose_f32)(const float* x, int64_t stride, int64_t n, float* y);
  void (*transpose_f16)(const uint16_t* x, int64_t stride, int64_t n, float* y);
  // 16 rows of n columns to column vectors [ceil(n / 16)][16 rows][16], `vec_stride` floats apart,
  // the last one padded with zeros.
  void (*slabs_f32)(const float* x, int64_t stride, int64_t n, float* y, int64_t vec_stride);
  void (*slabs_f16)(const uint16_t* x, int64_t stride, int64_t n, float* y, int64_t vec_stride);
};

extern const AttentionTable kAttentionScalar;
#if defined(__x86_64__)
extern const AttentionTable kAttentionAvx2;
extern const AttentionTable kAttentionAvx512;
#endif

}  // namespace hadal::internal
