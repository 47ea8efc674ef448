// Gradients, losses and steps against PyTorch's (tools/golden/train_kernels.py).
#include <fstream>
#include <map>

#include "kernels/attention_backward.h"
#include "kernels/backward.h"
#include "kernels/loss.h"
#include "kernels/moe_backward.h"
#include "kernels/optimizer.h"
#include "kernels/train_test.h"

namespace hadal {
namespace {

using Values = std::vector<float>;

const Values& Golden(const std::string& name) {
  static const std::map<std::string, Values> all = [] {
    std::map<std::string, Values> read;
    std::ifstream file("src/kernels/testdata/train.txt");
    std::string key;
    size_t count = 0;
    while (file >> key >> count) {
      Values& values = read[key];
      values.resize(count);
      for (float& v : values) file >> v;
    }
    return read;
  }();
  return all.at(name);
}

View2<const float> In(const std::string& name, int64_t rows) {
  const Values& v = Golden(name);
  return {v.data(), rows, static_cast<int64_t>(v.size()) / rows};
}

std::vector<int32_t> Ints(const std::string& name) {
  const Values& v = Golden(name);
  return {v.begin(), v.end()};
}

// An output that starts as `start` everywhere.
struct Out {
  Out(const std::string& name, int64_t rows, float start = 0.0f)
      : want(Golden(name)),
        start(start),
        values(want.size(), start),
        view(values.data(), rows, static_cast<int64_t>(values.size()) / rows) {}

  void Check(const std::string& what, double tolerance = 3e-6) const {
    double largest = 0;
    for (const float v : want) largest = std::max(largest, std::abs(double{v}));
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(values[i], want[i] + start, tolerance * (largest + std::abs(start)))
          << what << " " << i;
    }
  }
  const Values& want;
  float start;
  Values values;
  View2<float> view;
};

TEST(Golden, Attention) {
  const Exec exec(2, SupportedIsas().back());
  const int64_t rows = 28;
  const std::vector<SeqSpan> seqs = {
      {nullptr, 0, 0, 7}, {nullptr, 0, 7, 1}, {nullptr, 0, 8, 0}, {nullptr, 0, 8, 20}};
  Out dq("attention.dq", rows, 1), dk("attention.dk", rows, 1), dv("attention.dv", rows, 1);
  GqaAttentionBackward(exec, seqs, {4, 2, 6, 5, 0.4f}, In("attention.q", rows),
                       In("attention.k", rows), In("attention.v", rows), In("attention.dout", rows),
                       dq.view, dk.view, dv.view);
  dq.Check("dq");
  dk.Check("dk");
  dv.Check("dv");
}

TEST(Golden, RowOperations) {
  const Exec exec(2, SupportedIsas().back());
  Out dx("rmsnorm.dx", 3, 1), dw("rmsnorm.dw", 1, 1);
  RmsNormBackward(exec, In("rmsnorm.dy", 3), In("rmsnorm.x", 3), Golden("rmsnorm.w"), 1e-3f,
                  dx.view, dw.values);
  dx.Check("dx");
  dw.Check("dw");
  Out dgate("swiglu.dgate", 3), dup("swiglu.dup", 3);
  SwiGluBackward(exec, In("swiglu.dy", 3), In("swiglu.gate", 3), In("swiglu.up", 3), dgate.view,
                 dup.view);
  dgate.Check("dgate");
  dup.Check("dup");
}

TEST(Golden, CrossEntropy) {
  const Exec exec(2, SupportedIsas().back());
  Out grad("entropy.grad", 4), losses("entropy.losses", 4);
  grad.values = Golden("entropy.logits");
  grad.view.data = grad.values.data();
  const double sum = CrossEntropy(exec, grad.view, Ints("entropy.targets"),
                                  Golden("entropy.weights"), 0.25f, 0.01f, losses.values);
  grad.Check("grad");
  losses.Check("losses");
  EXPECT_NEAR(sum, double{losses.want[0]} + losses.want[1] + losses.want[3], 1e-5);
}

TEST(Golden, Distillation) {
  const Exec exec(2, SupportedIsas().back());
  const std::vector<int32_t> ids = Ints("kl.ids");
  for (const std::string kind : {"full", "top"}) {
    for (const std::string direction : {"forward", "reverse"}) {
      const std::string name = "kl." + kind + "." + direction;
      SCOPED_TRACE(name);
      const DistillOptions options = {
          direction == "forward" ? KlDirection::kForward : KlDirection::kReverse, 1.7f, 0.25f};
      Out grad(name + ".grad", 4), losses(name + ".losses", 4);
      grad.values = Golden("kl.logits");
      grad.view.data = grad.values.data();
      if (kind == "full") {
        DistillKl(exec, grad.view, In("kl.teacher", 4), Golden("entropy.weights"), options,
                  losses.values);
      } else {
        DistillKl(exec, grad.view, {{ids.data(), 4, 5}, In("kl.log_probs", 4)},
                  Golden("entropy.weights"), options, losses.values);
      }
      grad.Check("grad", 2e-5);
      losses.Check("losses", 2e-5);
    }
  }
}

std::vector<View2<const float>> Split(const std::string& name, int64_t rows) {
  const Values& v = Golden(name);
  const int64_t cols = static_cast<int64_t>(v.size()) / 4 / rows;
  std::vector<View2<const float>> views;
  for (int64_t e = 0; e < 4; ++e) views.emplace_back(v.data() + e * rows * cols, rows, cols);
  return views;
}

std::vector<View2<float>> Split(Out& out, int64_t rows) {
  const int64_t cols = static_cast<int64_t>(out.values.size()) / 4 / rows;
  std::vector<View2<float>> views;
  for (int64_t e = 0; e < 4; ++e) {
    views.emplace_back(out.values.data() + e * rows * cols, rows, cols);
  }
  return views;
}

std::vector<PackedMatrix> Pack(const Exec& exec, const std::vector<View2<const float>>& views) {
  std::vector<PackedMatrix> packed;
  for (const auto& v : views) {
    packed.push_back(*PackedMatrix::Pack(exec, DType::kF32, v.data, v.rows, v.cols));
  }
  return packed;
}

class GoldenMoe : public testing::TestWithParam<std::string> {
 protected:
  std::string Name(const std::string& what) const { return "moe." + GetParam() + "." + what; }
  GateShape Gate() const {
    const bool sigmoid = GetParam() == "sigmoid";
    return {.experts = 4,
            .top_k = 2,
            .score = sigmoid ? GateShape::Score::kSigmoid : GateShape::Score::kSoftmax,
            .normalise = sigmoid,
            .scale = 2.5f};
  }
};
INSTANTIATE_TEST_SUITE_P(Scores, GoldenMoe, testing::Values("sigmoid", "softmax"));

TEST_P(GoldenMoe, ForwardAndBackward) {
  const Exec exec(2, SupportedIsas().back());
  std::vector<int32_t> ids(18);
  Values weights(18);
  const View2<int32_t> id(ids.data(), 9, 2);
  MoeRoute(exec, In(Name("logits"), 9), Gate(), Golden(Name("bias")), id, {weights.data(), 9, 2});
  ASSERT_EQ(ids, Ints(Name("ids")));
  Workspace memory;
  const MoePlan plan = PlanMoe(id, 4, memory);
  const auto gate_w = Split(Name("gate"), 4), up_w = Split(Name("up"), 4);
  const auto down_w = Split(Name("down"), 5);
  const auto gate_p = Pack(exec, gate_w), up_p = Pack(exec, up_w), down_p = Pack(exec, down_w);
  Values gate(18 * 4), up = gate;
  const View2<float> gate_v(gate.data(), 18, 4), up_v(up.data(), 18, 4);
  Out y(Name("y"), 9);
  MoeExpertsForward(exec, In(Name("x"), 9), plan, {weights.data(), 9, 2}, {gate_p, up_p, down_p},
                    gate_v, up_v, y.view);
  y.Check("y");
  Out dx(Name("dx"), 9, 1), dweights(Name("dweights"), 9), dlogits(Name("dlogits"), 9, 1);
  Out dgate(Name("dgate"), 4, 1), dup(Name("dup"), 4, 1), ddown(Name("ddown"), 5, 1);
  const auto dgate_v = Split(dgate, 4), dup_v = Split(dup, 4), ddown_v = Split(ddown, 5);
  MoeExpertsBackward(exec, In(Name("dy"), 9), In(Name("x"), 9), plan, {weights.data(), 9, 2},
                     gate_v, up_v, {gate_w, up_w, down_w}, ComputeType::kF32, dx.view,
                     dweights.view, {dgate_v, dup_v, ddown_v});
  MoeRouteBackward(exec, In(Name("logits"), 9), Gate(), id, dweights.view, dlogits.view);
  dx.Check("dx");
  dweights.Check("dweights");
  dlogits.Check("dlogits");
  dgate.Check("dgate");
  dup.Check("dup");
  ddown.Check("ddown");
}

TEST_P(GoldenMoe, BalanceLoss) {
  const Exec exec(2, SupportedIsas().back());
  const std::vector<SeqSpan> seqs = {{nullptr, 0, 0, 4}, {nullptr, 0, 4, 0}, {nullptr, 0, 4, 5}};
  Out dlogits("balance." + GetParam() + ".dlogits", 9);
  const double loss =
      BalanceLoss(exec, In(Name("logits"), 9), Gate(), {}, seqs, 0.01f, 0.5f, dlogits.view);
  EXPECT_NEAR(loss, Golden("balance." + GetParam() + ".loss")[0], 1e-7);
  dlogits.Check("dlogits", 1e-5);
}

TEST(Golden, AdamW) {
  const Exec exec(2, SupportedIsas().back());
  Out w("adamw.out", 1);
  w.values = Golden("adamw.w");
  Values m(37), v(37);
  for (int64_t step = 1; step <= 10; ++step) {
    const View2<const float> g = In("adamw.grads", 10);
    AdamW(exec, w.values, {g.row(step - 1), 37}, {m.data()}, {v.data()},
          {.lr = 0.01f, .weight_decay = 0.1f, .step = step});
  }
  for (size_t i = 0; i < 37; ++i) {
    EXPECT_NEAR(w.values[i], w.want[i], 1e-6 * std::abs(w.want[i]) + 1e-9);
  }
}

TEST(Golden, Muon) {
  const Exec exec(2, SupportedIsas().back());
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{6, 10}, {12, 5}}) {
    const std::string name = "muon." + std::to_string(rows) + "x" + std::to_string(cols);
    Out w(name + ".out", rows);
    w.values = Golden(name + ".w");
    w.view.data = w.values.data();
    Values buf(w.values.size());
    for (int64_t step = 0; step < 3; ++step) {
      const MuonJob job = {w.view,
                           In(name + ".grads", 3 * rows).Rows(step * rows, rows),
                           {buf.data(), rows, cols},
                           {.lr = 0.02f}};
      Muon(exec, {&job, 1});
    }
    w.Check(name, 1e-5);
  }
}

}  // namespace
}  // namespace hadal
