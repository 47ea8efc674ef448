#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <set>

namespace hadal {
namespace {

TEST(DType, NamesAndGgufIdsRoundTrip) {
  std::set<int> ids;
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto type = static_cast<DType>(i);
    const DTypeInfo& info = Info(type);
    EXPECT_EQ(DTypeFromName(info.name), type) << info.name;
    if (info.gguf_id < 0) continue;
    EXPECT_TRUE(ids.insert(info.gguf_id).second) << info.name;
    EXPECT_EQ(DTypeFromGguf(static_cast<uint32_t>(info.gguf_id)), type) << info.name;
  }
}

TEST(DType, NamesIgnoreCase) {
  EXPECT_EQ(DTypeFromName("q4_k"), DType::kQ4_K);
  EXPECT_EQ(DTypeFromName("bf16"), DType::kBF16);
  EXPECT_EQ(DTypeFromName("f8_e4m3"), DType::kF8E4M3);
}

TEST(DType, UnknownNamesAndIdsAreRefused) {
  EXPECT_EQ(DTypeFromName(""), std::nullopt);
  EXPECT_EQ(DTypeFromName("F3"), std::nullopt);
  EXPECT_EQ(DTypeFromName("F322"), std::nullopt);
  for (const uint32_t id : {4u, 5u, 9u, 15u, 31u, 40u, 255u, 0xffffffffu}) {
    EXPECT_EQ(DTypeFromGguf(id), std::nullopt) << id;
  }
}

TEST(DType, RowBytesCountsWholeBlocks) {
  EXPECT_EQ(RowBytes(DType::kF32, 5), 20);
  EXPECT_EQ(RowBytes(DType::kF8E4M3, 5), 5);
  EXPECT_EQ(RowBytes(DType::kQ4_0, 64), 36);
  EXPECT_EQ(RowBytes(DType::kQ6_K, 512), 420);
  EXPECT_EQ(RowBytes(DType::kMXFP4, 32), 17);
  EXPECT_EQ(RowBytes(DType::kQ4_K, 0), 0);
}

TEST(DType, FloatLikeLeavesOutTheIntegers) {
  for (const DType type : {DType::kI8, DType::kI16, DType::kI32, DType::kI64}) {
    EXPECT_FALSE(IsFloatLike(type)) << Info(type).name;
  }
  for (const DType type : {DType::kF32, DType::kF64, DType::kF8E4M3, DType::kMXFP4}) {
    EXPECT_TRUE(IsFloatLike(type)) << Info(type).name;
  }
}

}  // namespace
}  // namespace hadal
