#include "tensor/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/check.h"

namespace hadal {
namespace {

constexpr std::array<DTypeInfo, kDTypeCount> kInfo = {{
    {"F32", 1, 4, 0},         {"F16", 1, 2, 1},       {"BF16", 1, 2, 30},
    {"F8_E4M3", 1, 1, -1},    {"Q4_0", 32, 18, 2},    {"Q4_1", 32, 20, 3},
    {"Q5_0", 32, 22, 6},      {"Q5_1", 32, 24, 7},    {"Q8_0", 32, 34, 8},
    {"Q2_K", 256, 84, 10},    {"Q3_K", 256, 110, 11}, {"Q4_K", 256, 144, 12},
    {"Q5_K", 256, 176, 13},   {"Q6_K", 256, 210, 14}, {"IQ4_NL", 32, 18, 20},
    {"IQ4_XS", 256, 136, 23}, {"MXFP4", 32, 17, 39},  {"I8", 1, 1, 24},
    {"I16", 1, 2, 25},        {"I32", 1, 4, 26},      {"I64", 1, 8, 27},
    {"F64", 1, 8, 28},
}};

}  // namespace

const DTypeInfo& Info(DType type) {
  CHECK(static_cast<int>(type) < kDTypeCount);
  return kInfo[static_cast<size_t>(type)];
}

std::optional<DType> DTypeFromGguf(uint32_t gguf_id) {
  for (int i = 0; i < kDTypeCount; ++i) {
    if (kInfo[i].gguf_id >= 0 && static_cast<uint32_t>(kInfo[i].gguf_id) == gguf_id) {
      return static_cast<DType>(i);
    }
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromName(std::string_view name) {
  const auto same = [&](std::string_view other) {
    return std::equal(name.begin(), name.end(), other.begin(), other.end(), [](char a, char b) {
      return std::toupper(static_cast<unsigned char>(a)) ==
             std::toupper(static_cast<unsigned char>(b));
    });
  };
  for (int i = 0; i < kDTypeCount; ++i) {
    if (same(kInfo[i].name)) return static_cast<DType>(i);
  }
  return std::nullopt;
}

bool IsFloatLike(DType type) { return type < DType::kI8 || type == DType::kF64; }

}  // namespace hadal
