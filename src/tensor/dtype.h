// Element types of tensors at rest, with the block geometry of the quantised ones.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace hadal {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
  kI8,
  kI16,
  kI32,
  kI64,
  kF64,
};
inline constexpr int kDTypeCount = 22;

// A row of `block` consecutive elements is stored in `bytes` bytes; rows hold whole blocks.
struct DTypeInfo {
  std::string_view name;  // "F32", "Q4_K", ...
  int block;
  int bytes;
  int gguf_id;  // the type's number in GGUF files, -1 if it has none
};

const DTypeInfo& Info(DType type);
std::optional<DType> DTypeFromGguf(uint32_t gguf_id);
// Case-insensitive; accepts safetensors spellings too (F8_E4M3, F32, ...).
std::optional<DType> DTypeFromName(std::string_view name);
// True where Dequantize (tensor/quant.h) turns the type into f32.
bool IsFloatLike(DType type);

// Bytes of a row of n elements; n must be a multiple of the block.
inline int64_t RowBytes(DType type, int64_t n) { return n / Info(type).block * Info(type).bytes; }

}  // namespace hadal
