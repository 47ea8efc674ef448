// Training kernels against finite differences in f64, over instruction sets and threads, and at
// their edges.
#include <algorithm>
#include <limits>

#include "kernels/attention_backward.h"
#include "kernels/backward.h"
#include "kernels/loss.h"
#include "kernels/moe_backward.h"
#include "kernels/optimizer.h"
#include "kernels/train_test.h"
#include "tensor/half.h"

namespace hadal {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
using Doubles = std::vector<double>;

Doubles Wide(const std::vector<float>& v) { return {v.begin(), v.end()}; }

// The derivative of f at x along `direction`, and what `grad` says it is.
void ExpectSlope(const std::function<double(const Doubles&)>& f, const std::vector<float>& x,
                 const std::vector<float>& grad, double tolerance = 1e-4) {
  const std::vector<float> direction = RandomFloats(static_cast<int64_t>(x.size()), 99);
  Doubles up = Wide(x), down = up;
  constexpr double kStep = 1e-5;
  double said = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    up[i] += kStep * direction[i];
    down[i] -= kStep * direction[i];
    said += double{grad[i]} * direction[i];
    size += double{grad[i]} * grad[i];
  }
  EXPECT_NEAR((f(up) - f(down)) / (2 * kStep), said, tolerance * std::sqrt(size));
}

// --- attention ---

struct Attention {
  GqaShape shape;
  std::vector<SeqSpan> seqs;
  int64_t rows;
  std::vector<float> q = Draw(shape.heads * shape.k_dim, 1),
                     k = Draw(shape.kv_heads * shape.k_dim, 2),
                     v = Draw(shape.kv_heads * shape.v_dim, 3),
                     dout = Draw(shape.heads * shape.v_dim, 4);

  std::vector<float> Draw(int64_t cols, uint64_t seed) const {
    return RandomFloats(rows * cols, seed);
  }
  View2<float> View(std::vector<float>& x) const {
    return {x.data(), rows, static_cast<int64_t>(x.size()) / rows};
  }

  struct Grads {
    std::vector<float> q, k, v;
  };
  Grads Backward(const Exec& exec) {
    Grads g = {std::vector<float>(q.size()), std::vector<float>(k.size()),
               std::vector<float>(v.size())};
    GqaAttentionBackward(exec, seqs, shape, View(q), View(k), View(v), View(dout), View(g.q),
                         View(g.k), View(g.v));
    return g;
  }

  // sum of dout * out
  double Loss(const Doubles& qs, const Doubles& ks, const Doubles& vs) const {
    const GqaShape& s = shape;
    double loss = 0;
    for (const SeqSpan& seq : seqs) {
      for (int64_t i = 0; i < seq.rows; ++i) {
        for (int64_t h = 0; h < s.heads; ++h) {
          const int64_t kv = h / (s.heads / s.kv_heads), row = seq.first_row + i;
          double sum = 0, value = 0, most = -1e300;
          Doubles score(static_cast<size_t>(i + 1));
          for (int64_t j = 0; j <= i; ++j) {
            const int64_t key = (seq.first_row + j) * s.kv_heads + kv;
            double dot = 0;
            for (int64_t d = 0; d < s.k_dim; ++d) {
              dot += qs[static_cast<size_t>((row * s.heads + h) * s.k_dim + d)] *
                     ks[static_cast<size_t>(key * s.k_dim + d)];
            }
            most = std::max(most, score[static_cast<size_t>(j)] = dot * double{s.scale});
          }
          for (int64_t j = 0; j <= i; ++j) {
            const int64_t key = (seq.first_row + j) * s.kv_heads + kv;
            const double w = std::exp(score[static_cast<size_t>(j)] - most);
            sum += w;
            for (int64_t d = 0; d < s.v_dim; ++d) {
              value += w * vs[static_cast<size_t>(key * s.v_dim + d)] *
                       double{dout[static_cast<size_t>((row * s.heads + h) * s.v_dim + d)]};
            }
          }
          loss += value / sum;
        }
      }
    }
    return loss;
  }
};

TEST(AttentionBackward, FiniteDifferences) {
  const Exec exec(2, SupportedIsas().back());
  std::vector<Attention> cases;
  // One long document in several pieces; short ones; a row in none; odd widths.
  cases.push_back({{2, 1, 20, 33, 0.2f}, {{nullptr, 0, 0, 601}}, 601});
  cases.push_back(
      {{6, 2, 17, 16, 0.25f},
       {{nullptr, 0, 1, 1}, {nullptr, 0, 2, 15}, {nullptr, 0, 17, 0}, {nullptr, 0, 17, 130}},
       147});
  for (Attention& a : cases) {
    const Attention::Grads g = a.Backward(exec);
    const Doubles q = Wide(a.q), k = Wide(a.k), v = Wide(a.v);
    ExpectSlope([&](const Doubles& x) { return a.Loss(x, k, v); }, a.q, g.q);
    ExpectSlope([&](const Doubles& x) { return a.Loss(q, x, v); }, a.k, g.k);
    ExpectSlope([&](const Doubles& x) { return a.Loss(q, k, x); }, a.v, g.v);
  }
}

TEST(AttentionBackward, SameBitsEverywhere) {
  Attention a = {{4, 2, 24, 16, 0.2f},
                 {{nullptr, 0, 0, 530}, {nullptr, 0, 530, 1}, {nullptr, 0, 531, 70}},
                 601};
  OnEvery([&](const Exec& exec, std::vector<float>& result) {
    const Attention::Grads g = a.Backward(exec);
    Append(result, g.q);
    Append(result, g.k);
    Append(result, g.v);
  });
}

TEST(AttentionBackward, ADocumentDependsOnItselfAlone) {
  const Exec exec(2, SupportedIsas().back());
  Attention a = {{4, 2, 24, 16, 0.2f}, {{nullptr, 0, 0, 50}, {nullptr, 0, 50, 70}}, 120};
  const Attention::Grads clean = a.Backward(exec);
  for (size_t i = 0; i < 50 * 48; ++i) a.k[i] = kNaN;
  const Attention::Grads g = a.Backward(exec);
  for (size_t i = 50 * 48; i < g.k.size(); ++i) ASSERT_EQ(clean.k[i], g.k[i]);
  for (size_t i = 50 * 96; i < g.q.size(); ++i) ASSERT_EQ(clean.q[i], g.q[i]);
  EXPECT_TRUE(std::isnan(g.q[0]));
  a.seqs.clear();
  EXPECT_EQ(a.Backward(exec).q, std::vector<float>(a.q.size()));
}

// --- rows ---

TEST(RmsNormBackward, FiniteDifferences) {
  const Exec exec(2, SupportedIsas().back());
  const std::vector<float> x = RandomFloats(70 * 33, 1), w = RandomFloats(33, 2);
  const std::vector<float> dy = RandomFloats(70 * 33, 3);
  const auto loss = [&](const Doubles& xs, const Doubles& ws) {
    double total = 0;
    for (size_t t = 0; t < 70; ++t) {
      double squares = 0;
      for (size_t d = 0; d < 33; ++d) squares += xs[33 * t + d] * xs[33 * t + d];
      const double r = 1 / std::sqrt(squares / 33 + 1e-5);
      for (size_t d = 0; d < 33; ++d) total += xs[33 * t + d] * ws[d] * r * dy[33 * t + d];
    }
    return total;
  };
  std::vector<float> dx(x.size()), dw(33);
  RmsNormBackward(exec, {dy.data(), 70, 33}, {x.data(), 70, 33}, w, 1e-5f, {dx.data(), 70, 33}, dw);
  ExpectSlope([&](const Doubles& v) { return loss(v, Wide(w)); }, x, dx);
  ExpectSlope([&](const Doubles& v) { return loss(Wide(x), v); }, w, dw);
}

TEST(RowOperations, SameBitsEverywhere) {
  OnEvery([](const Exec& exec, std::vector<float>& result) {
    for (const int64_t rows : {0, 1, 65, 300}) {
      for (const int64_t cols : {1, 16, 37, 700}) {
        Padded dy(rows, cols, 1), x(rows, cols, 2), up(rows, cols, 3), dx(rows, cols, 4);
        std::vector<float> dw = RandomFloats(cols, 6), db = dw;
        RmsNormBackward(exec, dy(), x(), RandomFloats(cols, 5), 1e-5f, dx(), dw);
        ColumnSum(exec, dy(), db);
        AddInto(exec, dy(), dx());
        Append(result, dx.values);
        Append(result, dw);
        Append(result, db);
        SwiGluBackward(exec, dy(), x(), up(), x(), up());
        RoundBf16(exec, dy());
        for (Padded* p : {&x, &up, &dy}) Append(result, p->values);
      }
    }
  });
}

TEST(SwiGluBackward, FiniteDifferencesAndExtremes) {
  const Exec exec(1, SupportedIsas().back());
  std::vector<float> gate = RandomFloats(50, 1, 2), up = RandomFloats(50, 2);
  const std::vector<float> dy = RandomFloats(50, 3);
  std::vector<float> dgate(50), dup(50);
  const auto run = [&] {
    SwiGluBackward(exec, {dy.data(), 1, 50}, {gate.data(), 1, 50}, {up.data(), 1, 50},
                   {dgate.data(), 1, 50}, {dup.data(), 1, 50});
  };
  run();
  const auto loss = [&](const Doubles& g, const Doubles& u) {
    double total = 0;
    for (size_t i = 0; i < 50; ++i) total += dy[i] * u[i] * g[i] / (1 + std::exp(-g[i]));
    return total;
  };
  ExpectSlope([&](const Doubles& v) { return loss(v, Wide(up)); }, gate, dgate);
  ExpectSlope([&](const Doubles& v) { return loss(Wide(gate), v); }, up, dup);
  gate = {-1e30f, -100, 100, 1e30f, kNaN, 0};
  gate.resize(50);
  run();
  EXPECT_NEAR(dgate[0], 0, 1e-7);  // exp ends at 88, so silu does not quite
  EXPECT_NEAR(dgate[1], 0, 1e-30);
  EXPECT_FLOAT_EQ(dgate[2], dy[2] * up[2]);
  EXPECT_FLOAT_EQ(dgate[3], dy[3] * up[3]);
  EXPECT_TRUE(std::isnan(dgate[4]));
}

TEST(RopeBackward, IsTheTransposeOfRope) {
  const Exec exec(2, SupportedIsas().back());
  std::vector<float> table(40 * 12);
  for (size_t p = 0; p < 40; ++p) {
    for (size_t i = 0; i < 6; ++i) {
      // With a factor, as YaRN has, so that inverse and transpose differ.
      table[12 * p + i] = 1.2f * std::cos(0.3f * static_cast<float>(p * (i + 1)));
      table[12 * p + 6 + i] = 1.2f * std::sin(0.3f * static_cast<float>(p * (i + 1)));
    }
  }
  const std::vector<int32_t> positions = {0, 39, 7};
  for (const bool interleaved : {false, true}) {
    const RopeShape shape = {
        .heads = 2, .head_stride = 20, .dim = 12, .offset = 3, .interleaved = interleaved};
    Padded x(3, 40, 1), dy(3, 40, 2), y = x, dx = dy;
    Rope(exec, y(), positions, {table.data(), 40, 12}, shape);
    RopeBackward(exec, dx(), positions, {table.data(), 40, 12}, shape);
    double left = 0, right = 0;
    for (int64_t t = 0; t < 3; ++t) {
      for (int64_t i = 0; i < 40; ++i) {
        left += double{y()[t][i]} * dy()[t][i];
        right += double{x()[t][i]} * dx()[t][i];
      }
    }
    EXPECT_NEAR(left, right, 1e-5);
    EXPECT_NE(dx.values, dy.values);
  }
}

TEST(EmbedBackward, AddsInTokenOrder) {
  const std::vector<int32_t> ids = {3, 0, 3, 3, 1};
  Padded dy(5, 300, 1), start(4, 300, 2);
  Padded want = start;
  for (int64_t t = 0; t < 5; ++t) {
    for (int64_t d = 0; d < 300; ++d) want()[ids[static_cast<size_t>(t)]][d] += dy()[t][d];
  }
  OnEvery([&](const Exec& exec, std::vector<float>&) {
    Padded table = start;
    EmbedBackward(exec, dy(), ids, table());
    EXPECT_TRUE(SameBits(want.values, table.values));
  });
}

TEST(ColumnSum, BlocksOf64InOrder) {
  const Exec exec(2, SupportedIsas().back());
  Padded dy(150, 3, 1, 1e4f);
  std::vector<float> db = {1, 2, 3}, want = db;
  for (int64_t d = 0; d < 3; ++d) {
    float total = 0;
    for (int64_t b = 0; b < 150; b += 64) {
      float sum = 0;
      for (int64_t t = b; t < std::min<int64_t>(150, b + 64); ++t) sum += dy()[t][d];
      total += sum;
    }
    want[static_cast<size_t>(d)] += total;
  }
  ColumnSum(exec, dy(), db);
  EXPECT_EQ(db, want);
}

// --- losses ---

TEST(CrossEntropy, FiniteDifferencesAndSkippedRows) {
  OnEvery([](const Exec& exec, std::vector<float>& result) {
    const std::vector<float> logits = RandomFloats(3 * 100, 1, 4);
    const std::vector<int32_t> targets = {99, -5, 0};
    const std::vector<float> weights = {1, 0, 0.5f};
    std::vector<float> grad = logits, losses(3);
    grad[150] = kNaN;  // in the skipped row
    const double sum = CrossEntropy(exec, {grad.data(), 3, 100}, targets, weights, 1, 0.1f, losses);
    const auto loss = [&](const Doubles& x) {
      double total = 0;
      for (const size_t r : {size_t{0}, size_t{2}}) {
        double exps = 0;
        for (size_t i = 0; i < 100; ++i) exps += std::exp(x[100 * r + i]);
        const double lse = std::log(exps);
        total +=
            weights[r] * (lse - x[100 * r + static_cast<size_t>(targets[r])] + 0.1 * lse * lse);
      }
      return total;
    };
    EXPECT_NEAR(sum, loss(Wide(logits)), 1e-5);
    for (size_t i = 100; i < 200; ++i) ASSERT_EQ(grad[i], 0.0f);
    ExpectSlope(loss, logits, grad);
    Append(result, grad);
    Append(result, losses);
  });
}

TEST(CrossEntropy, TheFirstOfTheLikeliestIsAHit) {
  const Exec exec(2, SupportedIsas().back());
  std::vector<float> logits = {1, 5, 5, 5, 5, 1, 0, 2, 1, 0, 9, 1}, losses(4);
  const std::vector<int32_t> targets = {1, 1, 2, 1};
  std::vector<uint8_t> hits(4, 7);
  CrossEntropy(exec, {logits.data(), 4, 3}, targets, std::vector<float>{1, 1, 1, 0}, 1, 0, losses,
               hits);
  EXPECT_EQ(hits, (std::vector<uint8_t>{1, 0, 0, 7}));
}

TEST(CrossEntropy, ExtremeLogits) {
  const Exec exec(1, SupportedIsas().back());
  std::vector<float> logits = {1e30f, -1e30f, 0, 500, 400, kNaN, 1, 2, 3}, losses(3);
  const std::vector<int32_t> targets = {1, 1, 0};
  const double sum =
      CrossEntropy(exec, {logits.data(), 3, 3}, targets, std::vector<float>(3, 1.0f), 1, 0, losses);
  EXPECT_FLOAT_EQ(losses[0], 2e30f);
  EXPECT_EQ(logits[0], 1.0f);
  EXPECT_EQ(logits[1], -1.0f);
  EXPECT_TRUE(std::isnan(losses[1]) || losses[1] == 100.0f);
  EXPECT_NEAR(losses[2], 2.4076, 1e-4);
  EXPECT_TRUE(std::isnan(sum) || sum > 1e30);
}

TEST(DistillKl, ZeroWhereTheyAgreeAndAllTokensListed) {
  const Exec exec(1, SupportedIsas().back());
  const std::vector<float> teacher = RandomFloats(40, 1);
  for (const KlDirection direction : {KlDirection::kForward, KlDirection::kReverse}) {
    std::vector<float> logits = teacher, losses(1);
    const std::vector<float> weights = {1};
    DistillKl(exec, {logits.data(), 1, 40}, {teacher.data(), 1, 40}, weights,
              {direction, 2.0f, 1.0f}, losses);
    EXPECT_NEAR(losses[0], 0, 1e-6);
    for (const float g : logits) EXPECT_NEAR(g, 0, 1e-6);
    // A list of every token is the whole distribution.
    std::vector<float> full = RandomFloats(40, 2), top = full, top_losses(1), log_probs(40);
    std::vector<int32_t> ids(41, -1);
    double sum = 0;
    for (const float t : teacher) sum += std::exp(double{t});
    for (size_t i = 0; i < 40; ++i) {
      ids[i] = static_cast<int32_t>(i);
      log_probs[i] = static_cast<float>(teacher[i] - std::log(sum));
    }
    log_probs.push_back(kNaN);  // after the end of the list
    DistillKl(exec, {full.data(), 1, 40}, {teacher.data(), 1, 40}, weights, {direction}, losses);
    DistillKl(exec, {top.data(), 1, 40}, {{ids.data(), 1, 41}, {log_probs.data(), 1, 41}}, weights,
              {direction}, top_losses);
    EXPECT_NEAR(losses[0], top_losses[0], 1e-5);
    for (size_t i = 0; i < 40; ++i) EXPECT_NEAR(full[i], top[i], 1e-5);
  }
}

// --- experts ---

struct Layer {
  static constexpr int64_t kTokens = 70, kWidth = 40, kHidden = 24, kExperts = 5, kTopK = 2;
  // Token t picks expert 0 and another, or with `one` every token only expert 0 and 3.
  explicit Layer(bool one) {
    for (int64_t t = 0; t < kTokens; ++t) {
      ids.push_back(one ? 3 : static_cast<int32_t>(1 + t % 3));  // expert 4 gets nothing
      ids.push_back(0);
    }
    for (int64_t e = 0; e < kExperts; ++e) {
      const auto seed = static_cast<uint64_t>(10 * e);
      gate.push_back(RandomFloats(kHidden * kWidth, seed, 0.2f));
      up.push_back(RandomFloats(kHidden * kWidth, seed + 1, 0.2f));
      down.push_back(RandomFloats(kHidden * kWidth, seed + 2, 0.2f));
    }
  }
  View2<const int32_t> Ids() const { return {ids.data(), kTokens, kTopK}; }

  std::vector<int32_t> ids;
  std::vector<std::vector<float>> gate, up, down;
  std::vector<float> x = RandomFloats(kTokens * kWidth, 1), dy = RandomFloats(kTokens * kWidth, 2);
  std::vector<float> weights = RandomFloats(kTokens * kTopK, 3);
};

struct LayerGrads {
  std::vector<float> y, dx, dweights;
  std::vector<std::vector<float>> gate, up, down;
};

template <typename T>
std::vector<View2<T>> Views(const std::vector<std::vector<float>>& m, int64_t rows, int64_t cols) {
  std::vector<View2<T>> views;
  for (const auto& v : m) views.emplace_back(const_cast<T*>(v.data()), rows, cols);
  return views;
}

LayerGrads RunLayer(const Exec& exec, const Layer& l, ComputeType type) {
  constexpr int64_t kT = Layer::kTokens, kD = Layer::kWidth, kF = Layer::kHidden;
  const auto zeros = std::vector<std::vector<float>>(5, std::vector<float>(kD * kF));
  LayerGrads g = {l.x,  std::vector<float>(kT * kD), std::vector<float>(kT * 2), zeros, zeros,
                  zeros};
  std::vector<PackedMatrix> packed[3];
  for (size_t e = 0; e < 5; ++e) {
    packed[0].push_back(*PackedMatrix::Pack(exec, DType::kF32, l.gate[e].data(), kF, kD));
    packed[1].push_back(*PackedMatrix::Pack(exec, DType::kF32, l.up[e].data(), kF, kD));
    packed[2].push_back(*PackedMatrix::Pack(exec, DType::kF32, l.down[e].data(), kD, kF));
  }
  Workspace memory;
  const MoePlan plan = PlanMoe(l.Ids(), 5, memory);
  std::vector<float> gate(kT * 2 * kF), up = gate, y = g.y;
  const View2<float> gate_v(gate.data(), kT * 2, kF), up_v(up.data(), kT * 2, kF);
  const View2<const float> x(l.x.data(), kT, kD), weights(l.weights.data(), kT, 2);
  const Experts experts = {packed[0], packed[1], packed[2]};
  MoeExpertsForward(exec, x, plan, weights, experts, gate_v, up_v, {g.y.data(), kT, kD});
  MoeExperts(exec, x, l.Ids(), weights, experts, {y.data(), kT, kD});
  EXPECT_TRUE(SameBits(y, g.y));
  const auto gm = Views<const float>(l.gate, kF, kD), um = Views<const float>(l.up, kF, kD);
  const auto dm = Views<const float>(l.down, kD, kF);
  const auto gg = Views<float>(g.gate, kF, kD), ug = Views<float>(g.up, kF, kD);
  const auto dg = Views<float>(g.down, kD, kF);
  MoeExpertsBackward(exec, {l.dy.data(), kT, kD}, x, plan, weights, gate_v, up_v, {gm, um, dm},
                     type, {g.dx.data(), kT, kD}, {g.dweights.data(), kT, 2}, {gg, ug, dg});
  return g;
}

double LayerLoss(const Layer& l, const Doubles& x, const Doubles& weights, const Doubles& up0) {
  constexpr size_t kT = Layer::kTokens, kD = Layer::kWidth, kF = Layer::kHidden;
  double loss = 0;
  for (size_t t = 0; t < kT; ++t) {
    for (size_t j = 0; j < 2; ++j) {
      const auto e = static_cast<size_t>(l.ids[2 * t + j]);
      for (size_t f = 0; f < kF; ++f) {
        double g = 0, u = 0, back = 0;
        for (size_t d = 0; d < kD; ++d) {
          g += double{l.gate[e][kD * f + d]} * x[kD * t + d];
          u += (e == 0 ? up0[kD * f + d] : double{l.up[e][kD * f + d]}) * x[kD * t + d];
          back += double{l.down[e][kF * d + f]} * double{l.dy[kD * t + d]};
        }
        loss += weights[2 * t + j] * g / (1 + std::exp(-g)) * u * back;
      }
    }
  }
  return loss;
}

TEST(MoeExpertsBackward, FiniteDifferences) {
  const Exec exec(2, SupportedIsas().back());
  for (const bool one : {false, true}) {
    const Layer l(one);
    const LayerGrads g = RunLayer(exec, l, ComputeType::kF32);
    const Doubles x = Wide(l.x), w = Wide(l.weights), up = Wide(l.up[0]);
    ExpectSlope([&](const Doubles& v) { return LayerLoss(l, v, w, up); }, l.x, g.dx);
    ExpectSlope([&](const Doubles& v) { return LayerLoss(l, x, v, up); }, l.weights, g.dweights);
    ExpectSlope([&](const Doubles& v) { return LayerLoss(l, x, w, v); }, l.up[0], g.up[0]);
    EXPECT_EQ(g.down[4], std::vector<float>(g.down[4].size()));  // had no token
  }
}

TEST(MoeExpertsBackward, SameBitsEverywhere) {
  const Layer l(false);
  OnEvery([&](const Exec& exec, std::vector<float>& result) {
    for (const ComputeType type : {ComputeType::kF32, ComputeType::kBF16, ComputeType::kF8}) {
      const LayerGrads g = RunLayer(exec, l, type);
      for (const auto* part : {&g.gate, &g.up, &g.down}) {
        for (const auto& m : *part) Append(result, m);
      }
      Append(result, g.dx);
      Append(result, g.dweights);
    }
  });
}

TEST(Moe, NoTokens) {
  const Exec exec(2, SupportedIsas().back());
  Workspace memory;
  const MoePlan plan = PlanMoe({nullptr, 0, 2}, 3, memory);
  EXPECT_EQ(plan.first[3], 0);
  const std::vector<float> w(6);
  const std::vector<View2<const float>> in(3, View2<const float>(w.data(), 2, 3)),
      back(3, View2<const float>(w.data(), 3, 2));
  const std::vector<View2<float>> grads(3);
  MoeExpertsBackward(exec, {nullptr, 0, 3}, {nullptr, 0, 3}, plan, {nullptr, 0, 2}, {nullptr, 0, 2},
                     {nullptr, 0, 2}, {in, in, back}, ComputeType::kF32, {nullptr, 0, 3},
                     {nullptr, 0, 2}, {grads, grads, grads});
  EXPECT_EQ(
      BalanceLoss(exec, {nullptr, 0, 3}, {.experts = 3, .top_k = 2}, {}, {}, 1, 1, {nullptr, 0, 3}),
      0.0);
}

TEST(MoeRouteBackward, FiniteDifferencesAndBits) {
  for (const auto score : {GateShape::Score::kSoftmax, GateShape::Score::kSigmoid}) {
    for (const bool normalise : {false, true}) {
      const GateShape gate = {
          .experts = 9, .top_k = 3, .score = score, .normalise = normalise, .scale = 1.5f};
      const std::vector<float> logits = RandomFloats(400 * 9, 1), dweights = RandomFloats(1200, 2);
      std::vector<int32_t> ids(1200);
      std::vector<float> weights(1200);
      OnEvery([&](const Exec& exec, std::vector<float>& result) {
        MoeRoute(exec, {logits.data(), 400, 9}, gate, {}, {ids.data(), 400, 3},
                 {weights.data(), 400, 3});
        std::vector<float> dlogits(logits.size());
        MoeRouteBackward(exec, {logits.data(), 400, 9}, gate, {ids.data(), 400, 3},
                         {dweights.data(), 400, 3}, {dlogits.data(), 400, 9});
        Append(result, dlogits);
        if (exec.threads() > 1) return;
        const auto loss = [&](const Doubles& x) {
          double total = 0;
          for (size_t t = 0; t < 400; ++t) {
            double s[9], all = 0, chosen = 0, sum = 0;
            for (size_t e = 0; e < 9; ++e) all += std::exp(x[9 * t + e]);
            for (size_t e = 0; e < 9; ++e) {
              s[e] = score == GateShape::Score::kSoftmax ? std::exp(x[9 * t + e]) / all
                                                         : 1 / (1 + std::exp(-x[9 * t + e]));
            }
            for (size_t j = 0; j < 3; ++j) {
              const double v = s[ids[3 * t + j]];
              chosen += v;
              sum += dweights[3 * t + j] * v;
            }
            total += 1.5 * (normalise ? sum / chosen : sum);
          }
          return total;
        };
        ExpectSlope(loss, logits, dlogits);
      });
    }
  }
}

TEST(Moe, CountsAndBias) {
  const std::vector<int32_t> ids = {0, 1, 0, 1, 0, 2};
  std::vector<int64_t> counts = {1, 0, 0, 0};
  CountExperts({ids.data(), 3, 2}, counts);
  EXPECT_EQ(counts, (std::vector<int64_t>{4, 2, 1, 0}));
  counts[3] = 1;  // mean 2
  std::vector<float> bias = {1, 1, 1, 1};
  UpdateGateBias(counts, 0.25f, bias);
  EXPECT_EQ(bias, (std::vector<float>{0.75f, 1, 1.25f, 1.25f}));
}

// --- optimizers ---

TEST(AdamW, SameBitsEverywhereAndBf16Moments) {
  for (const MomentType type : {MomentType::kF32, MomentType::kBF16}) {
    OnEvery([&](const Exec& exec, std::vector<float>& result) {
      std::vector<float> w = RandomFloats(9001, 1);
      std::vector<float> m(9001), v(9001);  // room enough for either type
      for (int64_t step = 1; step < 4; ++step) {
        AdamW(exec, w, RandomFloats(9001, static_cast<uint64_t>(step)), {m.data(), type},
              {v.data(), type}, {.lr = 0.1f, .step = step, .grad_scale = 0.5f});
      }
      Append(result, w);
      if (type == MomentType::kF32) return;
      const auto* half = reinterpret_cast<const uint16_t*>(v.data());
      for (int64_t i = 0; i < 9001; ++i) ASSERT_GE(BF16ToF32(half[i]), 0.0f);
      EXPECT_EQ(v[4501], 0.0f);  // nothing written behind the bf16 moments
    });
  }
}

TEST(SquaredNorm, AnyCutAtBlocks) {
  OnEvery([](const Exec& exec, std::vector<float>&) {
    const std::vector<float> g = RandomFloats(20001, 1, 1e3f);
    double exact = 0;
    for (const float x : g) exact += double{x} * x;
    const double norm = SquaredNorm(exec, g);
    EXPECT_NEAR(norm, exact, 1e-12 * exact);
    std::vector<double> blocks(5);
    NormBlocks(exec, std::span(g).subspan(0, 2 * kNormBlock), std::span(blocks).subspan(0, 2));
    NormBlocks(exec, std::span(g).subspan(2 * kNormBlock), std::span(blocks).subspan(2, 3));
    double sum = 0;
    for (const double b : blocks) sum += b;
    EXPECT_EQ(sum, norm);
    EXPECT_EQ(SquaredNorm(exec, {}), 0.0);
  });
}

TEST(Muon, ManyAtOnceAsOneByOne) {
  OnEvery([](const Exec& exec, std::vector<float>& result) {
    const std::pair<int64_t, int64_t> sizes[] = {{24, 60}, {60, 24}, {1, 5}, {300, 70}, {24, 60}};
    std::vector<Padded> w, g, buf, alone_w, alone_buf;
    std::vector<MuonJob> jobs;
    w.reserve(5), g.reserve(5), buf.reserve(5), alone_w.reserve(5), alone_buf.reserve(5);
    for (size_t i = 0; i < 5; ++i) {
      const auto [rows, cols] = sizes[i];
      const auto seed = static_cast<uint32_t>(3 * i);
      w.emplace_back(rows, cols, seed), g.emplace_back(rows, cols, seed + 1);
      buf.emplace_back(rows, cols, seed + 2);
      alone_w.push_back(w.back()), alone_buf.push_back(buf.back());
      MuonOptions options = {.lr = 0.1f * static_cast<float>(i + 1)};
      jobs.push_back({w[i](), g[i](), buf[i](), options});
      const MuonJob job = {alone_w[i](), g[i](), alone_buf[i](), options};
      Muon(exec, {&job, 1});
    }
    Muon(exec, jobs);
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(w[i].values, alone_w[i].values);
      EXPECT_EQ(buf[i].values, alone_buf[i].values);
      Append(result, w[i].values);
    }
  });
}

TEST(Muon, MakesSingularValuesNearOne) {
  OnEvery([](const Exec& exec, std::vector<float>& result) {
    for (const auto type : {ComputeType::kF32, ComputeType::kBF16}) {
      Padded w(24, 60, 1), g(24, 60, 2), buf(24, 60, 3, 0.0f);
      for (float& x : w.values) x = 0;
      MuonOptions options = {.lr = 1, .weight_decay = 0, .type = type};
      options.scale = MuonOptions::Scale::kMatchRms;
      const MuonJob job = {w(), g(), buf(), options};
      Muon(exec, {&job, 1});
      double squares = 0;
      for (int64_t r = 0; r < 24; ++r) {
        for (const float x : w()[r]) squares += double{x} * x;
      }
      // 24 singular values of about 1, times 0.2 sqrt(60).
      const double mean = squares / (0.04 * 60) / 24;
      EXPECT_GT(mean, 0.5);
      EXPECT_LT(mean, 1.3);
      Append(result, w.values);
    }
  });
}

}  // namespace
}  // namespace hadal
