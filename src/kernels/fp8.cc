#include "kernels/fp8.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/dispatch.h"

namespace hadal {
namespace {

using internal::CeilDiv;

void QuantizeGroup(View2<const float> x, View2<uint8_t> codes, float* scale) {
  uint32_t largest = 0;
  for (int64_t r = 0; r < x.rows; ++r) {
    for (const float v : x[r])
      largest = std::max(largest, std::bit_cast<uint32_t>(v) & 0x7fffffffu);
  }
  *scale = Fp8Scale(largest);
  for (int64_t r = 0; r < x.rows; ++r) {
    const float* from = x.row(r);
    uint8_t* to = codes.row(r);
    if (std::isnan(*scale)) {
      std::fill_n(to, x.cols, uint8_t{0x7f});
      continue;
    }
    for (int64_t i = 0; i < x.cols; ++i) to[i] = E4M3Code(RoundE4M3(from[i] / *scale));
  }
}

void Quantize(const Exec& exec, View2<const float> x, View2<uint8_t> codes, View2<float> scales,
              int64_t rows) {
  const int64_t groups = CeilDiv(x.rows, rows), runs = CeilDiv(x.cols, kFp8Group);
  CHECK(codes.rows == x.rows && codes.cols == x.cols);
  CHECK(scales.rows == groups && scales.cols == runs);
  exec.pool().For(groups, [&](int64_t g, int) {
    const int64_t n = std::min(rows, x.rows - g * rows);
    for (int64_t run = 0; run < runs; ++run) {
      const int64_t col = run * kFp8Group, width = std::min(kFp8Group, x.cols - col);
      QuantizeGroup(x.Rows(g * rows, n).Cols(col, width), codes.Rows(g * rows, n).Cols(col, width),
                    scales.row(g) + run);
    }
  });
}

}  // namespace

void QuantizeRows(const Exec& exec, View2<const float> x, View2<uint8_t> codes,
                  View2<float> scales) {
  Quantize(exec, x, codes, scales, 1);
}

void QuantizeBlocks(const Exec& exec, View2<const float> x, View2<uint8_t> codes,
                    View2<float> scales) {
  Quantize(exec, x, codes, scales, kFp8Group);
}

}  // namespace hadal
