// The backward pass against PyTorch: tools/golden/make_training.py made the expected values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "formats/weight_file.h"
#include "model/trainable.h"

namespace hadal {
namespace {

constexpr double kTolerance = 1e-4;  // of a tensor's largest gradient, and of its norm
constexpr double kMtpLambda = 0.3, kBalanceAlpha = 0.01;

template <typename T>
std::vector<T> Values(const WeightFile& file, const std::string& name) {
  const TensorInfo* t = file.Find(name);
  EXPECT_NE(t, nullptr) << name;
  if (t == nullptr) return {};
  std::vector<T> out(t->bytes.size() / sizeof(T));
  std::memcpy(out.data(), t->bytes.data(), t->bytes.size());
  return out;
}

// A checkpoint in training and the packed documents of its golden file.
struct Case {
  std::unique_ptr<TrainableModel> model;
  std::unique_ptr<WeightFile> golden;
  std::vector<int32_t> tokens, first;
  std::vector<float> weights;

  TrainBatch batch() const { return {tokens, first, weights}; }
  Objective objective() const {
    const double total = Values<float>(*golden, "total")[0];
    Objective o;
    o.loss_scale = 1 / total;
    o.mtp_scale = kMtpLambda / total;
    o.balance_alpha = kBalanceAlpha;
    o.balance_scale = 1.0 / static_cast<double>(first.size());
    return o;
  }
};

Case Open(const Exec& exec, const std::string& name, ComputeType compute = ComputeType::kF32) {
  Case c;
  const std::string stem = "src/model/testdata/" + name;
  Result<WeightFile> file = WeightFile::Open(stem);
  Result<WeightFile> golden = WeightFile::Open(stem + ".training.safetensors");
  EXPECT_TRUE(file.ok() && golden.ok());
  if (!file.ok() || !golden.ok()) return c;
  Result<ModelConfig> config = ModelConfig::FromFile(*file);
  EXPECT_TRUE(config.ok());
  auto model = TrainableModel::Create(exec, *config, compute);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
  c.model = std::move(model).value();
  EXPECT_TRUE(c.model->parameters().Read(*file, *config).ok());
  EXPECT_TRUE(c.model->Publish().ok());
  c.golden = std::make_unique<WeightFile>(std::move(golden).value());
  c.tokens = Values<int32_t>(*c.golden, "tokens");
  c.first = Values<int32_t>(*c.golden, "first");
  c.weights = Values<float>(*c.golden, "weights");
  return c;
}

void ExpectGradients(const Case& c) {
  Parameters& p = c.model->parameters();
  for (size_t i = 0; i < p.entries().size(); ++i) {
    const Parameters::Entry& e = p.entries()[i];
    if (!e.trained) continue;
    const std::vector<float> want = Values<float>(*c.golden, "grad." + e.spec.name);
    ASSERT_EQ(static_cast<int64_t>(want.size()), e.size());
    const View2<float> got = p.gradient(static_cast<int64_t>(i));
    double largest = 0, worst = 0, square = 0, difference = 0;
    for (size_t k = 0; k < want.size(); ++k) {
      const double d = static_cast<double>(got.data[k]) - static_cast<double>(want[k]);
      largest = std::max(largest, std::abs(static_cast<double>(want[k])));
      worst = std::max(worst, std::abs(d));
      square += static_cast<double>(want[k]) * static_cast<double>(want[k]);
      difference += d * d;
    }
    EXPECT_LE(worst, kTolerance * largest + 1e-9) << e.spec.name << " largest " << largest;
    EXPECT_LE(std::sqrt(difference), kTolerance * std::sqrt(square) + 1e-9) << e.spec.name;
  }
}

class Training : public testing::TestWithParam<const char*> {};

TEST_P(Training, LossAndEveryGradientEqualPyTorch) {
  const Exec exec(2, SupportedIsas().back());
  const Case c = Open(exec, GetParam());
  const Result<PassResult> r = c.model->Accumulate(c.batch(), c.objective());
  ASSERT_TRUE(r.ok());
  const auto near = [&](double got, const char* name) {
    const double want = Values<float>(*c.golden, name)[0];
    EXPECT_NEAR(got, want, 1e-5 * std::abs(want) + 1e-12) << name;
  };
  near(r->loss, "loss");
  near(r->weight, "total");
  near(r->mtp_loss, "mtp_loss");
  near(r->balance_loss, "balance_loss");
  ExpectGradients(c);
}

TEST_P(Training, RecordedLossHasTheBitsOfServing) {
  const Exec exec(2, SupportedIsas().back());
  const Case c = Open(exec, GetParam());
  const Result<PassResult> trained = c.model->Accumulate(c.batch(), c.objective());
  const Result<PassResult> served = c.model->Evaluate(c.batch(), c.objective());
  ASSERT_TRUE(trained.ok() && served.ok());
  EXPECT_EQ(trained->loss, served->loss);
  EXPECT_EQ(trained->mtp_loss, served->mtp_loss);
  EXPECT_EQ(trained->correct, served->correct);
}

TEST_P(Training, ThreadsAndInstructionSetsLeaveEveryBit) {
  std::vector<float> first;
  for (const Isa isa : {SupportedIsas().front(), SupportedIsas().back()}) {
    for (const int threads : {1, 2, 3}) {
      const Exec exec(threads, isa);
      const Case c = Open(exec, GetParam());
      ASSERT_TRUE(c.model->Accumulate(c.batch(), c.objective()).ok());
      const std::span<const float> g = c.model->parameters().gradients();
      if (first.empty()) first.assign(g.begin(), g.end());
      EXPECT_EQ(std::memcmp(first.data(), g.data(), g.size_bytes()), 0)
          << threads << " threads, " << IsaName(isa);
    }
  }
}

TEST_P(Training, RecomputedLayersGiveTheSameBits) {
  const Exec exec(2, SupportedIsas().back());
  const Case c = Open(exec, GetParam());
  Objective o = c.objective();
  const Result<PassResult> kept = c.model->Accumulate(c.batch(), o);
  ASSERT_TRUE(kept.ok());
  const std::span<float> g = c.model->parameters().gradients();
  const std::vector<float> before(g.begin(), g.end());
  std::fill(g.begin(), g.end(), 0.0f);
  o.recompute = true;
  const Result<PassResult> again = c.model->Accumulate(c.batch(), o);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(std::memcmp(before.data(), g.data(), g.size_bytes()), 0);
  EXPECT_EQ(again->loss, kept->loss);
  EXPECT_EQ(again->expert_tokens, kept->expert_tokens);
  EXPECT_NEAR(again->balance_loss, kept->balance_loss, 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Training,
                         testing::Values("deepseek_v3", "deepseek_v2_lite", "llama", "qwen2",
                                         "qwen3", "mixtral"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace hadal
