// hadal cost and hadal report as programs see them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/bench_peers.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class CostTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("hadal_cost_cli_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  // Exit code, and everything printed.
  static std::pair<int, std::string> Hadal(const std::string& arguments) {
    const std::string command = std::string(HADAL_BINARY) + " " + arguments;
    const auto out = RunProgram({"sh", "-c", "(" + command + ") 2>&1; echo \"code $?\""});
    EXPECT_TRUE(out.ok());
    if (!out.ok()) return {-1, ""};
    const size_t at = out->rfind("code ");
    return {std::atoi(out->c_str() + at + 5), out->substr(0, at)};
  }
  fs::path folder_;
};

TEST_F(CostTest, PapersAsJson) {
  const auto [code, text] = Hadal("cost --paper v3 --json");
  ASSERT_EQ(code, 0) << text;
  const json v3 = json::parse(text);
  EXPECT_EQ(v3["gpu_hours"], 2788e3);
  EXPECT_EQ(v3["dollars"], 5.576e6);
  EXPECT_EQ(v3["stages"].size(), 3u);
  const json r1 = json::parse(Hadal("cost --paper r1 --json").second);
  EXPECT_EQ(r1["dollars"], 294e3);
  EXPECT_EQ(r1["unrounded_dollars"], 294672);
}

TEST_F(CostTest, APlan) {
  const std::string plan =
      "cost --config src/model/testdata/deepseek_v3 --tokens 1M --hardware 2-core";
  const auto [code, text] = Hadal(plan + " --mfu 0.5 --price 3 --json");
  ASSERT_EQ(code, 0) << text;
  const json out = json::parse(text);
  const double hours = out["flops"].get<double>() / (453e9 * 0.5 * 3600);
  EXPECT_DOUBLE_EQ(out["device_hours"], hours);
  EXPECT_DOUBLE_EQ(out["core_hours"], 2 * hours);
  EXPECT_DOUBLE_EQ(out["dollars"], 3 * hours);
  EXPECT_EQ(out["mfu_assumed"], false);
  EXPECT_NE(Hadal(plan).second.find("is an assumption"), std::string::npos);
}

TEST_F(CostTest, ARunAndItsReport) {
  ASSERT_TRUE(WriteFileAtomic(folder_ / "ledger.json",
                              R"({"tokens":10,"core_seconds":7200,"wall_seconds":3600})")
                  .ok());
  const auto [code, text] = Hadal("cost " + folder_.string() + " --price 0.5 --json");
  ASSERT_EQ(code, 0) << text;
  EXPECT_EQ(json::parse(text)["money"], 1.0);
  EXPECT_EQ(Hadal("report " + folder_.string()).first, 0);
  const auto page = ReadFile(folder_ / "report.html");
  ASSERT_TRUE(page.ok());
  EXPECT_NE(page->find("<!doctype html>"), std::string::npos);
}

TEST_F(CostTest, WrongUseSaysWhat) {
  const auto wrong = [](const std::string& arguments, int code, const std::string& part) {
    const auto [got, text] = Hadal(arguments);
    EXPECT_EQ(got, code) << arguments;
    EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  };
  wrong("cost", 1, "--paper v3 or r1");
  wrong("cost --paper v9", 1, "there are v3 and r1");
  wrong("cost --paper v3 --config x", 1, "give one of");
  wrong("cost --config src/model/testdata/deepseek_v3", 1, "--tokens");
  wrong("cost --config src/model/testdata/deepseek_v3 --tokens 9Q", 1, "'9Q'");
  wrong("cost --config src/model/testdata/deepseek_v3 --tokens 1T --hardware tpu", 1, "rtx4090");
  wrong("cost --config src/model/testdata/deepseek_v3 --tokens 1T --mfu 2", 2, "--mfu");
  wrong("cost --config README.md --tokens 1T", 1, "README.md");
  wrong("cost " + folder_.string(), 1, "no ledger.json");
  wrong("report " + folder_.string(), 1, "is this the folder of a run?");
  wrong("report", 2, "run");
}

}  // namespace
}  // namespace hadal::cli
