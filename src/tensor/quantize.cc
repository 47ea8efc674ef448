// Encoders. A block type stores small whole numbers q and a few scales; what is free is the choice
// of the scales. Each encoder tries a row of candidate scales, and takes for each the least-squares
// optimum given the rounded q, so that one pass over the block yields both the refined scale and
// the weighted squared error it leaves.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/half.h"
#include "tensor/internal_blocks.h"
#include "tensor/quant.h"

namespace hadal {
namespace {

using namespace internal;  // NOLINT: the block layouts

// Sums run in this many independent lanes, which the compiler turns into vectors without being
// allowed to reorder anything.
constexpr int kLanes = 8;

float Total(const float (&lane)[kLanes]) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// The whole number in [low, high] nearest to v, as a float; low for NaN. |low|, |high| < 2^22:
// adding 1.5 * 2^23 leaves no room for a fraction.
inline float Nearest(float v, float low, float high) {
  constexpr float kMagic = 12582912.0f;
  v = v > low ? v : low;
  v = v < high ? v : high;
  return (v + kMagic) - kMagic;
}
inline int NearestInt(float v, int low, int high) {
  return static_cast<int>(Nearest(v, static_cast<float>(low), static_cast<float>(high)));
}

// Scales saturate instead of becoming Inf, which would turn the zeros of a block into NaN.
uint16_t ScaleBits(float d) { return F32ToF16(std::clamp(d, -65504.0f, 65504.0f)); }

float Reciprocal(float d) {
  const float r = d != 0.0f ? 1.0f / d : 0.0f;
  return std::isfinite(r) ? r : 0.0f;
}

struct Range {
  float low, high;
};
Range FindRange(const float* x, int n) {
  float low[kLanes], high[kLanes];
  for (int l = 0; l < kLanes; ++l) low[l] = high[l] = x[l];
  for (int i = kLanes; i < n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      low[l] = x[i + l] < low[l] ? x[i + l] : low[l];
      high[l] = x[i + l] > high[l] ? x[i + l] : high[l];
    }
  }
  return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes)};
}
// The element of largest magnitude, with its sign.
float FindPeak(const float* x, int n) {
  const Range r = FindRange(x, n);
  return -r.low > r.high ? r.low : r.high;
}

// What each element's squared error counts. Large weights of a row matter a little more than small
// ones even without a measured importance: they carry more of the output.
void ErrorWeights(const float* x, const float* importance, int n, float* w) {
  float lane[kLanes] = {};
  for (int i = 0; i < n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lane[l] += x[i + l] * x[i + l];
  }
  const float mean = Total(lane) / static_cast<float>(n);
  for (int i = 0; i < n; ++i) w[i] = std::sqrt(mean + x[i] * x[i]);
  if (importance != nullptr) {
    for (int i = 0; i < n; ++i) w[i] *= importance[i];
  }
}

// A row of candidates is tried by rounding at each; then the best is rounded at its own optimum a
// few times more, which converges.
constexpr int kPolish = 3;

// x ~ scale * q with q in [-limit, limit - 1].
float FitSymmetric(const float* x, const float* w, int n, int limit) {
  constexpr int kSteps = 9;
  const float peak = FindPeak(x, n);
  if (peak == 0.0f) return 0.0f;
  const float low = static_cast<float>(-limit), high = static_cast<float>(limit - 1);
  float best_scale = peak / low, best_gain = -1.0f;
  const auto try_inverse = [&](float inverse) {
    float xq_lane[kLanes] = {}, qq_lane[kLanes] = {};
    for (int i = 0; i < n; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        const float q = Nearest(x[i + l] * inverse, low, high);
        const float wq = w[i + l] * q;
        xq_lane[l] += wq * x[i + l];
        qq_lane[l] += wq * q;
      }
    }
    const float xq = Total(xq_lane), qq = Total(qq_lane);
    // The error left is sum(w x^2) - xq^2 / qq.
    const float gain = xq * (xq / qq);
    if (!(qq > 0.0f && gain > best_gain)) return false;
    best_gain = gain;
    best_scale = xq / qq;
    return true;
  };
  for (int step = -kSteps; step <= kSteps; ++step) {
    // The peak lands on -limit, a little short of it, or a little beyond and is clipped.
    try_inverse((low + 0.1f * static_cast<float>(step)) / peak);
  }
  for (int i = 0; i < kPolish && try_inverse(Reciprocal(best_scale)); ++i) {
  }
  return best_scale;
}

struct Affine {
  float scale, offset;
};

// Least squares for x ~ scale * q + offset from the weighted sums; the offset may be held <= 0.
struct AffineSums {
  float w = 0, x = 0, q = 0, qq = 0, xq = 0;

  // The error left is sum(w x^2) minus `gain`; negative gain: no solution.
  Affine Solve(bool negative_offset, float* gain) const {
    const float determinant = w * qq - q * q;
    *gain = -1.0f;
    if (!(determinant > 0.0f)) return {};
    Affine fit = {(w * xq - x * q) / determinant, (qq * x - q * xq) / determinant};
    if (negative_offset && fit.offset > 0.0f) fit = {xq / qq, 0.0f};
    // For the constrained solution the same expression holds, since offset is 0.
    *gain = fit.scale * xq + fit.offset * x;
    return fit;
  }
};

// x ~ scale * q + offset with q in [0, levels].
Affine FitAffine(const float* x, const float* w, int n, int levels, bool negative_offset) {
  constexpr int kSteps = 12;
  Range range = FindRange(x, n);
  if (negative_offset) range.low = std::min(range.low, 0.0f);
  const float width = range.high - range.low;
  const float top = static_cast<float>(levels);
  if (!(width > 0.0f)) return {0.0f, range.low};
  Affine best = {width / top, range.low};
  float best_gain = -1.0f;
  AffineSums sums;
  float w_lane[kLanes] = {}, x_lane[kLanes] = {};
  for (int i = 0; i < n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      w_lane[l] += w[i + l];
      x_lane[l] += w[i + l] * x[i + l];
    }
  }
  sums.w = Total(w_lane);
  sums.x = Total(x_lane);
  const auto try_grid = [&](float inverse, float offset) {
    float q_lane[kLanes] = {}, qq_lane[kLanes] = {}, xq_lane[kLanes] = {};
    for (int i = 0; i < n; i += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        const float q = Nearest((x[i + l] - offset) * inverse, 0.0f, top);
        const float wq = w[i + l] * q;
        q_lane[l] += wq;
        qq_lane[l] += wq * q;
        xq_lane[l] += wq * x[i + l];
      }
    }
    sums.q = Total(q_lane);
    sums.qq = Total(qq_lane);
    sums.xq = Total(xq_lane);
    float gain;
    const Affine fit = sums.Solve(negative_offset, &gain);
    if (!(gain > best_gain && fit.scale > 0.0f)) return false;
    best_gain = gain;
    best = fit;
    return true;
  };
  for (int step = 0; step < kSteps; ++step) {
    try_grid((top - 1.0f + 0.2f * static_cast<float>(step)) / width, range.low);
  }
  for (int i = 0; i < kPolish && try_grid(Reciprocal(best.scale), best.offset); ++i) {
  }
  return best;
}

// q[i] = nearest level of (x[i] - offset) / scale; returns the weighted squared error.
float QuantizeAffine(const float* x, const float* w, int n, Affine a, float low, float high,
                     float* q) {
  const float inverse = Reciprocal(a.scale);
  float lane[kLanes] = {};
  for (int i = 0; i < n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const float v = Nearest((x[i + l] - a.offset) * inverse, low, high);
      const float error = (v * a.scale + a.offset) - x[i + l];
      q[i + l] = v;
      lane[l] += w[i + l] * error * error;
    }
  }
  return Total(lane);
}

void PackNibbles(const uint8_t* q, uint8_t* qs) {
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] & 15) << 4);
}
uint32_t FifthBits(const uint8_t* q) {
  uint32_t bits = 0;
  for (int j = 0; j < kBlock; ++j) bits |= uint32_t{q[j] >> 4 & 1u} << j;
  return bits;
}

// Fills q with x / d + limit, d the stored scale, and stores d.
void EncodeSymmetric(const float* x, const float* importance, int limit, uint8_t* d_bytes,
                     uint8_t* q) {
  float w[kBlock];
  ErrorWeights(x, importance, kBlock, w);
  const uint16_t bits = ScaleBits(FitSymmetric(x, w, kBlock, limit));
  StoreU16(d_bytes, bits);
  const float inverse = Reciprocal(F16ToF32(bits));
  for (int j = 0; j < kBlock; ++j) {
    q[j] = static_cast<uint8_t>(NearestInt(x[j] * inverse, -limit, limit - 1) + limit);
  }
}

void EncodeAffine(const float* x, const float* importance, int levels, uint8_t* d_bytes,
                  uint8_t* m_bytes, uint8_t* q) {
  float w[kBlock];
  ErrorWeights(x, importance, kBlock, w);
  const Affine fit = FitAffine(x, w, kBlock, levels, false);
  const uint16_t d = ScaleBits(fit.scale), m = ScaleBits(fit.offset);
  StoreU16(d_bytes, d);
  StoreU16(m_bytes, m);
  const float inverse = Reciprocal(F16ToF32(d)), offset = F16ToF32(m);
  for (int j = 0; j < kBlock; ++j) {
    q[j] = static_cast<uint8_t>(NearestInt((x[j] - offset) * inverse, 0, levels));
  }
}

void Encode(const float* x, const float* importance, BlockQ4_0& b) {
  uint8_t q[kBlock];
  EncodeSymmetric(x, importance, 8, b.d, q);
  PackNibbles(q, b.qs);
}

void Encode(const float* x, const float* importance, BlockQ4_1& b) {
  uint8_t q[kBlock];
  EncodeAffine(x, importance, 15, b.d, b.m, q);
  PackNibbles(q, b.qs);
}

void Encode(const float* x, const float* importance, BlockQ5_0& b) {
  uint8_t q[kBlock];
  EncodeSymmetric(x, importance, 16, b.d, q);
  StoreU32(b.qh, FifthBits(q));
  PackNibbles(q, b.qs);
}

void Encode(const float* x, const float* importance, BlockQ5_1& b) {
  uint8_t q[kBlock];
  EncodeAffine(x, importance, 31, b.d, b.m, q);
  StoreU32(b.qh, FifthBits(q));
  PackNibbles(q, b.qs);
}

// The one encoder that has a public definition: scale peak / 127, halves away from zero.
void Encode(const float* x, const float*, BlockQ8_0& b) {
  const float d = std::fabs(FindPeak(x, kBlock)) / 127.0f;
  StoreU16(b.d, ScaleBits(d));
  const float inverse = Reciprocal(d);
  for (int j = 0; j < kBlock; ++j) {
    const float v = x[j] * inverse;
    const float magnitude = std::fabs(v) < 127.0f ? std::fabs(v) : 127.0f;
    const int whole = static_cast<int>(magnitude);
    const int rounded = whole + (magnitude - static_cast<float>(whole) >= 0.5f ? 1 : 0);
    b.qs[j] = static_cast<int8_t>(v < 0.0f ? -rounded : rounded);
  }
}

// A super-block of Q4_K or Q5_K while its scales are searched: x ~ d * sc * q - dmin * m.
struct AffineSuper {
  uint16_t d, dmin;
  uint8_t sc[8], m[8];
  float q[kSuper];
};

// Tries the whole-number scale and min of each sub-block and their neighbours; returns the error.
float ChooseScales(const float* x, const float* w, const Affine* fit, float levels,
                   AffineSuper* out) {
  const float d = F16ToF32(out->d), dmin = F16ToF32(out->dmin);
  float total = 0.0f;
  for (int s = 0; s < 8; ++s) {
    const int sc0 = NearestInt(fit[s].scale * Reciprocal(d), 0, 63);
    const int m0 = NearestInt(-fit[s].offset * Reciprocal(dmin), 0, 63);
    float best = -1.0f;
    for (int sc = std::max(sc0 - 1, 0); sc <= std::min(sc0 + 1, 63); ++sc) {
      for (int m = std::max(m0 - 1, 0); m <= std::min(m0 + 1, 63); ++m) {
        float q[32];
        const Affine a = {d * static_cast<float>(sc), -(dmin * static_cast<float>(m))};
        const float error = QuantizeAffine(x + 32 * s, w + 32 * s, 32, a, 0.0f, levels, q);
        if (best >= 0.0f && !(error < best)) continue;
        best = error;
        out->sc[s] = static_cast<uint8_t>(sc);
        out->m[s] = static_cast<uint8_t>(m);
        std::memcpy(out->q + 32 * s, q, sizeof q);
      }
    }
    total += best;
  }
  return total;
}

// The d and dmin that fit best now that every sc, m and q is chosen. Sums in f64: the normal
// equations of d and dmin are nearly singular when all sub-blocks look alike.
void RefitScales(const float* x, const float* w, AffineSuper* b) {
  double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
  for (int i = 0; i < kSuper; ++i) {
    const double p = b->sc[i / 32] * static_cast<double>(b->q[i]), r = -b->m[i / 32];
    aa += w[i] * p * p;
    ab += w[i] * p * r;
    bb += w[i] * r * r;
    xa += w[i] * p * x[i];
    xb += w[i] * r * x[i];
  }
  const double determinant = aa * bb - ab * ab;
  if (!(determinant > 1e-9 * aa * bb)) return;
  const double d = (xa * bb - xb * ab) / determinant, dmin = (xb * aa - xa * ab) / determinant;
  if (!(d > 0.0 && dmin >= 0.0)) return;
  b->d = ScaleBits(static_cast<float>(d));
  b->dmin = ScaleBits(static_cast<float>(dmin));
}

AffineSuper SearchAffineSuper(const float* x, const float* importance, int levels) {
  constexpr int kRounds = 2;
  float w[kSuper];
  ErrorWeights(x, importance, kSuper, w);
  Affine fit[8];
  float scale = 0.0f, min = 0.0f;
  for (int s = 0; s < 8; ++s) {
    fit[s] = FitAffine(x + 32 * s, w + 32 * s, 32, levels, true);
    scale = std::max(scale, fit[s].scale);
    min = std::max(min, -fit[s].offset);
  }
  AffineSuper best = {};
  best.d = ScaleBits(scale / 63.0f);
  best.dmin = ScaleBits(min / 63.0f);
  const float top = static_cast<float>(levels);
  float best_error = ChooseScales(x, w, fit, top, &best);
  for (int round = 0; round < kRounds; ++round) {
    AffineSuper next = best;
    RefitScales(x, w, &next);
    if (next.d == best.d && next.dmin == best.dmin) break;
    const float error = ChooseScales(x, w, fit, top, &next);
    if (!(error < best_error)) break;
    best_error = error;
    best = next;
  }
  return best;
}

void PackLowNibbles(const float* q, uint8_t* qs) {
  for (int g = 0; g < 4; ++g) {
    for (int l = 0; l < 32; ++l) {
      const int low = static_cast<int>(q[64 * g + l]) & 15;
      const int high = static_cast<int>(q[64 * g + 32 + l]) & 15;
      qs[32 * g + l] = static_cast<uint8_t>(low | high << 4);
    }
  }
}

void Encode(const float* x, const float* importance, BlockQ4_K& b) {
  const AffineSuper best = SearchAffineSuper(x, importance, 15);
  StoreU16(b.d, best.d);
  StoreU16(b.dmin, best.dmin);
  PackScalesQ4(best.sc, best.m, b.scales);
  PackLowNibbles(best.q, b.qs);
}

void Encode(const float* x, const float* importance, BlockQ5_K& b) {
  const AffineSuper best = SearchAffineSuper(x, importance, 31);
  StoreU16(b.d, best.d);
  StoreU16(b.dmin, best.dmin);
  PackScalesQ4(best.sc, best.m, b.scales);
  PackLowNibbles(best.q, b.qs);
  std::memset(b.qh, 0, sizeof b.qh);
  for (int i = 0; i < kSuper; ++i) {
    b.qh[i % 32] |= static_cast<uint8_t>((static_cast<int>(best.q[i]) >> 4 & 1) << (i / 32));
  }
}

struct SymmetricSuper {
  uint16_t d;
  int8_t sc[16];
  float q[kSuper];
};

float ChooseScales(const float* x, const float* w, const float* fit, SymmetricSuper* out) {
  const float d = F16ToF32(out->d), inverse = Reciprocal(d);
  float total = 0.0f;
  for (int s = 0; s < 16; ++s) {
    const int sc0 = NearestInt(fit[s] * inverse, -128, 127);
    float best = -1.0f;
    for (int sc = std::max(sc0 - 1, -128); sc <= std::min(sc0 + 1, 127); ++sc) {
      float q[16];
      const Affine a = {d * static_cast<float>(sc), 0.0f};
      const float error = QuantizeAffine(x + 16 * s, w + 16 * s, 16, a, -32.0f, 31.0f, q);
      if (best >= 0.0f && !(error < best)) continue;
      best = error;
      out->sc[s] = static_cast<int8_t>(sc);
      std::memcpy(out->q + 16 * s, q, sizeof q);
    }
    total += best;
  }
  return total;
}

void RefitScales(const float* x, const float* w, SymmetricSuper* b) {
  double pp = 0, xp = 0;
  for (int i = 0; i < kSuper; ++i) {
    const double p = b->sc[i / 16] * static_cast<double>(b->q[i]);
    pp += w[i] * p * p;
    xp += w[i] * p * x[i];
  }
  if (pp > 0.0) b->d = ScaleBits(static_cast<float>(xp / pp));
}

void Encode(const float* x, const float* importance, BlockQ6_K& b) {
  float w[kSuper], fit[16], peak = 0.0f;
  ErrorWeights(x, importance, kSuper, w);
  for (int s = 0; s < 16; ++s) {
    fit[s] = FitSymmetric(x + 16 * s, w + 16 * s, 16, 32);
    if (std::fabs(fit[s]) > std::fabs(peak)) peak = fit[s];
  }
  SymmetricSuper best = {};
  best.d = ScaleBits(peak / -128.0f);
  const float first_error = ChooseScales(x, w, fit, &best);
  SymmetricSuper next = best;
  RefitScales(x, w, &next);
  if (next.d != best.d && ChooseScales(x, w, fit, &next) < first_error) best = next;

  StoreU16(b.d, best.d);
  std::memcpy(b.scales, best.sc, sizeof b.scales);
  std::memset(b.ql, 0, sizeof b.ql);
  std::memset(b.qh, 0, sizeof b.qh);
  for (int i = 0; i < kSuper; ++i) {
    const int q = static_cast<int>(best.q[i]) + 32;
    const int half = i / 128, k = i % 128 / 32, l = i % 32;
    b.ql[64 * half + 32 * (k & 1) + l] |= static_cast<uint8_t>((q & 15) << (k / 2 * 4));
    b.qh[32 * half + l] |= static_cast<uint8_t>(q >> 4 << (2 * k));
  }
}

template <typename Block>
void EncodeBlocks(DType type, const float* in, void* out, int64_t n, const float* importance) {
  const DTypeInfo& info = Info(type);
  CHECK(info.bytes == static_cast<int>(sizeof(Block)) && n % info.block == 0);
  auto* block = static_cast<Block*>(out);
  for (int64_t i = 0; i < n; i += info.block) {
    Encode(in + i, importance == nullptr ? nullptr : importance + i, *block++);
  }
}

template <typename Narrow>
void EncodeHalves(const float* in, void* out, int64_t n, Narrow narrow) {
  auto* to = static_cast<uint8_t*>(out);
  for (int64_t i = 0; i < n; ++i) StoreU16(to + 2 * i, narrow(in[i]));
}

}  // namespace

bool CanQuantize(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
      return true;
    default:
      return false;
  }
}

void Quantize(DType type, const float* in, void* out, int64_t n,
              std::span<const float> importance) {
  CHECK(importance.empty() || static_cast<int64_t>(importance.size()) == n);
  const float* weight = importance.empty() ? nullptr : importance.data();
  switch (type) {
    case DType::kF32:
      if (n > 0) std::memcpy(out, in, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      return EncodeHalves(in, out, n, F32ToF16);
    case DType::kBF16:
      return EncodeHalves(in, out, n, F32ToBF16);
    case DType::kQ8_0:
      return EncodeBlocks<BlockQ8_0>(type, in, out, n, weight);
    case DType::kQ4_0:
      return EncodeBlocks<BlockQ4_0>(type, in, out, n, weight);
    case DType::kQ4_1:
      return EncodeBlocks<BlockQ4_1>(type, in, out, n, weight);
    case DType::kQ5_0:
      return EncodeBlocks<BlockQ5_0>(type, in, out, n, weight);
    case DType::kQ5_1:
      return EncodeBlocks<BlockQ5_1>(type, in, out, n, weight);
    case DType::kQ4_K:
      return EncodeBlocks<BlockQ4_K>(type, in, out, n, weight);
    case DType::kQ5_K:
      return EncodeBlocks<BlockQ5_K>(type, in, out, n, weight);
    case DType::kQ6_K:
      return EncodeBlocks<BlockQ6_K>(type, in, out, n, weight);
    default:
      break;
  }
  CHECK(CanQuantize(type));
}

}  // namespace hadal
