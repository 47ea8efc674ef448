#include "tensor/quant.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "tensor/half.h"
#include "tensor/internal_blocks.h"

namespace hadal {
namespace {

using namespace internal;  // NOLINT: the block layouts

// The order of the multiplications below is part of each format: (d * scale) * q and
// d * (scale * q) differ in the last bit.

void Decode(const BlockQ4_0& b, float* out) {
  const float d = LoadF16(b.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>((b.qs[j] & 15) - 8) * d;
    out[j + 16] = static_cast<float>((b.qs[j] >> 4) - 8) * d;
  }
}

void Decode(const BlockQ4_1& b, float* out) {
  const float d = LoadF16(b.d), m = LoadF16(b.m);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(b.qs[j] & 15) * d + m;
    out[j + 16] = static_cast<float>(b.qs[j] >> 4) * d + m;
  }
}

void Decode(const BlockQ5_0& b, float* out) {
  const float d = LoadF16(b.d);
  const uint32_t high = LoadU32(b.qh);
  for (int j = 0; j < 16; ++j) {
    const int q0 = (b.qs[j] & 15) | static_cast<int>(high >> j & 1) << 4;
    const int q1 = (b.qs[j] >> 4) | static_cast<int>(high >> (j + 16) & 1) << 4;
    out[j] = static_cast<float>(q0 - 16) * d;
    out[j + 16] = static_cast<float>(q1 - 16) * d;
  }
}

void Decode(const BlockQ5_1& b, float* out) {
  const float d = LoadF16(b.d), m = LoadF16(b.m);
  const uint32_t high = LoadU32(b.qh);
  for (int j = 0; j < 16; ++j) {
    const int q0 = (b.qs[j] & 15) | static_cast<int>(high >> j & 1) << 4;
    const int q1 = (b.qs[j] >> 4) | static_cast<int>(high >> (j + 16) & 1) << 4;
    out[j] = static_cast<float>(q0) * d + m;
    out[j + 16] = static_cast<float>(q1) * d + m;
  }
}

void Decode(const BlockQ8_0& b, float* out) {
  const float d = LoadF16(b.d);
  for (int j = 0; j < kBlock; ++j) out[j] = static_cast<float>(b.qs[j]) * d;
}

void Decode(const BlockQ2_K& b, float* out) {
  const float d = LoadF16(b.d), dmin = LoadF16(b.dmin);
  for (int i = 0; i < kSuper; i += 16) {
    const uint8_t scale = b.scales[i / 16];
    const float step = d * static_cast<float>(scale & 15);
    const float min = dmin * static_cast<float>(scale >> 4);
    const uint8_t* qs = b.qs + i / 128 * 32 + i % 32;
    const int shift = i % 128 / 32 * 2;
    for (int l = 0; l < 16; ++l) out[i + l] = step * static_cast<float>(qs[l] >> shift & 3) - min;
  }
}

void Decode(const BlockQ3_K& b, float* out) {
  const float d = LoadF16(b.d);
  int8_t scale[16];
  UnpackScalesQ3(b.scales, scale);
  for (int i = 0; i < kSuper; i += 16) {
    const float step = d * static_cast<float>(scale[i / 16]);
    const uint8_t* qs = b.qs + i / 128 * 32 + i % 32;
    const uint8_t* high = b.hmask + i % 32;
    const int shift = i % 128 / 32 * 2;
    for (int l = 0; l < 16; ++l) {
      const int q = (qs[l] >> shift & 3) | (high[l] >> (i / 32) & 1) << 2;
      out[i + l] = step * static_cast<float>(q - 4);
    }
  }
}

void Decode(const BlockQ4_K& b, float* out) {
  const float d = LoadF16(b.d), dmin = LoadF16(b.dmin);
  uint8_t scale[8], min[8];
  UnpackScalesQ4(b.scales, scale, min);
  for (int s = 0; s < 8; ++s) {
    const float step = d * static_cast<float>(scale[s]);
    const float offset = dmin * static_cast<float>(min[s]);
    const uint8_t* qs = b.qs + s / 2 * 32;
    for (int l = 0; l < 32; ++l) {
      out[32 * s + l] = step * static_cast<float>(qs[l] >> (s % 2 * 4) & 15) - offset;
    }
  }
}

void Decode(const BlockQ5_K& b, float* out) {
  const float d = LoadF16(b.d), dmin = LoadF16(b.dmin);
  uint8_t scale[8], min[8];
  UnpackScalesQ4(b.scales, scale, min);
  for (int s = 0; s < 8; ++s) {
    const float step = d * static_cast<float>(scale[s]);
    const float offset = dmin * static_cast<float>(min[s]);
    const uint8_t* qs = b.qs + s / 2 * 32;
    for (int l = 0; l < 32; ++l) {
      const int q = (qs[l] >> (s % 2 * 4) & 15) | (b.qh[l] >> s & 1) << 4;
      out[32 * s + l] = step * static_cast<float>(q) - offset;
    }
  }
}

void Decode(const BlockQ6_K& b, float* out) {
  const float d = LoadF16(b.d);
  for (int i = 0; i < kSuper; i += 16) {
    const float step = d * static_cast<float>(b.scales[i / 16]);
    const int half = i / 128, k = i % 128 / 32;
    const uint8_t* low = b.ql + 64 * half + 32 * (k & 1) + i % 32;
    const uint8_t* high = b.qh + 32 * half + i % 32;
    for (int l = 0; l < 16; ++l) {
      const int q = (low[l] >> (k / 2 * 4) & 15) | (high[l] >> (2 * k) & 3) << 4;
      out[i + l] = step * static_cast<float>(q - 32);
    }
  }
}

void Decode(const BlockIQ4_NL& b, float* out) {
  const float d = LoadF16(b.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(kIq4Values[b.qs[j] & 15]);
    out[j + 16] = d * static_cast<float>(kIq4Values[b.qs[j] >> 4]);
  }
}

void Decode(const BlockIQ4_XS& b, float* out) {
  const float d = LoadF16(b.d);
  const uint32_t high = LoadU16(b.scales_h);
  for (int s = 0; s < 8; ++s) {
    const int low = b.scales_l[s / 2] >> (s % 2 * 4) & 15;
    const float step =
        d * static_cast<float>((low | static_cast<int>(high >> (2 * s) & 3) << 4) - 32);
    for (int j = 0; j < 16; ++j) {
      const uint8_t q = b.qs[16 * s + j];
      out[32 * s + j] = step * static_cast<float>(kIq4Values[q & 15]);
      out[32 * s + j + 16] = step * static_cast<float>(kIq4Values[q >> 4]);
    }
  }
}

void Decode(const BlockMXFP4& b, float* out) {
  // 2^(e - 128); the two smallest exponents are denormal.
  const uint32_t bits = b.e < 2 ? 0x00200000u << b.e : (uint32_t{b.e} - 1) << 23;
  const float d = std::bit_cast<float>(bits);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(kFp4Doubled[b.qs[j] & 15]) * d;
    out[j + 16] = static_cast<float>(kFp4Doubled[b.qs[j] >> 4]) * d;
  }
}

template <typename Block>
void DecodeBlocks(DType type, const void* in, float* out, int64_t n) {
  const DTypeInfo& info = Info(type);
  static_assert(alignof(Block) == 1);
  CHECK(info.bytes == static_cast<int>(sizeof(Block)) && n % info.block == 0);
  const auto* block = static_cast<const Block*>(in);
  for (int64_t i = 0; i < n; i += info.block) Decode(*block++, out + i);
}

template <typename T, typename Widen>
void DecodeScalars(const void* in, float* out, int64_t n, Widen widen) {
  const auto* from = static_cast<const std::byte*>(in);
  for (int64_t i = 0; i < n; ++i) {
    T v;
    std::memcpy(&v, from + i * static_cast<int64_t>(sizeof v), sizeof v);
    out[i] = widen(v);
  }
}

}  // namespace

void Dequantize(DType type, const void* in, float* out, int64_t n) {
  switch (type) {
    case DType::kF32:
      if (n > 0) std::memcpy(out, in, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      return DecodeScalars<uint16_t>(in, out, n, F16ToF32);
    case DType::kBF16:
      return DecodeScalars<uint16_t>(in, out, n, BF16ToF32);
    case DType::kF8E4M3:
      return DecodeScalars<uint8_t>(in, out, n, E4M3ToF32);
    case DType::kF64:
      return DecodeScalars<double>(in, out, n, [](double v) { return static_cast<float>(v); });
    case DType::kQ4_0:
      return DecodeBlocks<BlockQ4_0>(type, in, out, n);
    case DType::kQ4_1:
      return DecodeBlocks<BlockQ4_1>(type, in, out, n);
    case DType::kQ5_0:
      return DecodeBlocks<BlockQ5_0>(type, in, out, n);
    case DType::kQ5_1:
      return DecodeBlocks<BlockQ5_1>(type, in, out, n);
    case DType::kQ8_0:
      return DecodeBlocks<BlockQ8_0>(type, in, out, n);
    case DType::kQ2_K:
      return DecodeBlocks<BlockQ2_K>(type, in, out, n);
    case DType::kQ3_K:
      return DecodeBlocks<BlockQ3_K>(type, in, out, n);
    case DType::kQ4_K:
      return DecodeBlocks<BlockQ4_K>(type, in, out, n);
    case DType::kQ5_K:
      return DecodeBlocks<BlockQ5_K>(type, in, out, n);
    case DType::kQ6_K:
      return DecodeBlocks<BlockQ6_K>(type, in, out, n);
    case DType::kIQ4_NL:
      return DecodeBlocks<BlockIQ4_NL>(type, in, out, n);
    case DType::kIQ4_XS:
      return DecodeBlocks<BlockIQ4_XS>(type, in, out, n);
    case DType::kMXFP4:
      return DecodeBlocks<BlockMXFP4>(type, in, out, n);
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
      break;
  }
  CHECK(IsFloatLike(type));
}

void DequantizeFp8Block(const uint8_t* in, const float* scale, float* out, int64_t rows,
                        int64_t cols) {
  constexpr int64_t kTile = 128;
  const int64_t tiles = (cols + kTile - 1) / kTile;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row_scale = scale + r / kTile * tiles;
    for (int64_t c = 0; c < cols; ++c) {
      out[r * cols + c] = E4M3ToF32(in[r * cols + c]) * row_scale[c / kTile];
    }
  }
}

}  // namespace hadal
