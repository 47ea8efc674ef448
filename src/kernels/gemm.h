// Products of plain f32 matrices, as training needs them: either operand may be transposed, its
// rows picked by number, and the sum added to what is there. Weights that stay for long are better
// packed once (kernels/matmul.h); Gemm packs on the fly and drives the same micro-kernels.
//
// Order of sums. Output (i, j) is a function of the operands' elements (i, .) and (j, .) alone:
//   kF32   one chain of fma over k in order from 0; the bits of MatMul on F32 weights.
//   kBF16  the same after rounding both operands to bf16 (nearest even), but of each pair of k the
//          odd one first, a last fellow of 0 to an odd depth, and all denormals (of the operands,
//          of each sum, of c) are 0 of their sign: what VDPBF16PS computes, here on any machine.
//   kF8    operands quantised to e4m3 as kernels/fp8.h defines. For each run of 128 k in order:
//          partial = one chain of fma from 0 over the e4m3 values, then
//          acc = fma(partial, scale_a * scale_b, acc), acc from 0.
// With `accumulate` the finished sum is then added to c by one addition.
// The product of a matrix with itself is symmetric to the bit, so half of it is computed.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "tensor/view.h"

namespace hadal {

// What the operands of a product are rounded to; sums are always f32.
enum class ComputeType : uint8_t { kF32, kBF16, kF8 };

// An operand: element (i, k) is m(i, k), or m(k, i) when transposed. `ids`, unless empty, are the
// rows of m that take part, in order: along i for a plain operand, along k for a transposed one.
struct GemmArg {
  View2<const float> m;
  bool transposed = false;
  std::span<const int32_t> ids = {};

  int64_t rows() const { return transposed ? m.cols : Picked(); }
  int64_t depth() const { return transposed ? Picked() : m.cols; }

 private:
  int64_t Picked() const { return ids.empty() ? m.rows : static_cast<int64_t>(ids.size()); }
};

struct GemmOptions {
  ComputeType type = ComputeType::kF32;
  bool accumulate = false;
  bool b_is_weight = false;  // kF8: b has a scale per 128 x 128 block, not per 1 x 128 along k
};

// c(i, j) = or += sum over k of a(i, k) * b(j, k). c: [a.rows(), b.rows()], overlapping neither
// operand. Any size may be 0; over k = 0 the sum is 0. With b_is_weight b has no ids.
void Gemm(const Exec& exec, const GemmArg& a, const GemmArg& b, View2<float> c,
          const GemmOptions& options = {});

// Independent products of any sizes in one go, their outputs disjoint.
struct GemmJob {
  GemmArg a, b;
  View2<float> c;
};
void GemmJobs(const Exec& exec, std::span<const GemmJob> jobs, const GemmOptions& options = {});

// The definition, plain loops.
void GemmRef(const GemmArg& a, const GemmArg& b, View2<float> c, const GemmOptions& options = {});

}  // namespace hadal
