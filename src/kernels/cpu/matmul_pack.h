// Tiles at rest: what lies where, how rows of a file become tiles and back.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "kernels/cpu/matmul_kernel.h"
#include "kernels/exec.h"
#include "kernels/matmul.h"
#include "tensor/buffer.h"

namespace hadal {

struct PackedMatrix::Impl {
  DType type = DType::kF32;
  int64_t rows = 0, cols = 0;
  int64_t tiles = 0, tile_bytes = 0;
  Buffer own;                      // empty if the tiles live in an arena
  std::byte* tile_data = nullptr;  // [tiles][tile_bytes]
  Buffer scale_data;               // FP8 only
  int64_t scale_cols = 0;          // f32 scales per 128 rows

  const uint8_t* tile(int64_t t) const {
    return reinterpret_cast<const uint8_t*>(tile_data) + t * tile_bytes;
  }
  // The scales of tile t; a tile of 16 rows lies in one run of 128.
  const float* scale(int64_t t) const {
    if (type != DType::kF8E4M3) return nullptr;
    return scale_data.as<const float>() + t * internal::kTile / internal::kFp8Run * scale_cols;
  }
};

namespace internal {

inline bool IsBlockType(DType type) { return type >= DType::kQ4_0 && type <= DType::kMXFP4; }
inline bool IsFloatType(DType type) { return type <= DType::kF8E4M3; }
inline int BlockIndex(DType type) {
  return static_cast<int>(type) - static_cast<int>(DType::kQ4_0);
}
inline const BlockFormat& FormatOf(DType type) { return kFormats[BlockIndex(type)]; }

// 32 weights of a row, taken apart. code: as packed, before the table; value of element i =
// scale[i/sub] * (lut(code[i]) - offset) + min[i/sub].
struct RowBlock {
  uint8_t code[32];
  uint16_t d, dmin;        // f16; dmin also the m of Q4_1 and Q5_1; d is bf16 for MXFP4
  uint8_t sc[2], m[2];     // of K types
  float scale[2], min[2];  // min is the addend
};

// Takes apart one block of the type at `in`: 1 or 8 RowBlocks.
void SplitBlock(DType type, const uint8_t* in, RowBlock* out);
// lut(code) - offset.
int CodeValue(const BlockFormat& format, uint8_t code);

// Bytes of a tile of 16 rows.
int64_t TileBytes(DType type, int64_t cols);
// Packs rows [row, row + count) of `data`, count <= 16, to `tile`, which is zero. Returns the
// first row with a NaN or Inf, or -1.
int64_t PackTile(const PackedMatrix::Impl& matrix, const uint8_t* data, int64_t row, int count,
                 uint8_t* tile);
void UnpackRow(const PackedMatrix::Impl& matrix, int64_t row, float* out);

// MatMul with kernels of the caller's choice.
void MatMulWith(const MatMulKernels& kernels, const Exec& exec, View2<const float> x,
                const PackedMatrix& w, View2<float> y, std::span<const float> bias);

}  // namespace internal
}  // namespace hadal
