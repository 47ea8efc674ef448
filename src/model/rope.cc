// Rotation tables: plain, linear, llama3 and YaRN frequencies.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/internal_config.h"
#include "model/internal_model.h"

namespace hadal::internal {
namespace {

// Dimension at which a rotation turns `turns` times over the original context (arXiv:2309.00071).
double CorrectionDim(double turns, double dim, double base, double context) {
  return dim * std::log(context / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
}

void Yarn(const ModelConfig& c, int64_t dim, std::vector<double>& frequencies) {
  const RopeScaling& r = c.rope_scaling;
  const auto context = static_cast<double>(r.original_context);
  const auto d = static_cast<double>(dim);
  const double low = std::max(std::floor(CorrectionDim(r.beta_fast, d, c.rope_base, context)), 0.0);
  double high = std::min(std::ceil(CorrectionDim(r.beta_slow, d, c.rope_base, context)), d - 1);
  if (low == high) high += 0.001;
  for (size_t k = 0; k < frequencies.size(); ++k) {
    const double ramp = std::clamp((static_cast<double>(k) - low) / (high - low), 0.0, 1.0);
    frequencies[k] *= (1 - ramp) + ramp / r.factor;
  }
}

void Llama3(const RopeScaling& r, std::vector<double>& frequencies) {
  for (double& f : frequencies) {
    const double turns = static_cast<double>(r.original_context) * f / (2 * std::numbers::pi);
    const double smooth = std::clamp(
        (turns - r.low_freq_factor) / (r.high_freq_factor - r.low_freq_factor), 0.0, 1.0);
    f = (1 - smooth) * f / r.factor + smooth * f;
  }
}

std::vector<double> Frequencies(const ModelConfig& c) {
  const int64_t dim = RopeDim(c);
  std::vector<double> f(static_cast<size_t>(dim / 2));
  for (size_t k = 0; k < f.size(); ++k) {
    f[k] = std::pow(c.rope_base, -2.0 * static_cast<double>(k) / static_cast<double>(dim));
  }
  const RopeScaling& r = c.rope_scaling;
  for (size_t k = 0; k < r.frequency_factors.size(); ++k) {
    f[k] /= static_cast<double>(r.frequency_factors[k]);
  }
  switch (r.kind) {
    case RopeScaling::Kind::kNone:
      break;
    case RopeScaling::Kind::kLinear:
      for (double& v : f) v /= r.factor;
      break;
    case RopeScaling::Kind::kLlama3:
      Llama3(r, f);
      break;
    case RopeScaling::Kind::kYarn:
      Yarn(c, dim, f);
      break;
  }
  return f;
}

// YaRN's temperature as far as it goes onto cos and sin; 1 in DeepSeek's releases, where all of it
// is in the softmax scale.
double Magnitude(const RopeScaling& r) {
  if (r.kind != RopeScaling::Kind::kYarn) return 1;
  if (r.attention_factor) return *r.attention_factor;
  return YarnMscale(r.factor, r.mscale) / YarnMscale(r.factor, r.mscale_all_dim);
}

}  // namespace

int64_t RopeDim(const ModelConfig& c) { return c.mla() ? c.rope_dim : c.head_dim; }

void FillRope(const Exec& exec, const ModelConfig& c, int64_t first, View2<float> out) {
  const std::vector<double> frequencies = Frequencies(c);
  const double magnitude = Magnitude(c.rope_scaling);
  const int64_t half = out.cols / 2;
  constexpr int64_t kRows = 64;
  exec.pool().For((out.rows + kRows - 1) / kRows, [&](int64_t task, int) {
    const int64_t end = std::min(out.rows, (task + 1) * kRows);
    for (int64_t r = task * kRows; r < end; ++r) {
      float* row = out.row(r);
      for (int64_t k = 0; k < half; ++k) {
        const double angle = static_cast<double>(first + r) * frequencies[static_cast<size_t>(k)];
        row[k] = static_cast<float>(magnitude * std::cos(angle));
        row[half + k] = static_cast<float>(magnitude * std::sin(angle));
      }
    }
  });
}

}  // namespace hadal::internal
