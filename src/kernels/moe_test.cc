#include "kernels/moe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "kernels/ops.h"

namespace hadal {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<float> Random(int64_t n, uint64_t seed, float scale = 1.0f) {
  Rng rng(seed);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = scale * static_cast<float>(rng.NextNormal());
  return v;
}

// The logit whose sigmoid is p.
float Logit(double p) { return static_cast<float>(std::log(p / (1 - p))); }

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Routed Route(std::vector<float> logits, const GateShape& gate, const std::vector<float>& bias = {},
             int threads = 1) {
  const Exec exec(threads, SupportedIsas().back());
  const int64_t rows = static_cast<int64_t>(logits.size()) / gate.experts;
  Routed r = {std::vector<int32_t>(static_cast<size_t>(rows * gate.top_k), -1),
              std::vector<float>(static_cast<size_t>(rows * gate.top_k), -1)};
  MoeRoute(exec, {logits.data(), rows, gate.experts}, gate, bias, {r.ids.data(), rows, gate.top_k},
           {r.weights.data(), rows, gate.top_k});
  return r;
}

using Ids = std::vector<int32_t>;

TEST(MoeRoute, BiasChangesTheChoiceButNotTheWeight) {
  const Routed r =
      Route({Logit(0.5), Logit(0.6), Logit(0.1), Logit(0.2)},
            {.experts = 4, .top_k = 2, .score = GateShape::Score::kSigmoid}, {0, 0, 1, 0});
  EXPECT_EQ(r.ids, (Ids{2, 1}));
  EXPECT_NEAR(r.weights[0], 0.1, 1e-6);
  EXPECT_NEAR(r.weights[1], 0.6, 1e-6);
}

TEST(MoeRoute, GroupsByTheSumOfTheirTwoBest) {
  // The best single expert (7) is in the group whose two best sum to less.
  GateShape gate = {.experts = 8,
                    .top_k = 2,
                    .groups = 2,
                    .top_groups = 1,
                    .score = GateShape::Score::kSigmoid,
                    .group_score = GateShape::GroupScore::kTop2Sum};
  const std::vector<float> logits = {Logit(0.6), Logit(0.1), Logit(0.7), Logit(0.1),
                                     Logit(0.1), Logit(0.1), Logit(0.1), Logit(0.9)};
  EXPECT_EQ(Route(logits, gate).ids, (Ids{2, 0}));
  gate.group_score = GateShape::GroupScore::kMax;
  EXPECT_EQ(Route(logits, gate).ids, (Ids{7, 4}));
}

TEST(MoeRoute, BiasMovesGroupsToo) {
  const GateShape gate = {.experts = 4,
                          .top_k = 1,
                          .groups = 2,
                          .top_groups = 1,
                          .score = GateShape::Score::kSigmoid,
                          .group_score = GateShape::GroupScore::kTop2Sum};
  const std::vector<float> logits = {Logit(0.9), Logit(0.1), Logit(0.4), Logit(0.4)};
  EXPECT_EQ(Route(logits, gate).ids, (Ids{0}));
  EXPECT_EQ(Route(logits, gate, {0, 0, 0.2f, 0.2f}).ids, (Ids{2}));
}

TEST(MoeRoute, ExcludedGroupsLoseToNegativeScores) {
  // With a bias that makes every score of the kept group negative, the others are still out.
  const GateShape gate = {.experts = 4,
                          .top_k = 2,
                          .groups = 2,
                          .top_groups = 1,
                          .score = GateShape::Score::kSigmoid,
                          .group_score = GateShape::GroupScore::kMax};
  EXPECT_EQ(Route({0, 0, 0, 0}, gate, {-2, -3, -4, -5}).ids, (Ids{0, 1}));
}

TEST(MoeRoute, TiesGoToTheLowerIdAndGroup) {
  GateShape gate = {.experts = 6, .top_k = 3};
  EXPECT_EQ(Route({1, 2, 2, 1, 2, 2}, gate).ids, (Ids{1, 2, 4}));
  gate.groups = 3;
  gate.top_groups = 2;
  gate.group_score = GateShape::GroupScore::kTop2Sum;
  EXPECT_EQ(Route({1, 1, 1, 1, 1, 1}, gate).ids, (Ids{0, 1, 2}));
}

TEST(MoeRoute, NormalisesThenScales) {
  const std::vector<float> logits = {Logit(0.2), Logit(0.6), Logit(0.4)};
  GateShape gate = {.experts = 3,
                    .top_k = 2,
                    .score = GateShape::Score::kSigmoid,
                    .normalise = true,
                    .scale = 2.5f};
  Routed r = Route(logits, gate);
  EXPECT_EQ(r.ids, (Ids{1, 2}));
  EXPECT_NEAR(r.weights[0], 1.5, 1e-6);
  EXPECT_NEAR(r.weights[1], 1.0, 1e-6);
  gate.normalise = false;
  EXPECT_NEAR(Route(logits, gate).weights[0], 1.5, 1e-6);
  EXPECT_NEAR(Route(logits, gate).weights[1], 1.0, 1e-6);
  gate.scale = 1.0f;
  EXPECT_NEAR(Route(logits, gate).weights[1], 0.4, 1e-6);
}

TEST(MoeRoute, SoftmaxScoresAreOverAllExperts) {
  const Routed r = Route({0, std::log(2.0f), std::log(5.0f)}, {.experts = 3, .top_k = 2});
  EXPECT_EQ(r.ids, (Ids{2, 1}));
  EXPECT_NEAR(r.weights[0], 0.625, 1e-6);
  EXPECT_NEAR(r.weights[1], 0.25, 1e-6);
}

TEST(MoeRoute, NaNAndInfGiveNaNWeightsAndValidIds) {
  for (const auto score : {GateShape::Score::kSoftmax, GateShape::Score::kSigmoid}) {
    const GateShape gate = {.experts = 8,
                            .top_k = 3,
                            .groups = 4,
                            .top_groups = 2,
                            .score = score,
                            .group_score = GateShape::GroupScore::kTop2Sum,
                            .normalise = true};
    std::vector<float> logits = Random(3 * 8, 1);
    const Routed clean = Route(logits, gate);
    for (int e = 0; e < 8; ++e) logits[static_cast<size_t>(8 + e)] = kNaN;
    const Routed r = Route(logits, gate);
    for (size_t i = 0; i < 9; ++i) {
      EXPECT_TRUE(r.ids[i] >= 0 && r.ids[i] < 8);
      if (i / 3 == 1) {
        EXPECT_TRUE(std::isnan(r.weights[i]));
      } else {
        EXPECT_EQ(r.ids[i], clean.ids[i]);
        EXPECT_EQ(r.weights[i], clean.weights[i]);
      }
    }
    logits[8] = std::numeric_limits<float>::infinity();
    for (int e = 1; e < 8; ++e) logits[static_cast<size_t>(8 + e)] = -logits[8];
    for (const int32_t id : Route(logits, gate).ids) EXPECT_TRUE(id >= 0 && id < 8);
  }
}

TEST(MoeRoute, ManyRowsAndThreadsAgree) {
  const GateShape gate = {.experts = 256,
                          .top_k = 8,
                          .groups = 8,
                          .top_groups = 4,
                          .score = GateShape::Score::kSigmoid,
                          .group_score = GateShape::GroupScore::kTop2Sum,
                          .normalise = true,
                          .scale = 2.5f};
  const std::vector<float> logits = Random(70 * 256, 1), bias = Random(256, 2, 0.1f);
  const Routed one = Route(logits, gate, bias);
  for (const int threads : {2, 3}) {
    const Routed many = Route(logits, gate, bias, threads);
    EXPECT_EQ(one.ids, many.ids);
    EXPECT_EQ(one.weights, many.weights);
  }
  EXPECT_TRUE(Route({}, gate, bias).ids.empty());
  for (size_t t = 0; t < 70; ++t) {
    const Routed alone = Route({logits.begin() + static_cast<int64_t>(t) * 256,
                                logits.begin() + static_cast<int64_t>(t + 1) * 256},
                               gate, bias);
    EXPECT_EQ(alone.ids, Ids(one.ids.begin() + static_cast<int64_t>(t) * 8,
                             one.ids.begin() + static_cast<int64_t>(t + 1) * 8));
  }
}

// Experts in F32, so that double precision is a fair judge.
struct Layer {
  Layer(const Exec& exec, int64_t e, int64_t d, int64_t f) : experts(e), width(d), inner(f) {
    for (int64_t i = 0; i < e; ++i) {
      const auto seed = static_cast<uint64_t>(3 * i);
      raw.push_back(Random(f * d, seed + 1, 0.2f));
      raw.push_back(Random(f * d, seed + 2, 0.2f));
      raw.push_back(Random(d * f, seed + 3, 0.2f));
      const size_t at = raw.size() - 3;
      gate.push_back(*PackedMatrix::Pack(exec, DType::kF32, raw[at].data(), f, d));
      up.push_back(*PackedMatrix::Pack(exec, DType::kF32, raw[at + 1].data(), f, d));
      down.push_back(*PackedMatrix::Pack(exec, DType::kF32, raw[at + 2].data(), d, f));
    }
  }
  std::vector<double> Mix(const float* x, const int32_t* ids, const float* weights,
                          int64_t top_k) const {
    std::vector<double> y(static_cast<size_t>(width)), h(static_cast<size_t>(inner));
    for (int64_t s = 0; s < top_k; ++s) {
      const float* g = raw[static_cast<size_t>(3 * ids[s])].data();
      const float* u = raw[static_cast<size_t>(3 * ids[s] + 1)].data();
      const float* w = raw[static_cast<size_t>(3 * ids[s] + 2)].data();
      for (int64_t f = 0; f < inner; ++f) {
        double a = 0, b = 0;
        for (int64_t d = 0; d < width; ++d) {
          a += double{g[f * width + d]} * x[d];
          b += double{u[f * width + d]} * x[d];
        }
        h[static_cast<size_t>(f)] = a / (1 + std::exp(-a)) * b;
      }
      for (int64_t d = 0; d < width; ++d) {
        double sum = 0;
        for (int64_t f = 0; f < inner; ++f) sum += w[d * inner + f] * h[static_cast<size_t>(f)];
        y[static_cast<size_t>(d)] += weights[s] * sum;
      }
    }
    return y;
  }

  int64_t experts, width, inner;
  std::vector<std::vector<float>> raw;
  std::vector<PackedMatrix> gate, up, down;
};

TEST(MoeExperts, EqualsDoublePrecisionAndItselfInAnyBatch) {
  constexpr int64_t kE = 6, kD = 40, kF = 24, kK = 3, kT = 37;
  const std::vector<float> x = Random(kT * kD, 50);
  const Routed r = Route(Random(kT * kE, 51), {.experts = kE, .top_k = kK});
  std::vector<float> first;
  for (const Isa isa : SupportedIsas()) {
    for (const int threads : {1, 2, 3}) {
      const Exec exec(threads, isa);
      const Layer layer(exec, kE, kD, kF);
      const Experts experts = {layer.gate, layer.up, layer.down};
      for (const int64_t batch : {int64_t{1}, int64_t{7}, kT}) {
        std::vector<float> y(static_cast<size_t>(kT * kD), kNaN);
        for (int64_t t = 0; t < kT; t += batch) {
          const int64_t n = std::min(batch, kT - t);
          MoeExperts(exec, {x.data() + t * kD, n, kD}, {r.ids.data() + t * kK, n, kK},
                     {r.weights.data() + t * kK, n, kK}, experts, {y.data() + t * kD, n, kD});
        }
        if (first.empty()) first = y;
        EXPECT_EQ(first, y) << IsaName(isa) << " threads " << threads << " batch " << batch;
      }
      for (int64_t t = 0; t < kT; ++t) {
        const std::vector<double> want =
            layer.Mix(x.data() + t * kD, r.ids.data() + t * kK, r.weights.data() + t * kK, kK);
        for (int64_t d = 0; d < kD; ++d) {
          EXPECT_NEAR(first[static_cast<size_t>(t * kD + d)], want[static_cast<size_t>(d)], 1e-5);
        }
      }
    }
  }
}

TEST(MoeExperts, NaNStaysInItsTokenAndScratchIsGivenBack) {
  const Exec exec(2, SupportedIsas().back());
  const Layer layer(exec, 3, 16, 8);
  const Experts experts = {layer.gate, layer.up, layer.down};
  std::vector<float> x = Random(4 * 16, 1), y(4 * 16), z(4 * 16);
  const Ids ids = {0, 1, 1, 2, 0, 1, 2, 0};
  const std::vector<float> weights(8, 0.5f);
  const auto run = [&](std::vector<float>& out) {
    MoeExperts(exec, {x.data(), 4, 16}, {ids.data(), 4, 2}, {weights.data(), 4, 2}, experts,
               {out.data(), 4, 16});
  };
  run(y);
  const size_t capacity = exec.shared().capacity();
  x[16 + 5] = kNaN;
  run(z);
  for (size_t i = 0; i < z.size(); ++i) {
    if (i / 16 == 1) {
      EXPECT_TRUE(std::isnan(z[i]));
    } else {
      EXPECT_EQ(y[i], z[i]);
    }
  }
  EXPECT_EQ(exec.shared().capacity(), capacity);
  MoeExperts(exec, {nullptr, 0, 16}, {nullptr, 0, 2}, {nullptr, 0, 2}, experts, {nullptr, 0, 16});
}

}  // namespace
}  // namespace hadal
