// metrics.jsonl: what is written reads back, and damage costs only what it hit.
#include "train/metrics.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/file.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

class MetricsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("hadal_metrics_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path() const { return folder_ / "metrics.jsonl"; }
  void Raw(const std::string& text) { std::ofstream(Path(), std::ios::binary) << text; }
  fs::path folder_;
};

StepRecord Sample(int64_t step) {
  StepRecord r;
  r.step = step;
  r.loss = 5.0 / 3.0 + static_cast<double>(step);
  r.mtp_loss = 0.1;
  r.balance_loss = 1e-7;
  r.distill_loss = 0.7;
  r.grad_norm = 1.5;
  r.lr = 2.2e-4;
  r.tokens = 8192;
  r.total_tokens = step * 8192;
  r.seconds = 0.25;
  r.elapsed_seconds = 0.25 * static_cast<double>(step);
  r.tokens_per_second = 32768;
  r.model_flops = 3.7e24;
  r.peak_share = 0.4375;
  r.expert_tokens = {{1, 2, 3}, {4, 0, std::numeric_limits<int64_t>::max()}};
  r.max_over_mean_load = 1.5;
  r.validation_loss = 4.5;
  r.validation_bits_per_byte = 1.0625;
  r.evaluation = {0.375, 8, 1, 2.5, {{"chain:1", 0.75}, {"sort \"<:2", 0}}};
  r.skipped = true;
  r.note = "spike: \"\\\n\t<b> \xff end";
  r.rss_bytes = 1 << 30;
  return r;
}

TEST_F(MetricsTest, EveryFieldReadsBackWithTheSameBits) {
  const std::string line = ToJsonLine(Sample(7));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const auto back = FromJsonLine(line);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->loss, Sample(7).loss);
  EXPECT_EQ(back->expert_tokens, Sample(7).expert_tokens);
  EXPECT_EQ(back->note, "spike: \"\\\n\t<b> \xef\xbf\xbd end");
  StepRecord same = *back;
  same.note = Sample(7).note;
  EXPECT_EQ(ToJsonLine(same), line);  // every other field
}

TEST_F(MetricsTest, NumbersThatAreNoneReadBackAsNaN) {
  StepRecord r;
  r.loss = std::nan("");
  r.grad_norm = std::numeric_limits<double>::infinity();
  r.validation_loss = std::nan("");
  r.evaluation = {std::nan(""), 1, 1, 0, {{"chain:1", std::nan("")}}};
  const std::string line = ToJsonLine(r);
  EXPECT_NE(line.find("\"loss\":null"), std::string::npos) << line;
  const auto back = FromJsonLine(line);
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(std::isnan(back->loss));
  EXPECT_TRUE(std::isnan(back->grad_norm));
  ASSERT_TRUE(back->validation_loss.has_value());
  EXPECT_TRUE(std::isnan(*back->validation_loss));
  EXPECT_FALSE(back->validation_bits_per_byte.has_value());
  ASSERT_TRUE(back->evaluation.has_value());
  EXPECT_TRUE(std::isnan(back->evaluation->pass_at_1));
  EXPECT_TRUE(std::isnan(back->evaluation->tasks.at(0).second));
}

TEST_F(MetricsTest, HostileLinesAreRefusedOrTamed) {
  for (const char* line : {"", "[]", "7", "{\"loss\":1}", "{\"step\":\"7\"}", "{\"step\":1",
                           "\xff\xfe", "{\"step\":1e999}"}) {
    EXPECT_FALSE(FromJsonLine(line).ok()) << line;
  }
  const auto odd = FromJsonLine(
      R"({"step":1e30,"loss":"x","tokens":18446744073709551615,"expert_tokens":[7,[1,"a",-5,1e40]],
          "note":{},"rss_bytes":-1,"skipped":3,
          "evaluation":{"pass@1":"x","answers":-1e99,"tasks":{"a":[]}}})");
  ASSERT_TRUE(odd.ok());
  EXPECT_EQ(odd->step, std::numeric_limits<int64_t>::max());
  EXPECT_EQ(odd->tokens, std::numeric_limits<int64_t>::max());
  EXPECT_EQ(odd->loss, 0);
  EXPECT_EQ(odd->rss_bytes, 0u);
  EXPECT_FALSE(odd->skipped);
  ASSERT_EQ(odd->expert_tokens.size(), 1u);
  EXPECT_EQ(odd->expert_tokens[0],
            (std::vector<int64_t>{1, 0, 0, std::numeric_limits<int64_t>::max()}));
  const std::string deep = "{\"step\":1,\"x\":" + std::string(200000, '[');
  EXPECT_FALSE(FromJsonLine(deep).ok());
}

TEST_F(MetricsTest, WritesAppendAndATornLineIsRemovedOnResume) {
  {
    auto writer = MetricsWriter::Open(Path());
    ASSERT_TRUE(writer.ok()) << writer.error().message;
    for (int64_t step = 1; step <= 3; ++step) ASSERT_TRUE(writer->Append(Sample(step)).ok());
    ASSERT_TRUE(writer->Sync().ok());
  }
  const auto size = fs::file_size(Path());
  std::ofstream(Path(), std::ios::app) << ToJsonLine(Sample(4)).substr(0, 60);
  const auto torn = ReadMetrics(Path());
  ASSERT_TRUE(torn.ok());
  EXPECT_TRUE(torn->torn);
  EXPECT_EQ(torn->damaged_lines, 0);
  EXPECT_EQ(torn->steps.size(), 3u);
  auto writer = MetricsWriter::Open(Path());
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ(fs::file_size(Path()), size);
  ASSERT_TRUE(writer->Append(Sample(4)).ok());
  const auto whole = ReadMetrics(Path());
  ASSERT_TRUE(whole.ok());
  EXPECT_FALSE(whole->torn);
  ASSERT_EQ(whole->steps.size(), 4u);
  EXPECT_EQ(whole->steps[3].step, 4);
}

TEST_F(MetricsTest, AnyCutLeavesTheWholeLines) {
  std::string text;
  std::vector<size_t> ends;
  for (int64_t step = 1; step <= 4; ++step) {
    text += ToJsonLine(Sample(step));
    ends.push_back(text.size());
  }
  for (size_t cut = 0; cut <= text.size(); cut += 23) {
    Raw(text.substr(0, cut));
    const auto log = ReadMetrics(Path());
    ASSERT_TRUE(log.ok());
    size_t whole = 0;
    for (const size_t end : ends) whole += end - 1 <= cut ? 1 : 0;  // a line may lack its end
    EXPECT_EQ(log->steps.size(), whole) << cut;
    EXPECT_EQ(log->damaged_lines, 0) << cut;
  }
}

TEST_F(MetricsTest, AResumeDropsLinesOfLaterSteps) {
  std::string text;
  for (const int64_t step : {9, 10, 11, 12}) text += ToJsonLine(Sample(step));
  const auto steps_after = [&](int64_t through) {
    Raw(text + R"({"step":13,"lo)");
    EXPECT_TRUE(MetricsWriter::Open(Path(), through).ok());
    std::vector<int64_t> steps;
    const auto log = ReadMetrics(Path());
    for (const StepRecord& r : log.value().steps) steps.push_back(r.step);
    EXPECT_FALSE(log->torn);
    return steps;
  };
  EXPECT_EQ(steps_after(10), (std::vector<int64_t>{9, 10}));
  EXPECT_EQ(steps_after(12), (std::vector<int64_t>{9, 10, 11, 12}));
  EXPECT_EQ(steps_after(0), std::vector<int64_t>());
  Raw("");
  auto writer = MetricsWriter::Open(Path(), 0);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->AppendLines("{\"step\":1}\n{\"step\":2}\n").ok());
  EXPECT_EQ(ReadMetrics(Path())->steps.size(), 2u);
}

TEST_F(MetricsTest, AResumeReplacesWhatItRepeats) {
  std::string text;
  for (const int64_t step : {1, 2, 3, 4, 5}) text += ToJsonLine(Sample(step));
  StepRecord again = Sample(3);
  again.loss = 42;
  text += "\n" + std::string("not json at all\n") + ToJsonLine(again) + "\r\n";
  Raw(text + std::string(300, '\0'));
  const auto log = ReadMetrics(Path());
  ASSERT_TRUE(log.ok());
  ASSERT_EQ(log->steps.size(), 3u);  // 4 and 5 belong to what the resume left behind
  EXPECT_EQ(log->steps[2].loss, 42);
  EXPECT_EQ(log->rewinds, 1);
  EXPECT_EQ(log->damaged_lines, 1);
  EXPECT_EQ(log->first_damaged_line, 7);
  EXPECT_TRUE(log->torn);
}

TEST_F(MetricsTest, ExpertCountsOfLongRunsAreThinned) {
  std::string text;
  for (int64_t step = 1; step <= 64; ++step) text += ToJsonLine(Sample(step));
  Raw(text);
  const auto log = ReadMetrics(Path(), 6 * 10);
  ASSERT_TRUE(log.ok());
  ASSERT_EQ(log->steps.size(), 64u);
  int64_t kept = 0;
  for (size_t i = 0; i < 64; ++i) {
    kept += log->steps[i].expert_tokens.empty() ? 0 : 1;
    EXPECT_EQ(log->steps[i].expert_tokens.empty(), i % 8 != 0) << i;
  }
  EXPECT_EQ(kept, 8);
}

TEST_F(MetricsTest, WhatCannotBeOpenedIsAnError) {
  EXPECT_FALSE(ReadMetrics(folder_ / "absent").ok());
  const auto writer = MetricsWriter::Open(folder_ / "absent" / "metrics.jsonl");
  ASSERT_FALSE(writer.ok());
  EXPECT_NE(writer.error().message.find("absent"), std::string::npos);
  auto full = MetricsWriter::Open("/dev/full");
  if (!full.ok()) GTEST_SKIP() << "no /dev/full here";
  const Status status = full->Append(Sample(1));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kIo);
}

TEST(MaxOverMeanTest, IsTheWorstLayer) {
  EXPECT_EQ(MaxOverMean({}), 0);
  EXPECT_EQ(MaxOverMean({{}, {0, 0}}), 0);
  EXPECT_EQ(MaxOverMean({{1, 1}, {3, 1}, {2, 2}}), 1.5);
}

}  // namespace
}  // namespace hadal
