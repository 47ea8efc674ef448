// The definition of a product, in the order of sums that matmul.h states.
#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/matmul_pack.h"
#include "kernels/matmul.h"
#include "tensor/half.h"
#include "tensor/quant.h"

namespace hadal {
namespace {

using internal::RowBlock;

struct QuantisedBlock {
  int q[32];
  float scale;
};

QuantisedBlock QuantiseBlock(const float* x) {
  QuantisedBlock out = {};
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) {
    bits = std::max(bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  }
  const float largest = std::bit_cast<float>(bits);
  if (bits < internal::kTinyBits) return out;
  out.scale = largest / 127.0f;
  if (!std::isfinite(largest)) return out;
  const float inverse = 127.0f / largest;
  for (int i = 0; i < 32; ++i) out.q[i] = static_cast<int>(std::nearbyint(x[i] * inverse));
  return out;
}

float BlockDot(DType type, const std::vector<RowBlock>& row, const std::vector<QuantisedBlock>& x) {
  const internal::BlockFormat& format = internal::FormatOf(type);
  float acc = 0;
  for (size_t b = 0; b < row.size(); ++b) {
    for (int s = 0; s < format.subs(); ++s) {
      int dot = 0, sum = 0;
      for (int i = format.sub * s; i < format.sub * (s + 1); ++i) {
        dot += internal::CodeValue(format, row[b].code[i]) * x[b].q[i];
        sum += x[b].q[i];
      }
      acc = std::fma(row[b].scale[s] * x[b].scale, static_cast<float>(dot), acc);
      if (format.min) acc = std::fma(row[b].min[s], x[b].scale * static_cast<float>(sum), acc);
    }
  }
  return acc;
}

std::vector<RowBlock> SplitRow(DType type, const uint8_t* in, int64_t cols) {
  const DTypeInfo& info = Info(type);
  std::vector<RowBlock> blocks(static_cast<size_t>(cols / 32));
  for (int64_t k = 0; k < cols; k += info.block, in += info.bytes) {
    internal::SplitBlock(type, in, &blocks[static_cast<size_t>(k / 32)]);
  }
  return blocks;
}

}  // namespace

void MatMulRef(View2<const float> x, DType type, const void* w, const float* fp8_scale, int64_t n,
               View2<float> y, std::span<const float> bias) {
  const int64_t cols = x.cols;
  const auto* bytes = static_cast<const uint8_t*>(w);
  std::vector<std::vector<QuantisedBlock>> quantised;
  if (internal::IsBlockType(type)) {
    for (int64_t m = 0; m < x.rows; ++m) {
      auto& row = quantised.emplace_back();
      for (int64_t k = 0; k < cols; k += 32) row.push_back(QuantiseBlock(x.row(m) + k));
    }
  }
  std::vector<float> weights(static_cast<size_t>(cols));
  for (int64_t r = 0; r < n; ++r) {
    const uint8_t* in = bytes + r * RowBytes(type, cols);
    std::vector<RowBlock> blocks;
    if (internal::IsBlockType(type)) {
      blocks = SplitRow(type, in, cols);
    } else if (type == DType::kF8E4M3) {
      const int64_t runs = (cols + internal::kFp8Run - 1) / internal::kFp8Run;
      const float* scale = fp8_scale + r / internal::kFp8Run * runs;
      for (int64_t k = 0; k < cols; ++k) {
        weights[static_cast<size_t>(k)] = E4M3ToF32(in[k]) * scale[k / internal::kFp8Run];
      }
    } else {
      Dequantize(type, in, weights.data(), cols);
    }
    for (int64_t m = 0; m < x.rows; ++m) {
      float acc = 0;
      if (internal::IsBlockType(type)) {
        acc = BlockDot(type, blocks, quantised[static_cast<size_t>(m)]);
      } else {
        for (int64_t k = 0; k < cols; ++k) {
          acc = std::fma(x.row(m)[k], weights[static_cast<size_t>(k)], acc);
        }
      }
      y.row(m)[r] = bias.empty() ? acc : acc + bias[static_cast<size_t>(r)];
    }
  }
}

}  // namespace hadal
