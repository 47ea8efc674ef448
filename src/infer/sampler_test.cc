#include "infer/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "base/rng.h"

namespace hadal {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

SamplingParams Plain() {
  SamplingParams p;
  p.temperature = 1;
  p.top_p = 1;
  return p;
}

// The definitions of sampler.h, one after the other, in f64 with full sorts. Kept tokens in the
// order in which a draw walks them, with probabilities.
struct Kept {
  std::vector<int32_t> ids;
  std::vector<double> chances;
};

std::vector<float> ShapeRef(std::vector<float> z, const SamplingParams& p,
                            const std::vector<int32_t>& prompt,
                            const std::vector<int32_t>& output) {
  for (const auto& [id, bias] : p.logit_bias) z[static_cast<size_t>(id)] += bias;
  for (int32_t id = 0; id < static_cast<int32_t>(z.size()); ++id) {
    float& v = z[static_cast<size_t>(id)];
    const auto count = std::ranges::count(output, id);
    if (count > 0 || std::ranges::count(prompt, id) > 0) {
      v = v > 0 ? v / p.repetition_penalty : v * p.repetition_penalty;
    }
    if (count > 0) {
      v -= p.frequency_penalty * static_cast<float>(count) + p.presence_penalty;
    }
  }
  return z;
}

Kept KeepRef(const std::vector<float>& z, const SamplingParams& p) {
  Kept kept;
  kept.ids.resize(z.size());
  std::iota(kept.ids.begin(), kept.ids.end(), 0);
  const auto at = [&](int32_t id) { return static_cast<double>(z[static_cast<size_t>(id)]); };
  const double max = *std::ranges::max_element(z);
  const auto weight = [&](int32_t id) {
    return std::exp((at(id) - max) / static_cast<double>(p.temperature));
  };
  const bool sorted = (p.top_k > 0 && p.top_k < static_cast<int32_t>(z.size())) || p.top_p < 1;
  if (sorted) {
    std::ranges::stable_sort(kept.ids, [&](int32_t a, int32_t b) { return at(a) > at(b); });
  }
  if (p.top_k > 0 && p.top_k < static_cast<int32_t>(z.size())) {
    kept.ids.resize(static_cast<size_t>(p.top_k));
  }
  if (p.top_p < 1) {
    double total = 0, mass = 0;
    for (const int32_t id : kept.ids) total += weight(id);
    size_t n = 0;
    while (n < kept.ids.size()) {
      mass += weight(kept.ids[n++]);
      if (mass >= static_cast<double>(p.top_p) * total) break;
    }
    kept.ids.resize(n);
  }
  std::erase_if(kept.ids, [&](int32_t id) { return weight(id) < static_cast<double>(p.min_p); });
  double total = 0;
  for (const int32_t id : kept.ids) total += weight(id);
  for (const int32_t id : kept.ids) kept.chances.push_back(weight(id) / total);
  return kept;
}

double UniformAt(uint64_t seed, uint64_t index) {
  const auto w =
      Philox({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0}, seed);
  return static_cast<double>(((uint64_t{w[0]} << 32) | w[1]) >> 11) * 0x1p-53;
}

// True where `id` is what u picks, allowing for the rounding of f32 exponentials at the borders.
bool Picks(const Kept& kept, double u, int32_t id) {
  double before = 0;
  for (size_t i = 0; i < kept.ids.size(); ++i) {
    if (kept.ids[i] == id) return u >= before - 2e-6 && u <= before + kept.chances[i] + 2e-6;
    before += kept.chances[i];
  }
  return false;
}

std::vector<float> RandomLogits(Rng& rng, size_t n, double spread) {
  std::vector<float> z(n);
  for (float& v : z) v = static_cast<float>(rng.NextNormal() * spread);
  return z;
}

double LogprobRef(const std::vector<float>& z, int32_t id) {
  const double max = *std::ranges::max_element(z);
  double sum = 0;
  for (const float v : z) sum += std::exp(static_cast<double>(v) - max);
  return static_cast<double>(z[static_cast<size_t>(id)]) - max - std::log(sum);
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowerIdOfATie) {
  Sampler sampler(5);
  SamplingParams p = Plain();
  p.temperature = 0;
  const std::vector<float> z = {1, 3, 2, 3, -1};
  EXPECT_EQ(sampler.Sample(z, p, {}, {}, 0).id, 1);
  p.logit_bias = {{4, 10.0f}};
  EXPECT_EQ(sampler.Sample(z, p, {}, {}, 0).id, 4);
  p.logit_bias = {{1, -100.0f}};
  EXPECT_EQ(sampler.Sample(z, p, {}, {}, 0).id, 3);
}

TEST(Sampler, EveryChoiceEqualsThePlainDefinition) {
  Rng rng(7);
  for (int round = 0; round < 3000; ++round) {
    const auto n = static_cast<size_t>(1 + rng.Below(round % 50 == 0 ? 3000 : 300));
    std::vector<float> z = RandomLogits(rng, n, rng.NextDouble() * 6);
    if (rng.Below(3) == 0) {
      for (float& v : z) v = std::round(v);  // ties
    }
    SamplingParams p = Plain();
    p.temperature = static_cast<float>(0.05 + 2 * rng.NextDouble());
    if (rng.Below(2) == 0) p.top_k = static_cast<int32_t>(rng.Below(n + 3));
    if (rng.Below(2) == 0) p.top_p = rng.NextFloat();
    if (rng.Below(2) == 0) p.min_p = rng.NextFloat() * 0.3f;
    if (rng.Below(2) == 0) p.repetition_penalty = 0.5f + rng.NextFloat();
    if (rng.Below(2) == 0) p.frequency_penalty = rng.NextFloat() * 2 - 1;
    if (rng.Below(2) == 0) p.presence_penalty = rng.NextFloat() * 2 - 1;
    if (rng.Below(3) == 0)
      p.logit_bias = {{static_cast<int32_t>(rng.Below(n)), rng.NextFloat() * 9}};
    p.seed = rng.Next64();
    std::vector<int32_t> prompt(rng.Below(20)), output(rng.Below(20));
    for (int32_t& id : prompt) id = static_cast<int32_t>(rng.Below(n));
    for (int32_t& id : output) id = static_cast<int32_t>(rng.Below(n));
    const auto index = static_cast<int64_t>(rng.Below(1 << 20));

    p.top_logprobs = 0;
    Sampler sampler(static_cast<int64_t>(n));
    const SampledToken got = sampler.Sample(z, p, prompt, output, index);
    const Kept kept = KeepRef(ShapeRef(z, p, prompt, output), p);
    ASSERT_TRUE(Picks(kept, UniformAt(p.seed, static_cast<uint64_t>(index)), got.id))
        << "round " << round << " n " << n << " id " << got.id;
    ASSERT_NEAR(static_cast<double>(got.logprob), LogprobRef(z, got.id),
                2e-6 * (1 + std::abs(got.logprob)));
    // Scratch is clean again.
    ASSERT_EQ(sampler.Sample(z, p, prompt, output, index).id, got.id);
  }
}

// Pearson's statistic of n draws against exact chances; tokens that cannot come must not.
double ChiSquare(const std::vector<float>& z, const SamplingParams& p, int64_t n) {
  Sampler sampler(static_cast<int64_t>(z.size()));
  const Kept kept = KeepRef(z, p);
  std::map<int32_t, int64_t> seen;
  for (int64_t i = 0; i < n; ++i) ++seen[sampler.Sample(z, p, {}, {}, i).id];
  double chi = 0;
  for (size_t i = 0; i < kept.ids.size(); ++i) {
    const double expected = kept.chances[i] * static_cast<double>(n);
    const double difference = static_cast<double>(seen[kept.ids[i]]) - expected;
    chi += difference * difference / expected;
    seen.erase(kept.ids[i]);
  }
  EXPECT_TRUE(seen.empty()) << "a token that was cut came up";
  return chi;
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const std::vector<float> z = {0.1f, 2.0f, 1.5f, -0.5f, 0.9f, 1.1f, -1.0f, 0.0f, 1.9f, 0.4f};
  SamplingParams p = Plain();
  p.seed = 11;
  // 99.99 % points of chi-square with 9 and 4 degrees of freedom: 33.7 and 23.5.
  EXPECT_LT(ChiSquare(z, p, 50000), 33.7);
  p.temperature = 0.6f;
  EXPECT_LT(ChiSquare(z, p, 50000), 33.7);
  p.temperature = 2.0f;
  EXPECT_LT(ChiSquare(z, p, 50000), 33.7);
  p.top_k = 5;
  EXPECT_LT(ChiSquare(z, p, 50000), 23.5);
  p.top_k = 0;
  p.top_p = 0.6f;
  EXPECT_LT(ChiSquare(z, p, 50000), 33.7);
  p.top_p = 1;
  p.min_p = 0.5f;
  EXPECT_LT(ChiSquare(z, p, 50000), 33.7);
}

TEST(Sampler, NeighbouringIndicesAndSeedsAreIndependent) {
  const std::vector<float> z(4, 0.0f);
  Sampler sampler(4);
  SamplingParams p = Plain();
  // Pairs (draw i, draw i+1) and (seed s, seed s+1) over 16 cells each: 15 degrees of freedom.
  std::vector<double> by_index(16), by_seed(16);
  for (int64_t i = 0; i < 40000; ++i) {
    p.seed = 5;
    const int32_t a = sampler.Sample(z, p, {}, {}, 2 * i).id;
    ++by_index[static_cast<size_t>(a * 4 + sampler.Sample(z, p, {}, {}, 2 * i + 1).id)];
    p.seed = static_cast<uint64_t>(2 * i);
    const int32_t b = sampler.Sample(z, p, {}, {}, 3).id;
    p.seed = static_cast<uint64_t>(2 * i + 1);
    ++by_seed[static_cast<size_t>(b * 4 + sampler.Sample(z, p, {}, {}, 3).id)];
  }
  double chi_index = 0, chi_seed = 0;
  for (size_t c = 0; c < 16; ++c) {
    chi_index += (by_index[c] - 2500) * (by_index[c] - 2500) / 2500;
    chi_seed += (by_seed[c] - 2500) * (by_seed[c] - 2500) / 2500;
  }
  EXPECT_LT(chi_index, 44.3);  // 99.99 % point
  EXPECT_LT(chi_seed, 44.3);
}

// Each penalty moves a logit to exactly its rival's value: the tie goes to the lower id, one step
// of the penalty further it goes to the rival.
TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegative) {
  Sampler sampler(2);
  SamplingParams p = Plain();
  p.temperature = 0;
  const std::vector<int32_t> zero = {0, 0, 0};  // however often it came, once
  p.repetition_penalty = 2;
  EXPECT_EQ(sampler.Sample(std::vector<float>{2, 1}, p, zero, {}, 0).id, 0);
  EXPECT_EQ(sampler.Sample(std::vector<float>{2, 1}, p, {}, zero, 0).id, 0);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-1, -2}, p, zero, zero, 0).id, 0);
  p.repetition_penalty = std::nextafter(2.0f, 3.0f);
  EXPECT_EQ(sampler.Sample(std::vector<float>{2, 1}, p, zero, {}, 0).id, 1);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-1, -2}, p, {}, zero, 0).id, 1);
}

TEST(Sampler, FrequencyCountsOutputAndPresenceDoesNot) {
  Sampler sampler(2);
  SamplingParams p = Plain();
  p.temperature = 0;
  const std::vector<int32_t> thrice = {0, 0, 0};
  p.frequency_penalty = 0.5f;
  EXPECT_EQ(sampler.Sample(std::vector<float>{2.5f, 1}, p, {}, thrice, 0).id, 0);
  EXPECT_EQ(sampler.Sample(std::vector<float>{2.5f, 1.001f}, p, {}, thrice, 0).id, 1);
  EXPECT_EQ(sampler.Sample(std::vector<float>{2.5f, 2.4f}, p, thrice, {}, 0).id, 0) << "prompt";
  p.frequency_penalty = 0;
  p.presence_penalty = 1.5f;
  EXPECT_EQ(sampler.Sample(std::vector<float>{2.5f, 1}, p, {}, thrice, 0).id, 0);
  EXPECT_EQ(sampler.Sample(std::vector<float>{2.5f, 1.001f}, p, {}, thrice, 0).id, 1);
  EXPECT_EQ(sampler.Sample(std::vector<float>{2.5f, 2.4f}, p, thrice, {}, 0).id, 0) << "prompt";
}

TEST(Sampler, TopLogprobsAreOfTheRawLogitsBestFirst) {
  Sampler sampler(6);
  SamplingParams p = Plain();
  p.temperature = 0;
  p.logit_bias = {{5, 50.0f}};
  p.top_logprobs = 3;
  const std::vector<float> z = {1, 4, 2, 4, 0, 3};
  const SampledToken t = sampler.Sample(z, p, {}, {}, 0);
  EXPECT_EQ(t.id, 5);
  EXPECT_NEAR(static_cast<double>(t.logprob), LogprobRef(z, 5), 1e-6);
  ASSERT_EQ(t.top.size(), 3u);
  EXPECT_EQ(t.top[0].id, 1);
  EXPECT_EQ(t.top[1].id, 3);
  EXPECT_EQ(t.top[2].id, 5);
  EXPECT_EQ(t.top[2].logprob, t.logprob);
  p.top_logprobs = 0;
  EXPECT_TRUE(sampler.Sample(z, p, {}, {}, 0).top.empty());
  p.top_logprobs = 100;
  EXPECT_EQ(sampler.Sample(z, p, {}, {}, 0).top.size(), 6u);
}

TEST(Sampler, LogprobIsTheBitsThatSampleGives) {
  Rng rng(3);
  const std::vector<float> z = RandomLogits(rng, 1037, 4);
  Sampler sampler(1037);
  SamplingParams p = Plain();
  for (int64_t i = 0; i < 50; ++i) {
    p.top_logprobs = 0;
    const SampledToken t = sampler.Sample(z, p, {}, {}, i);
    EXPECT_EQ(sampler.Logprob(z, t.id), t.logprob);
    p.top_logprobs = -1;
    const SampledToken unasked = sampler.Sample(z, p, {}, {}, i);
    EXPECT_EQ(unasked.id, t.id);
    EXPECT_EQ(unasked.logprob, 0);
  }
}

TEST(Sampler, LogprobIsRightForWideAndFlatLogits) {
  Rng rng(4);
  for (const double spread : {0.0, 1.0, 30.0, 300.0}) {
    const std::vector<float> z = RandomLogits(rng, 5000, spread);
    Sampler sampler(5000);
    for (int32_t id = 0; id < 5000; id += 97) {
      const double want = LogprobRef(z, id);
      ASSERT_NEAR(static_cast<double>(sampler.Logprob(z, id)), want, 3e-7 * (1 + std::abs(want)));
    }
  }
}

TEST(Sampler, ExtremeTemperaturesAreSafe) {
  const std::vector<float> z = {1, 1.0000001f, -3e38f, 0.5f};
  Sampler sampler(4);
  SamplingParams p = Plain();
  for (const float t : {1e-38f, 1e-10f, 100.0f}) {
    p.temperature = t;
    for (int64_t i = 0; i < 100; ++i) {
      const int32_t id = sampler.Sample(z, p, {}, {}, i).id;
      ASSERT_TRUE(id == 0 || id == 1 || (id == 3 && t == 100.0f)) << id;
    }
  }
}

TEST(Sampler, NanAndInfinityAreReportedNotSampled) {
  for (const float bad : {kNan, kInf, -kInf}) {
    for (size_t place = 0; place < 20; ++place) {
      std::vector<float> z(20, 0.5f);
      z[place] = bad;
      Sampler sampler(20);
      SamplingParams p = Plain();
      EXPECT_EQ(sampler.Sample(z, p, {}, {}, 0).id, -1);
      p.temperature = 0;
      EXPECT_EQ(sampler.Sample(z, p, {}, {}, 0).id, -1);
      EXPECT_TRUE(std::isnan(sampler.Logprob(z, 1)));
    }
  }
}

TEST(SamplingParams, ValidateNamesTheFieldAndTheValue) {
  const auto message = [](auto change) {
    SamplingParams p;
    change(p);
    const Status s = p.Validate(100);
    return s.ok() ? std::string("ok") : s.error().message;
  };
  EXPECT_EQ(message([](SamplingParams&) {}), "ok");
  const auto has = [&](auto change, const char* field, const char* value) {
    const std::string m = message(change);
    EXPECT_NE(m.find(field), std::string::npos) << m;
    EXPECT_NE(m.find(value), std::string::npos) << m;
  };
  has([](SamplingParams& p) { p.temperature = kNan; }, "temperature", "NaN");
  has([](SamplingParams& p) { p.temperature = -1; }, "temperature", "-1");
  has([](SamplingParams& p) { p.temperature = kInf; }, "temperature", "Inf");
  has([](SamplingParams& p) { p.top_p = 1.5f; }, "top_p", "1.5");
  has([](SamplingParams& p) { p.top_p = kNan; }, "top_p", "NaN");
  has([](SamplingParams& p) { p.top_k = -7; }, "top_k", "-7");
  has([](SamplingParams& p) { p.min_p = 2; }, "min_p", "2");
  has([](SamplingParams& p) { p.repetition_penalty = 0; }, "repetition_penalty", "0");
  has([](SamplingParams& p) { p.frequency_penalty = 2.5f; }, "frequency_penalty", "2.5");
  has([](SamplingParams& p) { p.presence_penalty = -3; }, "presence_penalty", "-3");
  has([](SamplingParams& p) { p.top_logprobs = 129; }, "top_logprobs", "129");
  has([](SamplingParams& p) { p.top_logprobs = -2; }, "top_logprobs", "-2");
  has([](SamplingParams& p) { p.logit_bias = {{100, 1.0f}}; }, "logit_bias", "100");
  has([](SamplingParams& p) { p.logit_bias = {{-1, 1.0f}}; }, "logit_bias", "-1");
  has([](SamplingParams& p) { p.logit_bias = {{3, kNan}}; }, "logit_bias", "NaN");
  has([](SamplingParams& p) { p.logit_bias = {{3, 101.0f}}; }, "logit_bias", "101");
}

}  // namespace
}  // namespace hadal
