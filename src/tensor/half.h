// Scalar conversions between f32 and the narrow float types. Narrowing rounds to nearest even.
#pragma once

#include <bit>
#include <cstdint>

namespace hadal {

inline float F16ToF32(uint16_t h) {
  const uint32_t sign = uint32_t{h & 0x8000u} << 16;
  const uint32_t rest = uint32_t{h & 0x7fffu} << 13;
  // Moving the exponent by 112 is a multiplication, exact for normals and denormals alike.
  float magnitude = std::bit_cast<float>(rest) * 0x1p112f;
  uint32_t bits = std::bit_cast<uint32_t>(magnitude);
  if (rest >= 0x0f800000u) bits = 0x7f800000u | (rest & 0x007fffffu);  // Inf and NaN
  return std::bit_cast<float>(bits | sign);
}

inline uint16_t F32ToF16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00;   // NaN
  if (magnitude >= 0x477ff000u) return sign | 0x7c00;  // rounds to Inf
  if (magnitude < 0x38800000u) {                       // denormal: let the adder round
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(shifted) - 0x3f000000u);
  }
  const uint32_t odd = (magnitude >> 13) & 1;
  return sign | static_cast<uint16_t>((magnitude - 0x38000000u + 0xfffu + odd) >> 13);
}

inline float BF16ToF32(uint16_t h) { return std::bit_cast<float>(uint32_t{h} << 16); }

inline uint16_t F32ToBF16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

// OCP FP8 E4M3 (e4m3fn): no Inf, NaN is 0x7f and 0xff, largest value 448.
inline float E4M3ToF32(uint8_t v) {
  const uint32_t sign = uint32_t{v & 0x80u} << 24;
  const uint32_t rest = uint32_t{v & 0x7fu} << 20;
  if ((v & 0x7f) == 0x7f) return std::bit_cast<float>(0x7fc00000u | sign);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(std::bit_cast<float>(rest) * 0x1p120f) |
                              sign);
}

}  // namespace hadal
