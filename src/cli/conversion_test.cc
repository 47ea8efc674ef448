#include "cli/conversion.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "cli/param_reader.h"
#include "cli/testing_tiny_model.h"
#include "infer/bundle.h"
#include "model/model.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kArchs[] = {"llama", "mixtral",     "qwen2",
                                  "qwen3", "deepseek_v2", "deepseek_v3"};

class ConversionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("hadal_convert_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ / name; }

  std::vector<float> Logits(const std::string& path) {
    const Exec exec(1, *ChooseIsa());
    const auto file = WeightFile::Open(path);
    if (!file.ok()) ADD_FAILURE() << file.error().message;
    const auto model = Model::Load(exec, *file);
    if (!model.ok()) {
      ADD_FAILURE() << model.error().message;
      return {};
    }
    const std::vector<int32_t> ids = {256, 72, 101, 108, 108, 111, 33};
    const KvCache cache((*model)->config(), KvType::kF16, 1);
    const int32_t block = 0;
    const SeqInput seq{.blocks = &block,
                       .start = 0,
                       .tokens = ids,
                       .expanded = true,
                       .logits = static_cast<int64_t>(ids.size())};
    const ForwardResult r = (*model)->Forward({&seq, 1}, cache);
    std::vector<float> out;
    for (int64_t i = 0; i < r.logits.rows; ++i) {
      out.insert(out.end(), r.logits[i].begin(), r.logits[i].end());
    }
    return out;
  }

  fs::path folder_;
  ThreadPool pool_{1};
};

TEST_F(ConversionTest, GgufToFolderAndBackIsTheSameFile) {
  for (const std::string name : kArchs) {
    SCOPED_TRACE(name);
    const std::string first = Path(name + ".gguf"), middle = Path(name),
                      last = Path(name + "2.gguf");
    ASSERT_TRUE(WriteTinyGguf(name, DType::kF32, first).ok());
    ConversionOptions options{.type = DType::kF32, .name = "tiny " + name, .progress = {}};
    const auto out = GgufToFolder(*WeightFile::Open(first), middle, options);
    ASSERT_TRUE(out.ok()) << out.error().message;
    const auto back = FolderToGguf(pool_, *WeightFile::Open(middle), last, options);
    ASSERT_TRUE(back.ok()) << back.error().message;
    const auto a = WeightFile::Open(first), b = WeightFile::Open(last);
    ASSERT_EQ(a->tensors().size(), b->tensors().size());
    for (const TensorInfo& t : a->tensors()) {
      const TensorInfo* other = b->Find(t.name);
      ASSERT_NE(other, nullptr) << t.name;
      EXPECT_EQ(other->shape, t.shape) << t.name;
      ASSERT_EQ(other->bytes.size(), t.bytes.size()) << t.name;
      EXPECT_EQ(std::memcmp(other->bytes.data(), t.bytes.data(), t.bytes.size()), 0) << t.name;
    }
    const auto logits = Logits(first), folder_logits = Logits(middle);
    ASSERT_EQ(logits.size(), folder_logits.size());
    ASSERT_FALSE(logits.empty());
    for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], folder_logits[i], 1e-4f);
  }
}

TEST_F(ConversionTest, TokenizerSurvivesBothWays) {
  ASSERT_TRUE(WriteTinyGguf("llama", DType::kF32, Path("a.gguf")).ok());
  ConversionOptions options{.type = DType::kF32, .name = "a", .progress = {}};
  ASSERT_TRUE(GgufToFolder(*WeightFile::Open(Path("a.gguf")), Path("a"), options).ok());
  const auto before = LoadTokenizer(*WeightFile::Open(Path("a.gguf")));
  const auto after = LoadTokenizer(*WeightFile::Open(Path("a")));
  ASSERT_TRUE(after.ok()) << after.error().message;
  for (const char* text : {"Hello, world 12345", "caf\xc3\xa9 \xe6\xb7\xb1 \xf0\x9f\x90\x8b",
                           "<|im_start|>user\nhi<|im_end|>", " \n\t x"}) {
    EXPECT_EQ(before->Encode(text), after->Encode(text)) << text;
    EXPECT_EQ(before->EncodeWithSpecials(text), after->EncodeWithSpecials(text)) << text;
  }
  EXPECT_EQ(before->bos(), after->bos());
  EXPECT_EQ(before->eos(), after->eos());
  const auto config = WeightFile::Open(Path("a"))->ReadText("tokenizer_config.json");
  ASSERT_TRUE(config.ok());
  EXPECT_NE(config->find("im_start"), std::string::npos);  // the chat template
}

TEST_F(ConversionTest, QuantisedLogitsStayClose) {
  for (const std::string name : kArchs) {
    SCOPED_TRACE(name);
    const std::string full = Path(name + ".gguf"), small = Path(name + "-q8.gguf");
    ASSERT_TRUE(WriteTinyGguf(name, DType::kF32, full).ok());
    ConversionOptions options{.type = DType::kQ8_0, .name = {}, .progress = {}};
    const auto report = RequantizeGguf(pool_, *WeightFile::Open(full), small, options);
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_GT(report->tensors_by_type.at("Q8_0"), 10);
    EXPECT_EQ(report->fallbacks, 0);
    const auto a = Logits(full), b = Logits(small);
    ASSERT_EQ(a.size(), b.size());
    double square = 0, difference = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      square += double(a[i]) * a[i];
      difference += double(a[i] - b[i]) * (a[i] - b[i]);
    }
    EXPECT_GT(difference, 0);
    EXPECT_LT(std::sqrt(difference / square), 0.05);
  }
}

TEST_F(ConversionTest, CancelLeavesNothing) {
  ASSERT_TRUE(WriteTinyGguf("llama", DType::kF32, Path("a.gguf")).ok());
  ConversionOptions options{.type = DType::kQ8_0, .name = {}, .progress = {}};
  options.progress = [](int64_t done, int64_t) { return done < 3; };
  const auto report =
      RequantizeGguf(pool_, *WeightFile::Open(Path("a.gguf")), Path("b.gguf"), options);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, Code::kCancelled);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST(ParamReaderTest, PermutationsAreInverse) {
  std::vector<float> values(24 * 5);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  auto permuted = values;
  HalvesToPairs(permuted, 3, 24);
  EXPECT_NE(permuted, values);
  // Head of 8 rows: 0 4 1 5 2 6 3 7.
  EXPECT_EQ(permuted[5], 4 * 5.0f);
  EXPECT_EQ(permuted[10], 1 * 5.0f);
  PairsToHalves(permuted, 3, 24);
  EXPECT_EQ(permuted, values);
}

TEST(ParamReaderTest, TypesAndFallbacks) {
  EXPECT_EQ(ChooseType(DType::kQ4_K, "blk.0.attn_q.weight", {512, 512}), DType::kQ4_K);
  EXPECT_EQ(ChooseType(DType::kQ4_K, "blk.0.attn_q.weight", {576, 576}), DType::kQ5_0);
  EXPECT_EQ(ChooseType(DType::kQ6_K, "blk.0.attn_q.weight", {576, 576}), DType::kQ8_0);
  EXPECT_EQ(ChooseType(DType::kQ4_0, "blk.0.attn_q.weight", {8, 40}), DType::kF16);
  EXPECT_EQ(ChooseType(DType::kQ4_0, "token_embd.weight", {100, 512}), DType::kQ6_K);
  EXPECT_EQ(ChooseType(DType::kQ4_0, "output.weight", {100, 576}), DType::kQ8_0);
  EXPECT_EQ(ChooseType(DType::kQ8_0, "blk.0.attn_norm.weight", {512}), DType::kF32);
  EXPECT_EQ(ChooseType(DType::kQ8_0, "blk.0.ffn_gate_inp.weight", {64, 512}), DType::kF32);
  EXPECT_EQ(ChooseType(DType::kF16, "blk.0.attn_q.weight", {576, 576}), DType::kF16);
  EXPECT_FALSE(ParseType("Q3_K").ok());
  EXPECT_FALSE(ParseType("\x1b[31m").ok());
  EXPECT_EQ(*ParseType("q4_k"), DType::kQ4_K);
}

}  // namespace
}  // namespace hadal::cli
