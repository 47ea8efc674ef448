#include "tensor/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace hadal {
namespace {

// The value of a narrow float by its definition: sign, exponent and fraction fields.
double ByDefinition(uint32_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint32_t fraction = bits & ((1u << fraction_bits) - 1);
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double sign = bits >> (exponent_bits + fraction_bits) & 1 ? -1.0 : 1.0;
  const double f = std::ldexp(static_cast<double>(fraction), -fraction_bits);
  return sign * (exponent == 0 ? std::ldexp(f, 1 - bias) : std::ldexp(1.0 + f, exponent - bias));
}

TEST(Half, EveryF16WidensByDefinition) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = F16ToF32(static_cast<uint16_t>(h));
    if ((h & 0x7c00) == 0x7c00) {
      EXPECT_EQ(std::isnan(f), (h & 0x3ff) != 0) << h;
      EXPECT_EQ(std::isinf(f), (h & 0x3ff) == 0) << h;
      EXPECT_EQ(std::signbit(f), (h & 0x8000) != 0) << h;
    } else {
      ASSERT_EQ(f, ByDefinition(h, 5, 10)) << h;
      ASSERT_EQ(std::signbit(f), (h & 0x8000) != 0) << h;
    }
  }
}

TEST(Half, EveryF16SurvivesTheRoundTrip) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = F16ToF32(static_cast<uint16_t>(h));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(f)))) << h;
    } else {
      ASSERT_EQ(F32ToF16(f), h);
    }
  }
}

// Each value half-way between two neighbours goes to the even one; a hair off goes to the nearer.
template <typename Widen, typename Narrow>
void CheckRounding(uint32_t count, Widen widen, Narrow narrow) {
  for (uint32_t h = 0; h + 1 < count; ++h) {
    const double low = widen(static_cast<uint16_t>(h));
    const double high = widen(static_cast<uint16_t>(h + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    const uint32_t even = h % 2 == 0 ? h : h + 1;
    ASSERT_EQ(narrow(middle), even) << h;
    if (middle == 0.0f || middle == low) continue;
    ASSERT_EQ(narrow(std::nextafter(middle, 0.0f)), h) << h;
    ASSERT_EQ(narrow(std::nextafter(middle, std::numeric_limits<float>::infinity())), h + 1) << h;
    ASSERT_EQ(narrow(-middle), even | 0x8000) << h;
  }
}

TEST(Half, F16RoundsToNearestEven) { CheckRounding(0x7c00, F16ToF32, F32ToF16); }

TEST(Half, BF16RoundsToNearestEven) { CheckRounding(0x7f80, BF16ToF32, F32ToBF16); }

TEST(Half, F16OverflowsToInfAtTheHalfWayPoint) {
  EXPECT_EQ(F32ToF16(65504.0f), 0x7bff);
  EXPECT_EQ(F32ToF16(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7c00);
  EXPECT_EQ(F32ToF16(-1e30f), 0xfc00);
}

TEST(Half, F16UnderflowsToSignedZero) {
  EXPECT_EQ(F32ToF16(0x1p-25f), 0x0000);  // half-way to the smallest denormal: even is zero
  EXPECT_EQ(F32ToF16(0x1.000002p-25f), 0x0001);
  EXPECT_EQ(F32ToF16(-0x1p-30f), 0x8000);
}

TEST(Half, BF16KeepsNanAndInf) {
  EXPECT_TRUE(std::isnan(BF16ToF32(F32ToBF16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_EQ(F32ToBF16(std::numeric_limits<float>::infinity()), 0x7f80);
  EXPECT_EQ(F32ToBF16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(Half, EveryE4M3WidensByDefinition) {
  for (uint32_t v = 0; v < 256; ++v) {
    const float f = E4M3ToF32(static_cast<uint8_t>(v));
    EXPECT_EQ(std::signbit(f), v >= 128) << v;
    if ((v & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(f)) << v;
    } else {
      EXPECT_EQ(f, ByDefinition(v, 4, 3)) << v;
    }
  }
  EXPECT_EQ(E4M3ToF32(0x7e), 448.0f);
}

}  // namespace
}  // namespace hadal
