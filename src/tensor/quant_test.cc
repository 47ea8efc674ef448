#include "tensor/quant.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "tensor/half.h"

namespace hadal {
namespace {

// One type's section of testdata/quant.bin (tools/golden/make_quant.py).
struct Golden {
  DType type;
  std::string blocks;
  std::vector<float> values;
};

std::vector<Golden> LoadGolden() {
  const auto file = ReadFile("src/tensor/testdata/quant.bin");
  EXPECT_TRUE(file.ok()) << file.error().message;
  std::vector<Golden> all;
  if (!file.ok()) return all;
  const char* p = file->data();
  const char* end = p + file->size();
  const auto number = [&] {
    uint32_t v;
    std::memcpy(&v, p, sizeof v);
    p += sizeof v;
    return v;
  };
  while (p < end) {
    const uint32_t name_size = number();
    const std::string name(p, name_size);
    p += name_size;
    const uint32_t bytes = number(), count = number();
    Golden g = {*DTypeFromName(name), std::string(p, bytes), std::vector<float>(count)};
    std::memcpy(g.values.data(), p + bytes, count * sizeof(float));
    p += bytes + count * sizeof(float);
    all.push_back(std::move(g));
  }
  return all;
}

TEST(Dequantize, EveryBlockTypeEqualsThePublicDefinitionBitForBit) {
  const std::vector<Golden> all = LoadGolden();
  ASSERT_EQ(all.size(), 13u);
  for (const Golden& g : all) {
    const auto n = static_cast<int64_t>(g.values.size());
    ASSERT_EQ(RowBytes(g.type, n), static_cast<int64_t>(g.blocks.size()));
    // At an odd address: files promise no alignment.
    const std::string shifted = "x" + g.blocks;
    std::vector<float> out(g.values.size());
    Dequantize(g.type, shifted.data() + 1, out.data(), n);
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(g.values[i]))
          << Info(g.type).name << " value " << i << ": " << out[i] << ", want " << g.values[i];
    }
  }
}

TEST(Dequantize, Fp8BlockScalesFollowTheTilesToTheRaggedEdge) {
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

TEST(Dequantize, ScalarTypesWiden) {
  const uint16_t half[] = {0x3c00, 0xc000, 0x0001};
  const double wide[] = {0.1, -3.0, 1e300};
  const uint8_t narrow[] = {0x38, 0xfe, 0x01};
  float out[3];
  Dequantize(DType::kF16, half, out, 3);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -2.0f);
  EXPECT_EQ(out[2], 0x1p-24f);
  Dequantize(DType::kBF16, half, out, 3);
  EXPECT_EQ(out[0], BF16ToF32(0x3c00));
  Dequantize(DType::kF64, wide, out, 3);
  EXPECT_EQ(out[0], 0.1f);
  EXPECT_EQ(out[1], -3.0f);
  EXPECT_TRUE(std::isinf(out[2]));
  Dequantize(DType::kF8E4M3, narrow, out, 3);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -448.0f);
  EXPECT_EQ(out[2], 0x1p-9f);
}

constexpr DType kEncoded[] = {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                              DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// The same bell-shaped values as in tools/golden/make_quant.py.
std::vector<float> BellValues(size_t count) {
  std::vector<float> values(count);
  uint32_t state = 1;
  for (float& v : values) {
    int64_t total = 0;
    for (int i = 0; i < 12; ++i) {
      state = state * 1664525u + 1013904223u;
      total += state >> 16;
    }
    v = static_cast<float>(total - 6 * 65536) / 65536.0f;
  }
  return values;
}

std::vector<uint8_t> Encoded(DType type, std::span<const float> x,
                             std::span<const float> importance = {}) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<uint8_t> out(static_cast<size_t>(RowBytes(type, n)));
  Quantize(type, x.data(), out.data(), n, importance);
  return out;
}

std::vector<float> Decoded(DType type, const std::vector<uint8_t>& blocks, size_t n) {
  std::vector<float> out(n);
  Dequantize(type, blocks.data(), out.data(), static_cast<int64_t>(n));
  return out;
}

double RelativeRmse(std::span<const float> x, std::span<const float> y,
                    std::span<const float> weight) {
  double error = 0, total = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double w = weight.empty() ? 1.0 : weight[i], e = y[i] - x[i];
    error += w * e * e;
    total += w * x[i] * x[i];
  }
  return std::sqrt(error / total);
}

TEST(Quantize, ErrorIsAtMostThatOfLlamaCpp) {
  const std::vector<float> all = BellValues(2 * 65536);
  const std::span<const float> x(all.data(), 65536);
  std::vector<float> importance(all.begin() + 65536, all.end());
  for (float& w : importance) w = w * w + 0.01f;
  std::ifstream file("src/tensor/testdata/quant_rmse.txt");
  std::string name;
  double plain, weighted;
  int types = 0;
  while (file >> name >> plain >> weighted) {
    const DType type = *DTypeFromName(name);
    const auto a = Decoded(type, Encoded(type, x), x.size());
    const double own = RelativeRmse(x, a, {});
    EXPECT_LE(own, plain * 1.0001) << name;
    const auto b = Decoded(type, Encoded(type, x, importance), x.size());
    const double own_weighted = RelativeRmse(x, b, importance);
    // llama.cpp's Q6_K minimises exactly this measure, ours also minds the large weights.
    EXPECT_LE(own_weighted, weighted * 1.003) << name;
    RecordProperty(name,
                   std::to_string(own / plain) + " " + std::to_string(own_weighted / weighted));
    ++types;
  }
  EXPECT_EQ(types, 8);
}

TEST(Quantize, Q8IsBitEqualToLlamaCpp) {
  const auto golden = ReadFile("src/tensor/testdata/q8_0.bin");
  ASSERT_TRUE(golden.ok()) << golden.error().message;
  const std::vector<uint8_t> blocks = Encoded(DType::kQ8_0, BellValues(1024));
  ASSERT_EQ(blocks.size(), golden->size());
  EXPECT_EQ(std::memcmp(blocks.data(), golden->data(), blocks.size()), 0);
}

TEST(Quantize, ImportanceMovesTheErrorAwayFromWhatMatters) {
  const std::vector<float> x = BellValues(4096);
  std::vector<float> importance(x.size(), 0.01f);
  for (size_t i = 0; i < x.size(); i += 4) importance[i] = 10.0f;
  for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const auto plain = Decoded(type, Encoded(type, x), x.size());
    const auto weighted = Decoded(type, Encoded(type, x, importance), x.size());
    EXPECT_LT(RelativeRmse(x, weighted, importance), RelativeRmse(x, plain, importance))
        << Info(type).name;
  }
}

TEST(Quantize, WhatWasEncodedOnceIsKept) {
  // Values on a grid that the type can hold exactly come back as they were.
  std::vector<float> x(512);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = 0.25f * static_cast<float>(static_cast<int>(i % 16) - 8);
  for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1}) {
    EXPECT_EQ(Decoded(type, Encoded(type, x), x.size()), x) << Info(type).name;
  }
}

TEST(Quantize, ZerosStayZeros) {
  const std::vector<float> x(512, 0.0f);
  for (const DType type : kEncoded) {
    EXPECT_EQ(Decoded(type, Encoded(type, x), x.size()), x) << Info(type).name;
    const std::vector<float> no_importance(x.size(), 0.0f);
    EXPECT_EQ(Decoded(type, Encoded(type, x, no_importance), x.size()), x) << Info(type).name;
  }
}

TEST(Quantize, ConstantAndOneSidedBlocksStayClose) {
  for (const float sign : {1.0f, -1.0f}) {
    std::vector<float> x(512);
    for (size_t i = 0; i < x.size(); ++i) x[i] = sign * (i < 256 ? 3.0f : 2.0f + i % 7 * 0.1f);
    for (const DType type : kEncoded) {
      const auto y = Decoded(type, Encoded(type, x), x.size());
      EXPECT_LT(RelativeRmse(x, y, {}), 0.06) << Info(type).name << " sign " << sign;
    }
  }
}

TEST(Quantize, WildValuesNeitherTrapNorSpreadBeyondTheirBlock) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float wild : {1e30f, -1e38f, 1e-40f, 65504.0f * 200, inf, -inf, nan}) {
    std::vector<float> x = BellValues(512);
    const std::vector<float> tame = x;
    x[17] = wild;
    for (const DType type : kEncoded) {
      const auto y = Decoded(type, Encoded(type, x), x.size());
      const auto clean = Decoded(type, Encoded(type, tame), x.size());
      for (size_t i = 256; i < 512; ++i) ASSERT_EQ(y[i], clean[i]) << Info(type).name;
      if (!std::isfinite(wild)) continue;
      for (const float v : y) ASSERT_TRUE(std::isfinite(v)) << Info(type).name << " " << wild;
    }
  }
}

TEST(Quantize, FloatTypesRoundToNearestEven) {
  const float x[] = {1.0f + 0x1p-11f, 1.0f + 0x3p-11f, -0.1f, 70000.0f};
  for (const DType type : {DType::kF16, DType::kBF16}) {
    const auto y = Encoded(type, x);
    for (size_t i = 0; i < 4; ++i) {
      uint16_t bits;
      std::memcpy(&bits, y.data() + 2 * i, sizeof bits);
      EXPECT_EQ(bits, type == DType::kF16 ? F32ToF16(x[i]) : F32ToBF16(x[i]));
    }
  }
  const auto same = Encoded(DType::kF32, x);
  EXPECT_EQ(std::memcmp(same.data(), x, sizeof x), 0);
}

TEST(Quantize, ListsWhatItWrites) {
  for (const DType type : kEncoded) EXPECT_TRUE(CanQuantize(type)) << Info(type).name;
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) EXPECT_TRUE(CanQuantize(type));
  for (const DType type : {DType::kQ2_K, DType::kIQ4_XS, DType::kMXFP4, DType::kF64, DType::kI32}) {
    EXPECT_FALSE(CanQuantize(type)) << Info(type).name;
  }
}

#ifdef NDEBUG
TEST(Quantize, IsFastEnough) {
  const std::vector<float> x = BellValues(1 << 18);
  const auto rate = [&](DType type) {
    double best = 0;
    for (int i = 0; i < 3; ++i) {
      const auto start = std::chrono::steady_clock::now();
      Encoded(type, x);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      best = std::max(best, static_cast<double>(x.size()) / took.count());
    }
    return best;
  };
  // A tenth of what one idle core does: the machine that runs this may be busy.
  EXPECT_GT(rate(DType::kQ8_0), 10e6);
  EXPECT_GT(rate(DType::kQ4_0), 2.5e6);
  EXPECT_GT(rate(DType::kQ4_K), 1e6);
  EXPECT_GT(rate(DType::kQ6_K), 1e6);
}
#endif

}  // namespace
}  // namespace hadal
