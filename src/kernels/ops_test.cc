#include "kernels/ops.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hadal {
namespace {

TEST(Exp, RelativeErrorOverADenseSweep) {
  double worst = 0;
  for (int64_t i = -880000; i <= 880000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(ExpRef(x) - exact) / exact);
  }
  EXPECT_LT(worst, 0x1p-22);
}

}  // namespace
}  // namespace hadal
