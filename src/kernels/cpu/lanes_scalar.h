// Sixteen float lanes as an array, for any machine.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "tensor/half.h"

namespace hadal::internal {
namespace {

struct LanesScalar {
  static constexpr int kRegisters = 7;
  struct F {
    float v[16];
  };

  static F Zero() { return Set(0.0f); }
  static F Set(float v) {
    F r;
    for (float& x : r.v) x = v;
    return r;
  }
  static F Load(const float* p) {
    F r;
    for (int i = 0; i < 16; ++i) r.v[i] = p[i];
    return r;
  }
  static F Load(const uint16_t* p) {
    F r;
    for (int i = 0; i < 16; ++i) r.v[i] = F16ToF32(p[i]);
    return r;
  }
  static void Store(float* p, const F& x) {
    for (int i = 0; i < 16; ++i) p[i] = x.v[i];
  }
  static void Store(uint16_t* p, const F& x) {
    for (int i = 0; i < 16; ++i) p[i] = F32ToF16(x.v[i]);
  }
  static F Fma(const F& x, const F& y, F z) {
    for (int i = 0; i < 16; ++i) z.v[i] = std::fma(x.v[i], y.v[i], z.v[i]);
    return z;
  }
  static F Add(F x, const F& y) {
    for (int i = 0; i < 16; ++i) x.v[i] += y.v[i];
    return x;
  }
  static F Sub(F x, const F& y) {
    for (int i = 0; i < 16; ++i) x.v[i] -= y.v[i];
    return x;
  }
  static F Mul(F x, const F& y) {
    for (int i = 0; i < 16; ++i) x.v[i] *= y.v[i];
    return x;
  }
  static F Div(F x, const F& y) {
    for (int i = 0; i < 16; ++i) x.v[i] /= y.v[i];
    return x;
  }
  static F Sqrt(F x) {
    for (float& v : x.v) v = std::sqrt(v);
    return x;
  }
  // x > y ? x : y and x < y ? x : y, so y where either is NaN.
  static F Max(F x, const F& y) {
    for (int i = 0; i < 16; ++i) x.v[i] = x.v[i] > y.v[i] ? x.v[i] : y.v[i];
    return x;
  }
  static F Min(F x, const F& y) {
    for (int i = 0; i < 16; ++i) x.v[i] = x.v[i] < y.v[i] ? x.v[i] : y.v[i];
    return x;
  }
  // value where not (x < limit), else 0.
  static F ZeroBelow(const F& x, const F& limit, F value) {
    for (int i = 0; i < 16; ++i) value.v[i] = x.v[i] < limit.v[i] ? 0.0f : value.v[i];
    return value;
  }
  // Lanes 2i and 2i + 1 exchanged.
  static F SwapPairs(const F& x) {
    F r;
    for (int i = 0; i < 16; ++i) r.v[i] = x.v[i ^ 1];
    return r;
  }
  // y[16 i + r] = lane i of x[r].
  static void Transpose(const F (&x)[16], float* y) {
    for (int r = 0; r < 16; ++r) {
      for (int i = 0; i < 16; ++i) y[16 * i + r] = x[r].v[i];
    }
  }
  // y[stride * i + r] = rows[r][at + i].
  static void TransposeRows(const float* const* rows, int64_t at, float* y, int64_t stride) {
    for (int i = 0; i < 16; ++i) {
      for (int r = 0; r < 16; ++r) y[stride * i + r] = rows[r][at + i];
    }
  }
  // For x whose low bits hold an integer n (x = n + 1.5 * 2^23): 2^floor(n/2) and 2^(n-floor(n/2)).
  static void PowersOfTwo(const F& x, F* first, F* second) {
    constexpr uint32_t kShift = std::bit_cast<uint32_t>(0x1.8p+23f);
    for (int i = 0; i < 16; ++i) {
      const uint32_t n = std::bit_cast<uint32_t>(x.v[i]) - kShift;
      const auto half = static_cast<uint32_t>(static_cast<int32_t>(n) >> 1);
      first->v[i] = std::bit_cast<float>((half + 127) << 23);
      second->v[i] = std::bit_cast<float>((n - half + 127) << 23);
    }
  }
  // 2^(n+1) for the same n, -127 <= n < 127.
  static F PowerOfTwo(const F& x) {
    F r;
    for (int i = 0; i < 16; ++i) {
      r.v[i] = std::bit_cast<float>((std::bit_cast<uint32_t>(x.v[i]) << 23) + 0x40000000u);
    }
    return r;
  }
};

}  // namespace
}  // namespace hadal::internal
