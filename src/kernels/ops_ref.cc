// The definitions of the row operations: plain loops, slow, for tests and for reading.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/exp_constants.h"
#include "kernels/ops.h"

namespace hadal {
namespace {

constexpr int64_t kLanes = 16;

float SumLanes(const float* lane) {
  float sum[kLanes];
  std::copy(lane, lane + kLanes, sum);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) sum[i] += sum[i + half];
  }
  return sum[0];
}

}  // namespace

float ExpRef(float x) {
  using namespace internal;
  if (std::isnan(x)) return x;
  if (x < -kExpLimit) return 0.0f;
  x = std::min(x, kExpLimit);
  // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
  const float shifted = std::fma(x, kLog2E, kRoundShift);
  const float n = shifted - kRoundShift;
  const float r = std::fma(n, -kLn2Low, std::fma(n, -kLn2High, x));
  float p = kExp6;
  for (const float c : {kExp5, kExp4, kExp3, kExp2, 1.0f, 1.0f}) p = std::fma(p, r, c);
  // 2^n in two factors: 2^-127 is not a normal number.
  const int32_t i = static_cast<int32_t>(n);
  const int32_t half = i >> 1;
  return p * std::bit_cast<float>((half + 127) << 23) *
         std::bit_cast<float>((i - half + 127) << 23);
}

void RmsNormRef(View2<const float> x, std::span<const float> w, float eps, View2<float> y) {
  for (int64_t t = 0; t < x.rows; ++t) {
    float lane[kLanes] = {};
    const float* in = x.row(t);
    for (int64_t d = 0; d < x.cols; ++d) {
      lane[d % kLanes] = std::fma(in[d], in[d], lane[d % kLanes]);
    }
    const float mean = SumLanes(lane) / static_cast<float>(x.cols);
    const float scale = 1.0f / std::sqrt(mean + eps);
    for (int64_t d = 0; d < x.cols; ++d) {
      y.row(t)[d] = in[d] * scale * w[static_cast<size_t>(d)];
    }
  }
}

void RopeRef(View2<float> x, std::span<const int32_t> positions, View2<const float> cos_sin,
             const RopeShape& s) {
  const int64_t half = s.dim / 2;
  for (int64_t t = 0; t < x.rows; ++t) {
    const float* cos = cos_sin.row(positions[static_cast<size_t>(t)]);
    const float* sin = cos + half;
    for (int64_t h = 0; h < s.heads; ++h) {
      float* v = x.row(t) + s.offset + h * s.head_stride;
      for (int64_t i = 0; i < half; ++i) {
        float& a = s.interleaved ? v[2 * i] : v[i];
        float& b = s.interleaved ? v[2 * i + 1] : v[i + half];
        const float rotated_a = a * cos[i] - b * sin[i];
        b = b * cos[i] + a * sin[i];
        a = rotated_a;
      }
    }
  }
}

void SwiGluRef(View2<const float> gate, View2<const float> up, View2<float> y) {
  for (int64_t t = 0; t < gate.rows; ++t) {
    for (int64_t f = 0; f < gate.cols; ++f) {
      const float v = gate.row(t)[f];
      y.row(t)[f] = v / (1.0f + ExpRef(-v)) * up.row(t)[f];
    }
  }
}

void SoftmaxRef(View2<float> x, std::span<const int64_t> n) {
  for (int64_t t = 0; t < x.rows; ++t) {
    const int64_t count = n[static_cast<size_t>(t)];
    float* row = x.row(t);
    float max = -std::numeric_limits<float>::infinity();
    for (int64_t i = 0; i < count; ++i) max = row[i] > max ? row[i] : max;
    float lane[kLanes] = {};
    for (int64_t i = 0; i < count; ++i) {
      row[i] = ExpRef(row[i] - max);
      lane[i % kLanes] += row[i];
    }
    const float sum = SumLanes(lane);
    for (int64_t i = 0; i < count; ++i) row[i] /= sum;
  }
}

}  // namespace hadal
