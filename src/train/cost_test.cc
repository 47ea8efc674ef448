// The published costs come out to the printed digit; plans and runs by hand.
#include "train/cost.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/file.h"
#include "train/figures.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

const CostLine& Find(const PaperCost& paper, const std::string& what) {
  for (const CostLine& line : paper.checks) {
    if (line.what.find(what) != std::string::npos) return line;
  }
  ADD_FAILURE() << "no check of " << what;
  return paper.checks.front();
}

TEST(PaperTest, V3) {
  const auto v3 = CostOfPaper("v3");
  ASSERT_TRUE(v3.ok());
  ASSERT_EQ(v3->stages.size(), 3u);
  EXPECT_EQ(v3->stages[0].gpu_hours, 2664e3);
  EXPECT_DOUBLE_EQ(v3->stages[0].unrounded_gpu_hours, 2664e3);  // 180K x 14.8 is exact
  EXPECT_EQ(v3->stages[0].dollars, 5.328e6);
  EXPECT_EQ(v3->stages[1].dollars, 0.238e6);
  EXPECT_EQ(v3->stages[2].dollars, 0.010e6);
  EXPECT_EQ(v3->gpu_hours, 2788e3);
  EXPECT_EQ(v3->dollars, 5.576e6);
  EXPECT_NEAR(Find(*v3, "a trillion tokens").value, 3.7, 0.05);
  EXPECT_NEAR(Find(*v3, "tokens a day").value, 272.80, 0.005);
  EXPECT_NEAR(Find(*v3, "GPU-hours at that rate").value, 2664, 3);
  EXPECT_NEAR(Find(*v3, "compute a token").value, 250, 0.5);
  EXPECT_NEAR(Find(*v3, "achieved").value, 385, 2);
  EXPECT_NEAR(Find(*v3, "share of the bf16 peak").value, 38.94, 0.2);
  const double extension = Find(*v3, "context extension").value;
  EXPECT_GT(extension, 20);
  EXPECT_LT(extension, 40);
  const std::string text = PaperText(*v3);
  for (const char* part : {"2664K", "119K", "5K", "2788K", "$5.576M", "$5.328M", "$238K", "$10K"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(PaperTest, R1) {
  const auto r1 = CostOfPaper("r1");
  ASSERT_TRUE(r1.ok());
  ASSERT_EQ(r1->stages.size(), 3u);
  EXPECT_EQ(r1->stages[0].unrounded_gpu_hours, 101'376);
  EXPECT_EQ(std::round(r1->stages[0].unrounded_gpu_hours / 1e3), 101);
  EXPECT_EQ(r1->stages[0].dollars, 202e3);
  EXPECT_EQ(r1->stages[1].dollars, 10e3);
  EXPECT_EQ(r1->stages[2].unrounded_gpu_hours, 40'960);
  EXPECT_EQ(std::round(r1->stages[2].unrounded_gpu_hours / 1e3), 41);
  EXPECT_EQ(r1->stages[2].dollars, 82e3);
  EXPECT_EQ(r1->gpu_hours, 147e3);
  EXPECT_EQ(r1->dollars, 294e3);
  EXPECT_EQ(r1->unrounded_gpu_hours, 147'336);
  EXPECT_EQ(r1->unrounded_dollars, 294'672);  // the rounding that the source shows
  EXPECT_FALSE(CostOfPaper("v5").ok());
}

TEST(QuantityTest, UnitsAndNonsense) {
  EXPECT_EQ(*ParseQuantity("14.8T"), 14.8e12);
  EXPECT_EQ(*ParseQuantity("62.9 B"), 62.9e9);
  EXPECT_EQ(*ParseQuantity("180k"), 180e3);
  EXPECT_EQ(*ParseQuantity("5e9"), 5e9);
  EXPECT_EQ(*ParseQuantity("4096"), 4096);
  for (const char* bad : {"", "T", "-1", "nan", "inf", "1e999", "1X", "1TT", "1 000", "\x1b[2J"}) {
    const auto value = ParseQuantity(bad);
    EXPECT_FALSE(value.ok()) << bad;
    if (value.ok()) continue;
    EXPECT_EQ(value.error().message.find('\x1b'), std::string::npos) << bad;
  }
}

PlanInput Input() {
  PlanInput in;
  in.config.layers = 2;
  in.config.width = 8;
  in.config.vocab = 10;
  in.config.heads = 2;
  in.config.kv_heads = 1;
  in.config.head_dim = 4;
  in.config.ffn = 16;
  in.tokens = 1e6;
  in.seq_len = 3;
  in.hardware = *FindHardware("H800");
  in.hardware.peak_flops = 1e6;
  in.mfu = 0.5;
  in.devices = 2;
  return in;
}

TEST(PlanTest, ByHand) {
  const auto plan = MakePlan(Input());
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  const double per_token = 6 * (2 * 592 + 88) + 2 * 192;
  EXPECT_EQ(plan->flops_per_token, per_token);
  EXPECT_DOUBLE_EQ(plan->device_hours, per_token * 1e6 / 0.5e6 / 3600);
  EXPECT_DOUBLE_EQ(plan->days, plan->device_hours / 48);
  EXPECT_DOUBLE_EQ(*plan->money, plan->device_hours * 2);
  EXPECT_EQ(plan->memory_bytes, (2 + 4 + 4 + 8) * 1352.0);  // 1272 and the embedding's 80
  EXPECT_EQ(plan->least_devices, 1);
  PlanInput in = Input();
  in.compute = ComputeWeights::kF32;
  in.moments = Moments::kBf16;
  EXPECT_EQ(MakePlan(in)->memory_bytes, (4 + 4 + 4) * 1352.0);
  in.hardware = *FindHardware("h200");
  EXPECT_FALSE(MakePlan(in)->money.has_value());  // no price is known
  in.price_per_hour = 3;
  EXPECT_TRUE(MakePlan(in)->money.has_value());
  EXPECT_NE(PlanText(*plan).find("GFLOP a token"), std::string::npos);
}

TEST(PlanTest, NonsenseIsRefused) {
  const double nan = std::nan("");
  const auto refused = [](auto change) {
    PlanInput in = Input();
    change(in);
    const auto plan = MakePlan(in);
    return !plan.ok() && plan.error().code == Code::kInvalid;
  };
  EXPECT_TRUE(refused([](PlanInput& in) { in.tokens = 0; }));
  EXPECT_TRUE(refused([&](PlanInput& in) { in.tokens = nan; }));
  EXPECT_TRUE(refused([](PlanInput& in) { in.tokens = 1e300; }));
  EXPECT_TRUE(refused([](PlanInput& in) { in.mfu = 0; }));
  EXPECT_TRUE(refused([](PlanInput& in) { in.mfu = 1.5; }));
  EXPECT_TRUE(refused([&](PlanInput& in) { in.mfu = nan; }));
  EXPECT_TRUE(refused([](PlanInput& in) { in.devices = 0; }));
  EXPECT_TRUE(refused([](PlanInput& in) { in.seq_len = 0; }));
  EXPECT_TRUE(refused([](PlanInput& in) { in.price_per_hour = -1; }));
  EXPECT_TRUE(refused([](PlanInput& in) { in.hardware.peak_flops = 0; }));
  const auto unknown = FindHardware("tpu");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("h800"), std::string::npos);
}

class RunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("hadal_cost_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void Put(const std::string& path, const std::string& text) {
    fs::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path) << text;
  }
  fs::path folder_;
};

Ledger Sample(int64_t tokens) {
  Ledger l;
  l.tokens = tokens;
  l.train_flops = 1e12;
  l.core_seconds = 3600;
  l.wall_seconds = 1800;
  l.machines = {{"host", "A CPU", 2, 3600, std::nullopt}};
  return l;
}

TEST_F(RunTest, OneStage) {
  EXPECT_FALSE(CostOfRun(folder_, std::nullopt).ok());
  Put("ledger.json", Sample(10).ToJson());
  const auto run = CostOfRun(folder_, 0.5);
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_EQ(run->total.money(), 0.5);
  EXPECT_NE(RunText(*run).find("$0.50"), std::string::npos) << RunText(*run);
  EXPECT_FALSE(CostOfRun(folder_, -1.0).ok());
  EXPECT_FALSE(CostOfRun(folder_, std::nan("")).ok());
}

TEST_F(RunTest, StagesOfARecipeCountOnceAndStayInside) {
  Put("a/ledger.json", Sample(10).ToJson());
  Put("b/ledger.json", Sample(20).ToJson());
  Put("c/ledger.json", "{");
  fs::create_directory_symlink(folder_ / "a", folder_ / "again");
  fs::create_directory_symlink("/proc", folder_ / "out");
  Put("recipe.json", R"({"stages":[{"name":"one","run_dir":"a"},{"name":"two","run_dir":"b"},
      {"name":"same","run_dir":"again"},{"name":"broken","run_dir":"c"},
      {"name":"outside","run_dir":"../.."},{"name":"absolute","run_dir":"/etc"},
      {"name":"link","run_dir":"out"},{"name":"itself","run_dir":"."},{"name":"none"}]})");
  const auto run = CostOfRun(folder_, std::nullopt);
  ASSERT_TRUE(run.ok()) << run.error().message;
  EXPECT_EQ(run->total.tokens, 30);
  EXPECT_EQ(run->total.core_hours(), 2);
  ASSERT_EQ(run->stages.size(), 9u);
  for (size_t i = 2; i < run->stages.size(); ++i) {
    EXPECT_FALSE(run->stages[i].ledger.has_value()) << i;
    EXPECT_FALSE(run->stages[i].problem.empty()) << i;
  }
  Put("recipe.json", "{\"stages\":7}");
  EXPECT_FALSE(CostOfRun(folder_, std::nullopt).ok());
}

TEST(FiguresTest, ReadWell) {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(HumanCount(0), "0");
  EXPECT_EQ(HumanCount(999), "999");
  EXPECT_EQ(HumanCount(12345), "12.3 k");
  EXPECT_EQ(HumanCount(999999), "1.00 M");
  EXPECT_EQ(HumanCount(14.8e12), "14.8 T");
  EXPECT_EQ(HumanCount(1e300), "1.00e+300");
  EXPECT_EQ(HumanCount(nan), "–");
  EXPECT_EQ(HumanCount(-inf), "-∞");
  EXPECT_EQ(HumanTime(0.85), "850 ms");
  EXPECT_EQ(HumanTime(59.96), "1:00");
  EXPECT_EQ(HumanTime(3723), "1:02:03");
  EXPECT_EQ(HumanTime(54.25 * 86400), "54 d 6 h");
  EXPECT_EQ(HumanTime(-1), "–");
  EXPECT_EQ(HumanMoney(5.576e6), "$5.576M");
  EXPECT_EQ(HumanMoney(0.0042), "$0.0042");
  EXPECT_EQ(HumanMoney(12.345, "EUR"), "12.35 EUR");
  EXPECT_EQ(HumanShare(0.3894), "38.9 %");
  EXPECT_EQ(HumanNumber(3.14159), "3.142");
  EXPECT_EQ(HumanNumber(2.2e-5, 3), "2.20e-05");
  EXPECT_EQ(Grouped(671026404352), "671 026 404 352");
  EXPECT_EQ(Grouped(-1000), "-1 000");
}

}  // namespace
}  // namespace hadal
