#include "infer/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/rng.h"

namespace hadal {
namespace {

constexpr int64_t kBlock = 256;  // weights summed as one, so that a draw can skip them
constexpr int64_t kLanes = 16;

// exp(x) for x <= 0, 0 below -87: branch-free so that the compiler vectorises the loops around it.
// Cody-Waite reduction and the Taylor polynomial to x^7 on |r| <= ln(2)/2.
inline float ExpNegative(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  const float scale = std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) + 127u) << 23);
  return x < -87.0f ? 0.0f : p * scale;
}

// The largest element; NaN when any element is NaN or Inf.
float FiniteMax(std::span<const float> x) {
  std::array<float, kLanes> best, poison{};
  best.fill(-std::numeric_limits<float>::infinity());
  const size_t whole = x.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      const float v = x[i + j];
      best[j] = v > best[j] ? v : best[j];
      poison[j] += v * 0.0f;  // NaN for NaN and Inf
    }
  }
  float max = -std::numeric_limits<float>::infinity(), bad = 0;
  for (size_t j = 0; j < kLanes; ++j) {
    max = std::max(max, best[j]);
    bad += poison[j];
  }
  for (size_t i = whole; i < x.size(); ++i) {
    max = std::max(max, x[i]);
    bad += x[i] * 0.0f;
  }
  return std::isnan(bad) ? std::numeric_limits<float>::quiet_NaN() : max;
}

// w[i] = exp((x[i] - max) / temperature) for at most kBlock elements; returns their sum.
double WeighBlock(const float* x, int64_t n, float max, float temperature, float* w) {
  for (int64_t i = 0; i < n; ++i) w[i] = ExpNegative((x[i] - max) / temperature);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += w[i];
  return sum;
}

double LogSumExp(std::span<const float> x, float max) {
  std::array<float, kBlock> weights;
  std::array<double, kLanes> sums{};
  const auto n = static_cast<int64_t>(x.size());
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = std::min(kBlock, n - begin);
    weights.fill(0);
    for (int64_t i = 0; i < count; ++i) {
      weights[static_cast<size_t>(i)] = ExpNegative(x[static_cast<size_t>(begin + i)] - max);
    }
    for (size_t i = 0; i < kBlock; i += kLanes) {
      for (size_t j = 0; j < kLanes; ++j) sums[j] += weights[i + j];
    }
  }
  double sum = 0;
  for (const double part : sums) sum += part;
  return static_cast<double>(max) + std::log(sum);
}

// One uniform number of [0, 1) a token, from its own place in the generator.
double Draw(uint64_t seed, int64_t index) {
  const auto at = static_cast<uint64_t>(index);
  const auto words =
      Philox({static_cast<uint32_t>(at), static_cast<uint32_t>(at >> 32), 0, 0}, seed);
  const uint64_t bits = (uint64_t{words[0]} << 32) | words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

bool Better(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

Error OutOfRange(std::string_view field, double value, std::string_view range) {
  std::string text = std::to_string(value);
  if (std::abs(value) < 1e15 && value == std::floor(value))
    text = std::to_string(static_cast<int64_t>(value));
  if (std::isnan(value)) text = "NaN";
  if (std::isinf(value)) text = value > 0 ? "Inf" : "-Inf";
  return Error{Code::kInvalid,
               std::string(field) + " is " + text + ", must be in " + std::string(range)};
}

}  // namespace

Status SamplingParams::Validate(int64_t vocab) const {
  struct Range {
    std::string_view name;
    double value, low, high;
    std::string_view text;
  };
  const Range ranges[] = {
      {"temperature", temperature, 0, 100, "[0, 100]; 0 is greedy"},
      {"top_p", top_p, 0, 1, "[0, 1]; 1 turns it off"},
      {"top_k", static_cast<double>(top_k), 0, 2147483647.0, "[0, 2^31); 0 turns it off"},
      {"min_p", min_p, 0, 1, "[0, 1]; 0 turns it off"},
      {"repetition_penalty", repetition_penalty, 1e-6, 100, "(0, 100]; 1 turns it off"},
      {"frequency_penalty", frequency_penalty, -2, 2, "[-2, 2]; 0 turns it off"},
      {"presence_penalty", presence_penalty, -2, 2, "[-2, 2]; 0 turns it off"},
      {"top_logprobs", static_cast<double>(top_logprobs), -1, 128, "[-1, 128]; -1 turns it off"},
  };
  for (const Range& r : ranges) {
    if (!(r.value >= r.low && r.value <= r.high)) return OutOfRange(r.name, r.value, r.text);
  }
  for (const auto& [id, bias] : logit_bias) {
    if (id < 0 || id >= vocab) {
      return Error{Code::kInvalid, "logit_bias names token " + std::to_string(id) +
                                       ", the vocabulary has " + std::to_string(vocab)};
    }
    if (!(bias >= -100 && bias <= 100)) {
      return OutOfRange("logit_bias of token " + std::to_string(id), bias, "[-100, 100]");
    }
  }
  return {};
}

Sampler::Sampler(int64_t vocab)
    : work_(static_cast<size_t>(vocab)),
      weights_(static_cast<size_t>(vocab)),
      counts_(static_cast<size_t>(vocab)),
      sums_(static_cast<size_t>((vocab + kBlock - 1) / kBlock)) {
  order_.reserve(static_cast<size_t>(vocab));
}

void Sampler::Shape(std::span<const float> logits, const SamplingParams& params,
                    std::span<const int32_t> prompt, std::span<const int32_t> output) {
  shaped_ = logits;
  if (params.logit_bias.empty() && params.repetition_penalty == 1.0f &&
      params.frequency_penalty == 0.0f && params.presence_penalty == 0.0f) {
    return;
  }
  std::copy(logits.begin(), logits.end(), work_.begin());
  shaped_ = work_;
  const auto at = [](int32_t id) { return static_cast<size_t>(id); };
  for (const auto& [id, bias] : params.logit_bias) work_[at(id)] += bias;
  if (const float r = params.repetition_penalty; r != 1.0f) {
    for (const auto ids : {prompt, output}) {
      for (const int32_t id : ids) {
        if (counts_[at(id)]++ > 0) continue;
        float& z = work_[at(id)];
        z = z > 0 ? z / r : z * r;
      }
    }
    for (const auto ids : {prompt, output}) {
      for (const int32_t id : ids) counts_[at(id)] = 0;
    }
  }
  if (params.frequency_penalty != 0.0f || params.presence_penalty != 0.0f) {
    for (const int32_t id : output) ++counts_[at(id)];
    for (const int32_t id : output) {
      const int32_t count = std::exchange(counts_[at(id)], 0);
      if (count == 0) continue;
      work_[at(id)] -=
          params.frequency_penalty * static_cast<float>(count) + params.presence_penalty;
    }
  }
}

// A threshold that rises as better ones come keeps all but a few elements from being looked at
// twice.
void Sampler::KeepTopK(int32_t k) {
  const auto keep = static_cast<size_t>(k);
  const size_t room = std::min(shaped_.size(), std::max<size_t>(2 * keep, 256));
  float threshold = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < shaped_.size(); ++i) {
    // An equal one of a higher id cannot displace any of the k that set the threshold.
    if (!(shaped_[i] > threshold)) continue;
    order_.emplace_back(shaped_[i], static_cast<int32_t>(i));
    if (order_.size() < room || room <= keep) continue;
    std::nth_element(order_.begin(), order_.begin() + k - 1, order_.end(), Better);
    order_.resize(keep);
    threshold = order_[keep - 1].first;
  }
  if (order_.size() > keep) {
    std::nth_element(order_.begin(), order_.begin() + k - 1, order_.end(), Better);
    order_.resize(keep);
  }
  std::sort(order_.begin(), order_.end(), Better);
}

// Leaves the nucleus at the front of order_, sorted, and returns its size. `gathered`: order_ holds
// the sorted top-k already; else weights_ and sums_ cover the vocabulary.
size_t Sampler::KeepTopP(const SamplingParams& params, float max, bool gathered) {
  const float t = params.temperature;
  const auto weigh = [&](const Candidate& c) {
    return static_cast<double>(ExpNegative((c.first - max) / t));
  };
  double total = 0;
  if (gathered) {
    for (const Candidate& c : order_) total += weigh(c);
  } else {
    for (const double sum : sums_) total += sum;
  }
  const double target = static_cast<double>(params.top_p) * total;
  // How far below the best to look, in nats of the tempered distribution; widened until enough.
  for (double depth = 4; !gathered; depth *= 2) {
    const bool all = depth > 64;
    const auto cut = static_cast<float>(static_cast<double>(max) - depth * static_cast<double>(t));
    order_.clear();
    double mass = 0;
    for (size_t i = 0; i < shaped_.size(); ++i) {
      if (!(shaped_[i] >= cut) && !all) continue;
      order_.emplace_back(shaped_[i], static_cast<int32_t>(i));
      mass += weights_[i];
    }
    // The order of sums differs from the one below: a hair more is asked for here.
    if (all || mass >= target * (1 + 1e-9)) break;
  }
  size_t sorted = gathered ? order_.size() : 0;
  double mass = 0;
  for (size_t i = 0; i < order_.size(); ++i) {
    if (i == sorted) {
      const size_t next = std::min(order_.size(), std::max<size_t>(64, sorted * 4));
      const auto from = order_.begin() + static_cast<ptrdiff_t>(sorted);
      const auto to = order_.begin() + static_cast<ptrdiff_t>(next);
      if (to != order_.end()) std::nth_element(from, to, order_.end(), Better);
      std::sort(from, to, Better);
      sorted = next;
    }
    mass += weigh(order_[i]);
    if (mass >= target) return i + 1;
  }
  return order_.size();
}

int32_t Sampler::DrawAll(double u) {
  double total = 0;
  for (const double sum : sums_) total += sum;
  const double target = u * total;
  double before = 0;
  size_t block = 0;
  while (block + 1 < sums_.size() && before + sums_[block] <= target) before += sums_[block++];
  const size_t begin = block * kBlock, end = std::min(weights_.size(), begin + kBlock);
  // Rounding may leave the target at the very end: the last token of any weight is taken then.
  size_t chosen = begin;
  for (size_t i = begin; i < end; ++i) {
    if (weights_[i] == 0) continue;
    chosen = i;
    before += weights_[i];
    if (before > target) break;
  }
  return static_cast<int32_t>(chosen);
}

int32_t Sampler::DrawKept(const SamplingParams& params, float max, size_t kept, double u) const {
  const auto weigh = [&](size_t i) {
    return ExpNegative((order_[i].first - max) / params.temperature);
  };
  double total = 0;
  size_t count = 0;
  for (; count < kept; ++count) {
    const float w = weigh(count);
    if (w < params.min_p) break;  // sorted, and the best weighs 1
    total += w;
  }
  const double target = u * total;
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    sum += weigh(i);
    if (sum > target) return order_[i].second;
  }
  return order_[count == 0 ? 0 : count - 1].second;
}

void Sampler::FillTop(std::span<const float> logits, int32_t count, double lse,
                      SampledToken& token) {
  if (count <= 0) return;
  shaped_ = logits;
  order_.clear();
  KeepTopK(std::min(count, static_cast<int32_t>(logits.size())));
  token.top.reserve(order_.size());
  for (const auto& [z, id] : order_) {
    token.top.push_back({id, static_cast<float>(static_cast<double>(z) - lse)});
  }
}

float Sampler::Logprob(std::span<const float> logits, int32_t id) {
  const float max = FiniteMax(logits);
  if (std::isnan(max)) return max;
  return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) -
                            LogSumExp(logits, max));
}

SampledToken Sampler::Sample(std::span<const float> logits, const SamplingParams& params,
                             std::span<const int32_t> prompt, std::span<const int32_t> output,
                             int64_t index) {
  CHECK(logits.size() == work_.size() && !logits.empty());
  const float raw_max = FiniteMax(logits);
  if (std::isnan(raw_max)) return {.id = -1, .top = {}};
  SampledToken token{.id = -1, .top = {}};
  Shape(logits, params, prompt, output);
  const float max = shaped_.data() == logits.data() ? raw_max : FiniteMax(shaped_);
  if (std::isnan(max)) return {.id = -1, .top = {}};  // a penalty overflowed
  if (params.temperature == 0) {
    token.id =
        static_cast<int32_t>(std::find(shaped_.begin(), shaped_.end(), max) - shaped_.begin());
  } else {
    const double u = Draw(params.seed, index);
    const bool top_k = params.top_k > 0 && params.top_k < static_cast<int64_t>(shaped_.size());
    const bool top_p = params.top_p < 1;
    order_.clear();
    if (top_k) {
      KeepTopK(params.top_k);
    } else {
      const auto n = static_cast<int64_t>(shaped_.size());
      for (int64_t begin = 0, block = 0; begin < n; begin += kBlock, ++block) {
        float* weights = weights_.data() + begin;
        const int64_t count = std::min(kBlock, n - begin);
        double sum = WeighBlock(shaped_.data() + begin, count, max, params.temperature, weights);
        if (!top_p && params.min_p > 0) {
          sum = 0;
          for (int64_t i = 0; i < count; ++i) {
            if (weights[i] < params.min_p) weights[i] = 0;
            sum += weights[i];
          }
        }
        sums_[static_cast<size_t>(block)] = sum;
      }
    }
    if (!top_k && !top_p) {
      token.id = DrawAll(u);
    } else {
      const size_t kept = top_p ? KeepTopP(params, max, top_k) : order_.size();
      token.id = DrawKept(params, max, kept, u);
    }
  }
  if (params.top_logprobs >= 0) {
    const double lse = LogSumExp(logits, raw_max);
    token.logprob =
        static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token.id)]) - lse);
    FillTop(logits, params.top_logprobs, lse, token);
  }
  return token;
}

}  // namespace hadal
