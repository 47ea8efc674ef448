#include "tensor/quant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/rng.h"
#include "tensor/half.h"

namespace hadal {
namespace {

TEST(Quant, Fp8BlockScalesFollowTheTilesToTheRaggedEdge) {
  const int64_t rows = 130, cols = 257;
  std::vector<uint8_t> in(static_cast<size_t>(rows * cols));
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint8_t>(i * 37 % 127);
  const std::vector<float> scale = {1.0f, 0.5f, 3.0f, -2.0f, 0.25f, 1e-3f};  // [2, 3]
  std::vector<float> out(in.size());
  DequantizeFp8Block(in.data(), scale.data(), out.data(), rows, cols);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const auto i = static_cast<size_t>(r * cols + c);
      const float want = E4M3ToF32(in[i]) * scale[static_cast<size_t>(r / 128 * 3 + c / 128)];
      ASSERT_EQ(out[i], want) << r << " " << c;
    }
  }
}

}  // namespace
}  // namespace hadal
