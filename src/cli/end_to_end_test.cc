// The real program on a tiny model in a temporary folder.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/bench_peers.h"
#include "cli/testing_tiny_model.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class EndToEndTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = fs::temp_directory_path() / ("hadal_end_" + std::to_string(getpid()));
    fs::create_directories(folder_);
    setenv("HADAL_HOME", (folder_ / "home").c_str(), 1);
    setenv("HADAL_OFFLINE", "1", 1);
    model_ = folder_ / "tiny.gguf";
    ASSERT_TRUE(WriteTinyGguf("deepseek_v3", DType::kF16, model_).ok());
  }
  static void TearDownTestSuite() {
    fs::remove_all(folder_);
    unsetenv("HADAL_HOME");
    unsetenv("HADAL_OFFLINE");
  }
  static std::string Run(std::vector<std::string> words) {
    words.insert(words.begin(), HADAL_BINARY);
    const auto out = RunProgram(words, false);
    EXPECT_TRUE(out.ok()) << out.error().message;
    return out.ok() ? *out : "";
  }
  // Exit code, and everything printed.
  static std::pair<int, std::string> Shell(const std::string& command) {
    const auto out = RunProgram({"sh", "-c", "(" + command + ") 2>&1; echo \"code $?\""});
    EXPECT_TRUE(out.ok());
    const size_t at = out->rfind("code ");
    return {std::atoi(out->c_str() + at + 5), out->substr(0, at)};
  }
  static std::string Hadal(const std::string& arguments) {
    return std::string(HADAL_BINARY) + " " + arguments;
  }
  static fs::path folder_;
  static std::string model_;
};
fs::path EndToEndTest::folder_;
std::string EndToEndTest::model_;

TEST_F(EndToEndTest, CompleteIsDeterministicAndReplays) {
  const std::vector<std::string> words = {
      "complete",      "--model", model_,       "--json", "--max-tokens", "12", "--seed", "5",
      "--temperature", "1",       "--logprobs", "2",      "Hello"};
  const std::string first = Run(words);
  json a = json::parse(first), b = json::parse(Run(words));
  EXPECT_EQ(a["ids"], b["ids"]);
  EXPECT_EQ(a["ids"].size(), 12u);
  EXPECT_EQ(a["finish_reason"], "length");
  EXPECT_EQ(a["logprobs"].size(), 12u);
  EXPECT_EQ(a["logprobs"][0]["top"].size(), 2u);
  EXPECT_EQ(a["prompt_ids"][0], 258);  // <|im_start|>
  ASSERT_TRUE(WriteFileAtomic(folder_ / "answer.json", first).ok());
  const std::string replay =
      " --model " + model_ + " --replay " + (folder_ / "answer.json").string();
  EXPECT_EQ(Shell(Hadal("verify" + replay)),
            std::make_pair(0, std::string("identical: 12 tokens\n")));
  a["ids"][3] = (a["ids"][3].get<int>() + 1) % 256;
  ASSERT_TRUE(WriteFileAtomic(folder_ / "answer.json", a.dump()).ok());
  const auto [code, text] = Shell(Hadal("verify" + replay));
  EXPECT_EQ(code, 1);
  EXPECT_NE(text.find("differs at token 3"), std::string::npos) << text;
}

TEST_F(EndToEndTest, RawStdinAndFileAgree) {
  ASSERT_TRUE(WriteFileAtomic(folder_ / "prompt.txt", "once upon").ok());
  const std::string flags = " --raw --temperature 0 --max-tokens 8 --model " + model_ + " ";
  const auto a = Shell(Hadal("complete" + flags + "'once upon'"));
  const auto b = Shell(Hadal("complete" + flags + "--file " + (folder_ / "prompt.txt").string()));
  const auto c = Shell("printf 'once upon' | " + Hadal("complete" + flags));
  EXPECT_EQ(a.first, 0) << a.second;
  EXPECT_EQ(a, b);
  EXPECT_EQ(a, c);
}

TEST_F(EndToEndTest, ChatWithPipedStdin) {
  const std::string saved = (folder_ / "saved.json").string();
  const auto [code, text] =
      Shell("printf '/set temperature 0\\nhello\\n/retry\\nsecond\\n/undo\\n/save " + saved +
            "\\n/stats\\n/exit\\nnever\\n' | " + Hadal("chat --max-tokens 6 --model " + model_));
  EXPECT_EQ(code, 0) << text;
  EXPECT_NE(text.find("tok/s"), std::string::npos) << text;
  const json messages = json::parse(*ReadFile(saved));
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0]["content"], "hello");
  EXPECT_EQ(messages[1]["role"], "assistant");
  const auto [wrong, message] = Shell("echo /nonsense | " + Hadal("chat --model " + model_));
  EXPECT_EQ(wrong, 1);
  EXPECT_NE(message.find("/nonsense"), std::string::npos);
}

TEST_F(EndToEndTest, InspectPlansAndLists) {
  const json out = json::parse(Run({"inspect", model_, "--json", "--tensors", "--plan"}));
  EXPECT_EQ(out["architecture"], "deepseek_v3");
  EXPECT_EQ(out["layers"], 2);
  EXPECT_EQ(out["kv_bytes_per_token"], 2 * 2 * (32 + 16));
  EXPECT_GT(out["plan"]["total"], out["plan"]["weights"]);
  EXPECT_GT(out["tensors"].size(), 10u);
  EXPECT_NE(Run({"inspect", model_}).find("total parameters"), std::string::npos);
}

TEST_F(EndToEndTest, QuantizeConvertAndPerplexity) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "some text number " + std::to_string(i) + ". ";
  ASSERT_TRUE(WriteFileAtomic(folder_ / "text.txt", text).ok());
  const std::string small = folder_ / "small.gguf", folder = folder_ / "folder";
  const json out =
      json::parse(Run({"quantize", model_, "--type", "Q8_0", "--output", small, "--perplexity",
                       folder_ / "text.txt", "--context", "64", "--json"}));
  const double before = out["before"]["perplexity"], after = out["after"]["perplexity"];
  EXPECT_NEAR(after / before, 1, 0.05);
  EXPECT_LT(fs::file_size(small), fs::file_size(model_));
  Run({"convert", model_, "--output", folder, "--type", "F32"});
  const json folder_ppl = json::parse(Run({"perplexity", "--model", folder, "--file",
                                           folder_ / "text.txt", "--context", "64", "--json"}));
  EXPECT_NEAR(folder_ppl["perplexity"].get<double>() / before, 1, 1e-3);
  Run({"convert", folder, "--output", folder_ / "again.gguf", "--type", "F16"});
  const json again = json::parse(Run({"complete", "--model", folder_ / "again.gguf", "--json",
                                      "--temperature", "0", "--max-tokens", "8", "hi"}));
  const json original = json::parse(Run(
      {"complete", "--model", model_, "--json", "--temperature", "0", "--max-tokens", "8", "hi"}));
  EXPECT_EQ(again["ids"], original["ids"]);
  const auto [code, message] =
      Shell(Hadal("quantize " + model_ + " --type Q8_0 --output " + small));
  EXPECT_EQ(code, 1);
  EXPECT_NE(message.find("--force"), std::string::npos);
}

TEST_F(EndToEndTest, PullListVerifyRepair) {
  Run({"pull", model_, "--name", "mine"});
  const json list = json::parse(Run({"list", "--json"}));
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["name"], "mine");
  Run({"complete", "--model", "mine", "--max-tokens", "1", "x"});
  EXPECT_EQ(Shell(Hadal("verify mine")).first, 0);
  const std::string stored = folder_ / "home/models/mine/tiny.gguf";
  std::string bytes = *ReadFile(stored);
  bytes[bytes.size() / 2] ^= 1;
  ASSERT_TRUE(WriteFileAtomic(stored, bytes).ok());
  const auto [code, text] = Shell(Hadal("verify mine"));
  EXPECT_EQ(code, 1);
  EXPECT_NE(text.find("SHA-256"), std::string::npos);
  EXPECT_EQ(Shell(Hadal("verify mine --repair")).first, 0);
  EXPECT_EQ(Shell(Hadal("verify mine")).first, 0);
}

TEST_F(EndToEndTest, WrongUseIsOneLineAndTwo) {
  for (const char* bad : {"", "nonsense", "complete --temperature hot x", "inspect --no-such-flag",
                          "quantize", "pull"}) {
    const auto [code, text] = Shell(Hadal(bad));
    EXPECT_EQ(code, 2) << bad;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_TRUE(text.starts_with("hadal: error: ")) << text;
  }
  for (const char* bad :
       {"complete --model no-such-model x", "inspect /etc/passwd", "pull hf:org/name",
        "convert /nonexistent --output x.gguf", "chat", "verify nothing"}) {
    const auto [code, text] = Shell(Hadal(bad) + " </dev/null");
    EXPECT_EQ(code, 1) << bad << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_TRUE(text.starts_with("hadal: error: ")) << text;
  }
  for (const char* verb : {"chat", "complete", "pull", "list", "inspect", "convert", "quantize",
                           "perplexity", "bench", "verify", "distill"}) {
    const auto [code, text] = Shell(Hadal(std::string(verb) + " --help"));
    EXPECT_EQ(code, 0) << verb;
    EXPECT_NE(text.find("Example"), std::string::npos) << verb;
  }
}

TEST_F(EndToEndTest, ControlBytesOfFileNamesStayOutOfErrors) {
  const auto [code, text] = Shell(Hadal("inspect \"$(printf 'x\\033[2Jy')\""));
  EXPECT_EQ(code, 1);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace hadal::cli
