#include "tensor/quant.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
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

}  // namespace
}  // namespace hadal
