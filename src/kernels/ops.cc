#include "kernels/ops.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace hadal {

void RmsNorm(const Exec&, View2<const float> x, std::span<const float> w, float eps,
             View2<float> y) {
  RmsNormRef(x, w, eps, y);
}

void Add(const Exec&, View2<float> x, View2<const float> y) {
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t d = 0; d < x.cols; ++d) x.row(t)[d] += y.row(t)[d];
  }
}

void AddRmsNorm(const Exec& exec, View2<float> x, View2<const float> y, std::span<const float> w,
                float eps, View2<float> out) {
  Add(exec, x, y);
  RmsNormRef(x, w, eps, out);
}

void Rope(const Exec&, View2<float> x, std::span<const int32_t> positions,
          View2<const float> cos_sin, const RopeShape& shape) {
  RopeRef(x, positions, cos_sin, shape);
}

void SwiGlu(const Exec&, View2<const float> gate, View2<const float> up, View2<float> y) {
  SwiGluRef(gate, up, y);
}

void RowsFinite(const Exec&, View2<const float> x, std::span<uint8_t> ok) {
  for (int64_t t = 0; t < x.rows; ++t) {
    ok[static_cast<size_t>(t)] =
        std::all_of(x.row(t), x.row(t) + x.cols, [](float v) { return std::isfinite(v); });
  }
}

}  // namespace hadal
