// Weights times activations: y = x W^T (+ b), the operation that decides speed.
//
// Order of sums. Output (m, n) is a function of row m of x, row n of W and W's type only; never of
// M, N, threads, ISA or which tile computed it:
//   float types (F32 F16 BF16 F8)  y = one chain of fma over k = 0..K-1 in f32, from 0, weights
//        widened exactly (F8: e4m3 * block scale rounded to f32 first, as the format defines).
//   block types  x is quantised per row in blocks of 32: scale = max|x| / 127 in f32, q = round to
//        nearest even, all-zero block scale 0. For each block of W (32 elements, or 16 where the
//        type has a scale per 16) in order: integer dot, exact in i32; then
//        acc = fma(scale_w * scale_x, float(idot), acc), and for types with a minimum
//        acc = fma(min_w, scale_x * float(sum q), acc)   (the sign of min_w as the type defines).
//        scale_w and min_w are f32: for K types the product d * sc rounded once, as Dequantize has.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "kernels/exec.h"
#include "tensor/buffer.h"
#include "tensor/dtype.h"
#include "tensor/view.h"

namespace hadal {

// A weight matrix [N, K] in the layout the micro-kernels read: tiles of 16 rows, K-major within the
// tile, so that 16 lanes hold 16 outputs. Rows are padded to 16 with zeros. Immutable, move-only.
class PackedMatrix {
 public:
  PackedMatrix();
  PackedMatrix(PackedMatrix&&) noexcept;
  PackedMatrix& operator=(PackedMatrix&&) noexcept;
  ~PackedMatrix();

  // data: N rows of RowBytes(type, K) bytes, row after row. For F8_E4M3, `fp8_scale` is
  // [ceil(N/128), ceil(K/128)]. Errors: K not a whole number of blocks; NaN or Inf among the
  // weights or scales (kNumeric, naming the row). Parallel over tiles. They are in `arena`, which
  // must live longer, or if it is null in memory of their own.
  static Result<PackedMatrix> Pack(const Exec& exec, DType type, const void* data, int64_t rows,
                                   int64_t cols, const float* fp8_scale = nullptr,
                                   Arena* arena = nullptr);
  // Exact bytes Pack() will hold, for plans made from a config alone.
  static int64_t PackedBytes(DType type, int64_t rows, int64_t cols);

  int64_t rows() const;
  int64_t cols() const;
  DType type() const;
  int64_t bytes() const;
  // out[0..K) = the dequantised row r, bit-equal to Dequantize (embedding lookup, tests).
  void Row(int64_t r, float* out) const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// x: [M, K]; w: [N, K]; y: [M, N]; bias: [N] or empty. x and y do not overlap. M may be 0.
// Threads: tiles of outputs, so the thread count never changes y. Allocates only from exec.
void MatMul(const Exec& exec, View2<const float> x, const PackedMatrix& w, View2<float> y,
            std::span<const float> bias = {});

// Several products of the same x in one parallel region, x quantised once: y[i] = x w[i]^T + b[i].
struct MatMulPart {
  const PackedMatrix* w;
  View2<float> y;
  std::span<const float> bias;
};
void MatMulGroup(const Exec& exec, View2<const float> x, std::span<const MatMulPart> parts);

// Independent products in one parallel region (the experts of a layer): part i multiplies rows
// `row_ids` of x (gather), or rows 0.. of x when row_ids is empty, x given per part.
struct MatMulJob {
  const PackedMatrix* w;
  View2<const float> x;              // source rows
  std::span<const int32_t> row_ids;  // which rows of x, in order; empty: all of x
  View2<float> y;                    // [row_ids.size() or x.rows, N]
};
void MatMulJobs(const Exec& exec, std::span<const MatMulJob> jobs);

// The definition: Dequantize, then plain loops in the order stated above.
void MatMulRef(View2<const float> x, DType type, const void* w, const float* fp8_scale, int64_t n,
               View2<float> y, std::span<const float> bias = {});

}  // namespace hadal
