// FLOPs by hand and against published figures; ledgers that merge, and counters that lie.
#include "train/ledger.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/file.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

ModelConfig Deepseek(int64_t layers, int64_t width, int64_t vocab, int64_t experts, int64_t top_k) {
  ModelConfig c;
  c.arch = Arch::kDeepseekV3;
  c.layers = layers;
  c.width = width;
  c.vocab = vocab;
  c.heads = c.kv_heads = 128;
  c.q_latent = 1536;
  c.latent = 512;
  c.nope_dim = c.v_dim = 128;
  c.rope_dim = 64;
  c.gate.experts = experts;
  c.gate.top_k = top_k;
  return c;
}

ModelConfig V3() {
  ModelConfig c = Deepseek(61, 7168, 129280, 256, 8);
  c.ffn = 18432;
  c.expert_ffn = 2048;
  c.shared_experts = 1;
  c.dense_layers = 3;
  c.mtp_layers = 1;
  return c;
}

ModelConfig V2() {
  ModelConfig c = Deepseek(60, 5120, 102400, 160, 6);
  c.ffn = 12288;
  c.expert_ffn = 1536;
  c.shared_experts = 2;
  c.dense_layers = 1;
  return c;
}

TEST(TrainFlopsTest, ATinyLlamaByHand) {
  ModelConfig c;
  c.layers = 2;
  c.width = 8;
  c.vocab = 10;
  c.heads = 2;
  c.kv_heads = 1;
  c.head_dim = 4;
  c.ffn = 16;
  // A layer: q 8*8, k and v 4*8 each, o 8*8, three of 8*16, two norms of 8. Then a norm and a head.
  const double layer = 64 + 32 + 32 + 64 + 3 * 128 + 16;
  const TrainFlops flops = CountTrainFlops(c);
  EXPECT_EQ(flops.per_token, 6 * (2 * layer + 8 + 80));
  EXPECT_EQ(flops.per_pair, 6 * 2 * 2 * (4 + 4));  // layers, heads, Dk + Dv
  EXPECT_EQ(flops.mtp_per_token, 0);
  EXPECT_EQ(flops.PerToken(3), flops.per_token + 2 * flops.per_pair);
  // Two documents of 3 and 1 tokens: 6 + 1 pairs.
  EXPECT_EQ(flops.Of(4, 7), 4 * flops.per_token + 7 * flops.per_pair);
  c.tied_embeddings = true;  // the one table still multiplies as the head
  EXPECT_EQ(CountTrainFlops(c).per_token, flops.per_token);
}

TEST(TrainFlopsTest, V3AndV2AsPublished) {
  const TrainFlops flops = CountTrainFlops(V3());
  EXPECT_EQ(flops.per_token, 6.0 * 36'625'603'584);
  EXPECT_EQ(flops.per_pair, 6.0 * 61 * 128 * (192 + 128));
  EXPECT_NEAR(flops.PerToken(4096, false) / 1e9, 250.46, 0.005);         // printed: 250
  EXPECT_NEAR(CountTrainFlops(V2()).PerToken(4096) / 1e9, 155.3, 0.05);  // printed: 155
  // MTP: attention, norms, gate, 9 experts, eh_proj and its three norms, the shared head.
  const double block = 187'107'328 + 2 * 7168 + 256 * 7168 + 9 * 44'040'192.0;
  const double mtp = block + 2.0 * 7168 * 7168 + 3 * 7168 + 926'679'040;
  EXPECT_EQ(flops.mtp_per_token, 6 * mtp);
  EXPECT_NEAR(TrainFlopsPerToken(V3(), 4096) / 1e9, 260.65, 0.01);
  // 272.80 B tokens a day on 2048 GPUs: 385 TFLOP/s causal and 432 with all pairs are published.
  const double rate = 272.80e9 / 86400 / 2048;
  EXPECT_NEAR(rate * flops.PerToken(4096, false) / 1e12, 385, 2);
  EXPECT_NEAR(rate * flops.Of(1, 4096, false) / 1e12, 432, 2);
}

Ledger Sample(const std::string& host, std::optional<double> joules) {
  Ledger l;
  l.tokens = 1000;
  l.train_flops = 2e12;
  l.core_seconds = 7200;
  l.wall_seconds = 3600;
  l.peak_rss_bytes = 1 << 20;
  l.machines = {{host, "A CPU", 2, 7200, joules}};
  l.energy_source = joules ? "package-0" : "";
  return l;
}

TEST(LedgerTest, WritesAndReadsBack) {
  Ledger l = Sample("a \"host\"\xff", 360.5);
  l.price_per_core_hour = 0.05;
  const auto back = Ledger::FromJson(l.ToJson());
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->ToJson(), Ledger::FromJson(back->ToJson())->ToJson());
  EXPECT_EQ(back->tokens, 1000);
  EXPECT_EQ(back->train_flops, 2e12);
  EXPECT_EQ(back->joules(), 360.5);
  EXPECT_DOUBLE_EQ(*back->money(), 0.1);
  EXPECT_DOUBLE_EQ(*back->rented_money(), 0.1);
  const auto bare = Ledger::FromJson(Sample("a", std::nullopt).ToJson());
  EXPECT_FALSE(bare->joules().has_value());  // absent, not zero
  EXPECT_FALSE(bare->money().has_value());
  EXPECT_EQ(Sample("a", std::nullopt).ToJson().find("joules"), std::string::npos);
}

TEST(LedgerTest, DamageIsRefused) {
  for (const char* text : {"", "{", "[]", "{}", R"({"core_seconds":null,"wall_seconds":1})",
                           R"({"core_seconds":-1,"wall_seconds":1})",
                           R"({"core_seconds":1,"wall_seconds":1,"tokens":-1})"}) {
    const auto l = Ledger::FromJson(text);
    ASSERT_FALSE(l.ok()) << text;
    EXPECT_EQ(l.error().code, Code::kCorrupt);
  }
  const auto absent = ReadLedger("/nonexistent/ledger.json");
  ASSERT_FALSE(absent.ok());
  const auto odd =
      Ledger::FromJson(R"({"core_seconds":1,"wall_seconds":1,"machines":[3,{"joules":"x"}]})");
  ASSERT_TRUE(odd.ok());
  EXPECT_FALSE(odd->joules().has_value());
}

TEST(LedgerTest, SessionsAddUp) {
  const Ledger sum = MergeSessions(Sample("a", 10), Sample("a", 20));
  EXPECT_EQ(sum.tokens, 2000);
  EXPECT_EQ(sum.wall_seconds, 7200);
  EXPECT_EQ(sum.peak_rss_bytes, uint64_t{1} << 20);
  EXPECT_EQ(sum.sessions, 2);
  ASSERT_EQ(sum.machines.size(), 1u);
  EXPECT_EQ(sum.joules(), 30);
  EXPECT_EQ(sum.available_core_hours(), 4);
  // A session that could not read the counters leaves a hole, and a hole is no figure.
  EXPECT_FALSE(MergeSessions(Sample("a", 10), Sample("a", std::nullopt)).joules().has_value());
  EXPECT_FALSE(MergeSessions(Sample("a", 10), Sample("b", std::nullopt)).joules().has_value());
  EXPECT_EQ(MergeSessions(Sample("a", 10), Sample("b", 5)).joules(), 15);
}

TEST(LedgerTest, RanksShareAHostsCountersAndCores) {
  const std::vector<Ledger> ranks = {Sample("a", 100), Sample("a", 90), Sample("b", 50)};
  const Ledger sum = MergeRanks(ranks);
  EXPECT_EQ(sum.tokens, 3000);
  EXPECT_EQ(sum.core_seconds, 3 * 7200);
  EXPECT_EQ(sum.wall_seconds, 3600);
  EXPECT_EQ(sum.peak_rss_bytes, uint64_t{3} << 20);
  EXPECT_EQ(sum.ranks, 3);
  EXPECT_EQ(sum.sessions, 1);
  EXPECT_EQ(sum.joules(), 150);
  EXPECT_EQ(sum.available_core_hours(), 4);  // two hosts of two cores for an hour
}

class MeterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("hadal_meter_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void Put(const std::string& path, const std::string& text) {
    fs::create_directories((folder_ / path).parent_path());
    std::ofstream(folder_ / path) << text << "\n";
  }
  MeterOptions Options() const { return {folder_ / "powercap", folder_ / "hwmon", std::nullopt}; }
  fs::path folder_;
};

TEST_F(MeterTest, MeasuresThisProcess) {
  LedgerMeter meter(Options());
  volatile double sum = 0;
  for (int i = 0; i < 30'000'000; ++i) sum = sum + i;
  meter.Add(100, 1e9);
  meter.Add(28, 1e9);
  const Ledger l = meter.Read();
  EXPECT_EQ(l.tokens, 128);
  EXPECT_EQ(l.train_flops, 2e9);
  EXPECT_GT(l.core_seconds, 0);
  EXPECT_GT(l.wall_seconds, 0);
  EXPECT_GT(l.peak_rss_bytes, uint64_t{1} << 20);
  ASSERT_EQ(l.machines.size(), 1u);
  EXPECT_GE(l.machines[0].cores, 1);
  EXPECT_FALSE(l.machines[0].cpu.empty());
  EXPECT_FALSE(l.joules().has_value());  // no counters in the empty folders
}

TEST_F(MeterTest, ReadsPackagesAndDramOnceAndTheirWrap) {
  Put("powercap/intel-rapl:0/name", "package-0");
  Put("powercap/intel-rapl:0/energy_uj", "999000000");
  Put("powercap/intel-rapl:0/max_energy_range_uj", "1000000000");
  Put("powercap/intel-rapl:0:0/name", "core");
  Put("powercap/intel-rapl:0:0/energy_uj", "5");
  Put("powercap/intel-rapl:0:1/name", "dram");
  Put("powercap/intel-rapl:0:1/energy_uj", "10");
  Put("powercap/intel-rapl:1/name", "psys");
  Put("powercap/intel-rapl:1/energy_uj", "7");
  Put("powercap/intel-rapl-mmio:0/name", "package-0");
  Put("powercap/intel-rapl-mmio:0/energy_uj", "7");
  LedgerMeter meter(Options());
  Put("powercap/intel-rapl:0/energy_uj", "2000000");     // 1 J to the wrap, 2 J after it
  Put("powercap/intel-rapl:0:0/energy_uj", "90000000");  // inside the package
  Put("powercap/intel-rapl:0:1/energy_uj", "500010");
  Put("powercap/intel-rapl:1/energy_uj", "90000000");
  Put("powercap/intel-rapl-mmio:0/energy_uj", "90000000");
  const Ledger l = meter.Read();
  ASSERT_TRUE(l.joules().has_value());
  EXPECT_DOUBLE_EQ(*l.joules(), 3.5);
  EXPECT_EQ(l.energy_source, "package-0, dram");
}

TEST_F(MeterTest, ReadsAmdSocketsAndGivesUpWhenTheyVanish) {
  Put("hwmon/hwmon3/name", "amd_energy");
  Put("hwmon/hwmon3/energy1_label", "Ecore000");
  Put("hwmon/hwmon3/energy1_input", "1");
  Put("hwmon/hwmon3/energy2_label", "Esocket0");
  Put("hwmon/hwmon3/energy2_input", "1000000");
  LedgerMeter meter(Options());
  Put("hwmon/hwmon3/energy2_input", "4000000");
  EXPECT_DOUBLE_EQ(meter.Read().joules().value(), 3);
  fs::remove(folder_ / "hwmon/hwmon3/energy2_input");
  EXPECT_FALSE(meter.Read().joules().has_value());
  EXPECT_EQ(meter.Read().energy_source, "");
}

TEST_F(MeterTest, AnUnreadableCounterIsNoCounter) {
  Put("powercap/intel-rapl:0/name", "package-0");
  Put("powercap/intel-rapl:0/energy_uj", "garbage");
  EXPECT_FALSE(LedgerMeter(Options()).Read().joules().has_value());
}

}  // namespace
}  // namespace hadal
