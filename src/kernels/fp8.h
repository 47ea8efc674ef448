// The quantiser of FP8 training (arXiv:2412.19437 §3.3): e4m3 codes with one f32 scale per group of
// 1 x 128 elements along k (activations, gradients) or per block of 128 x 128 (weights). Groups and
// blocks at the edges are simply smaller.
//   scale = max|x| / 448 in f32; code = e4m3(x / scale), nearest even, saturating at +-448.
//   A group whose max|x| is under 2^-100 has scale 1 and codes 0. A group with NaN or Inf has scale
//   NaN, so every product with it is NaN.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/exec.h"
#include "tensor/view.h"

namespace hadal {

inline constexpr int64_t kFp8Group = 128;
inline constexpr float kE4M3Max = 448.0f;

// x rounded to the values of e4m3, as a float; finite x only. Saturates. Branch-free on purpose:
// loops over it become vector code.
inline float RoundE4M3(float x) {
  const int32_t bits = std::bit_cast<int32_t>(x);
  const int32_t magnitude = bits & 0x7fffffff;
  // Three bits of mantissa for normals; below 2^-6 multiples of 2^-9, by the adder's own rounding.
  const int32_t normal = (magnitude + 0x7ffff + ((magnitude >> 20) & 1)) & ~0xfffff;
  const float small = (std::bit_cast<float>(magnitude) + 16384.0f) - 16384.0f;
  int32_t rounded = magnitude < 0x3c800000 ? std::bit_cast<int32_t>(small) : normal;
  rounded = rounded > 0x43e00000 ? 0x43e00000 : rounded;
  return std::bit_cast<float>(rounded | (bits & std::numeric_limits<int32_t>::min()));
}
// The code of a value that RoundE4M3 returned.
inline uint8_t E4M3Code(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude =
      std::bit_cast<uint32_t>(std::bit_cast<float>(bits & 0x7fffffffu) * 0x1p-120f);
  return static_cast<uint8_t>(bits >> 24 & 0x80u) | static_cast<uint8_t>(magnitude >> 20);
}
// The scale of a group whose largest magnitude has these bits (NaN is the largest of all).
inline float Fp8Scale(uint32_t largest_bits) {
  if (largest_bits < 0x0d800000u) return 1.0f;
  if (largest_bits >= 0x7f800000u) return std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(largest_bits) / kE4M3Max;
}

// codes: [R, C]; scales: [R, ceil(C / 128)] for rows, [ceil(R / 128), ceil(C / 128)] for blocks.
// Codes of a group with NaN or Inf are 0x7f.
void QuantizeRows(const Exec& exec, View2<const float> x, View2<uint8_t> codes,
                  View2<float> scales);
void QuantizeBlocks(const Exec& exec, View2<const float> x, View2<uint8_t> codes,
                    View2<float> scales);

}  // namespace hadal
