// What the vector bodies of several operations share, written once over sixteen lanes. L is one of
// the Lanes... structs. Included only inside the region compiled for L's instruction set.
#pragma once

#include "kernels/exp_constants.h"

namespace hadal::internal {

#define HADAL_INLINE static inline __attribute__((always_inline))

template <typename L>
struct LanesMath {
  using F = typename L::F;

  // ExpRef in every lane.
  HADAL_INLINE F Exp(F x) {
    const F limited = L::Min(L::Set(kExpLimit), x);
    const F shifted = L::Fma(limited, L::Set(kLog2E), L::Set(kRoundShift));
    const F n = L::Sub(shifted, L::Set(kRoundShift));
    const F r = L::Fma(n, L::Set(-kLn2Low), L::Fma(n, L::Set(-kLn2High), limited));
    F p = L::Fma(L::Set(kExp6), r, L::Set(kExp5));
    p = L::Fma(p, r, L::Set(kExp4));
    p = L::Fma(p, r, L::Set(kExp3));
    p = L::Fma(p, r, L::Set(kExp2));
    p = L::Fma(p, r, L::Set(1.0f));
    p = L::Fma(p, r, L::Set(1.0f));
    F first, second;
    L::PowersOfTwo(shifted, &first, &second);
    return L::ZeroBelow(x, L::Set(-kExpLimit), L::Mul(L::Mul(p, first), second));
  }

  // The same bits for x <= 0 and NaN, cheaper: half the polynomial (halving commutes with rounding)
  // times 2^(n+1), which is a normal number for every n down to -127.
  HADAL_INLINE F ExpNotPositive(F x) {
    const F shifted = L::Fma(x, L::Set(kLog2E), L::Set(kRoundShift));
    const F n = L::Sub(shifted, L::Set(kRoundShift));
    const F r = L::Fma(n, L::Set(-kLn2Low), L::Fma(n, L::Set(-kLn2High), x));
    F p = L::Fma(L::Set(0.5f * kExp6), r, L::Set(0.5f * kExp5));
    p = L::Fma(p, r, L::Set(0.5f * kExp4));
    p = L::Fma(p, r, L::Set(0.5f * kExp3));
    p = L::Fma(p, r, L::Set(0.5f * kExp2));
    p = L::Fma(p, r, L::Set(0.5f));
    p = L::Fma(p, r, L::Set(0.5f));
    return L::ZeroBelow(x, L::Set(-kExpLimit), L::Mul(p, L::PowerOfTwo(shifted)));
  }

  // Lanes combined pairwise 8, 4, 2, 1.
  HADAL_INLINE float Sum(F x) {
    float lane[16];
    L::Store(lane, x);
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return lane[0];
  }

  // The first n < 16 elements, zeros after.
  template <typename T>
  HADAL_INLINE F LoadPart(const T* p, int64_t n) {
    T part[16] = {};
    for (int64_t i = 0; i < n; ++i) part[i] = p[i];
    return L::Load(part);
  }
  template <typename T>
  HADAL_INLINE void StorePart(T* p, F x, int64_t n) {
    T part[16];
    L::Store(part, x);
    for (int64_t i = 0; i < n; ++i) p[i] = part[i];
  }
};

}  // namespace hadal::internal
