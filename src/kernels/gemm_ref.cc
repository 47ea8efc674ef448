// The definition of a product, in the order of sums that gemm.h states.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "kernels/fp8.h"
#include "kernels/gemm.h"
#include "tensor/half.h"

namespace hadal {
namespace {

struct Operand {
  int64_t rows, depth;
  std::vector<float> value;
  std::vector<float> scale;  // kF8: one an element

  float& At(int64_t i, int64_t k) { return value[static_cast<size_t>(i * depth + k)]; }
  float& Scale(int64_t i, int64_t k) { return scale[static_cast<size_t>(i * depth + k)]; }
};

float Flush(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

// Elements [i0, i1) x [k0, k1) are one group.
void QuantizeGroup(Operand& x, int64_t i0, int64_t i1, int64_t k0, int64_t k1) {
  uint32_t largest = 0;
  for (int64_t i = i0; i < i1; ++i) {
    for (int64_t k = k0; k < k1; ++k) {
      largest = std::max(largest, std::bit_cast<uint32_t>(x.At(i, k)) & 0x7fffffffu);
    }
  }
  const float scale = Fp8Scale(largest);
  for (int64_t i = i0; i < i1; ++i) {
    for (int64_t k = k0; k < k1; ++k) {
      x.Scale(i, k) = scale;
      x.At(i, k) = std::isnan(scale) ? 0.0f : RoundE4M3(x.At(i, k) / scale);
    }
  }
}

Operand Read(const GemmArg& arg, ComputeType type, bool blocks) {
  Operand x = {arg.rows(), arg.depth(), {}, {}};
  x.value.resize(static_cast<size_t>(x.rows * x.depth));
  x.scale.resize(x.value.size());
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t k = 0; k < x.depth; ++k) {
      int64_t row = arg.transposed ? k : i;
      if (!arg.ids.empty()) row = arg.ids[static_cast<size_t>(row)];
      const float v = arg.m.row(row)[arg.transposed ? i : k];
      x.At(i, k) = type == ComputeType::kBF16 ? BF16ToF32(F32ToBF16(Flush(v))) : v;
    }
  }
  if (type != ComputeType::kF8) return x;
  const int64_t rows = blocks ? kFp8Group : 1;
  for (int64_t i = 0; i < x.rows; i += rows) {
    for (int64_t k = 0; k < x.depth; k += kFp8Group) {
      QuantizeGroup(x, i, std::min(x.rows, i + rows), k, std::min(x.depth, k + kFp8Group));
    }
  }
  return x;
}

float Sum(Operand& a, Operand& b, int64_t i, int64_t j, ComputeType type) {
  float acc = 0;
  if (type == ComputeType::kBF16) {
    for (int64_t k = 0; k < a.depth; k += 2) {
      const bool pair = k + 1 < a.depth;
      acc = Flush(std::fma(pair ? a.At(i, k + 1) : 0.0f, pair ? b.At(j, k + 1) : 0.0f, acc));
      acc = Flush(std::fma(a.At(i, k), b.At(j, k), acc));
    }
    return acc;
  }
  if (type == ComputeType::kF32) {
    for (int64_t k = 0; k < a.depth; ++k) acc = std::fma(a.At(i, k), b.At(j, k), acc);
    return acc;
  }
  for (int64_t first = 0; first < a.depth; first += kFp8Group) {
    float partial = 0;
    for (int64_t k = first; k < std::min(a.depth, first + kFp8Group); ++k) {
      partial = std::fma(a.At(i, k), b.At(j, k), partial);
    }
    acc = std::fma(partial, a.Scale(i, first) * b.Scale(j, first), acc);
  }
  return acc;
}

}  // namespace

void GemmRef(const GemmArg& a, const GemmArg& b, View2<float> c, const GemmOptions& options) {
  CHECK(a.depth() == b.depth() && c.rows == a.rows() && c.cols == b.rows());
  Operand left = Read(a, options.type, false);
  Operand right = Read(b, options.type, options.b_is_weight);
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) {
      float sum = Sum(left, right, i, j, options.type);
      if (options.accumulate) {
        const bool flush = options.type == ComputeType::kBF16;
        sum = flush ? Flush(Flush(c.row(i)[j]) + sum) : c.row(i)[j] + sum;
      }
      c.row(i)[j] = sum;
    }
  }
}

}  // namespace hadal
