// Real vocabularies with the ids that their makers' tokenizer gave. They lie outside the
// repository, so these tests are skipped where they are absent.
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary_for_test.h"

namespace hadal {
namespace {

const std::string kFolder = "../shared/data/tokenizers/";

// The mark stands behind every text.
std::vector<std::string> SplitTexts(const std::string& all) {
  const std::string mark = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  size_t at = 0;
  for (size_t hit = all.find(mark); hit != std::string::npos; hit = all.find(mark, at)) {
    texts.push_back(all.substr(at, hit - at));
    at = hit + mark.size();
  }
  return texts;
}

std::vector<std::vector<TokenId>> Lines(const std::string& all) {
  std::vector<std::vector<TokenId>> out;
  std::istringstream lines(all);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    out.emplace_back();
    for (TokenId id = 0; numbers >> id;) out.back().push_back(id);
  }
  return out;
}

class RealVocabulary : public testing::TestWithParam<const char*> {};

TEST_P(RealVocabulary, IdsEqualTheReference) {
  const std::string path = kFolder + GetParam() + ".gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  auto spec = ReadVocabulary(path);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  const auto made = Tokenizer::FromSpec(std::move(*spec));
  ASSERT_TRUE(made.ok()) << made.error().message;
  const auto in = ReadFile(path + ".inp"), out = ReadFile(path + ".out");
  ASSERT_TRUE(in.ok() && out.ok());
  const auto texts = SplitTexts(*in);
  const auto want = Lines(*out);
  ASSERT_EQ(texts.size(), want.size());
  ASSERT_GE(texts.size(), 40u);
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(made->Encode(texts[i]), want[i]) << "text " << i << ": " << texts[i];
    EXPECT_EQ(made->EncodeWithSpecials(texts[i]), want[i]) << "text " << i << ": " << texts[i];
    EXPECT_EQ(made->Decode(want[i]), texts[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(All, RealVocabulary,
                         testing::Values("deepseek-llm", "deepseek-coder", "gpt-2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace hadal
