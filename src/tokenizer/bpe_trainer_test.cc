#include "tokenizer/bpe_trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "base/rng.h"
#include "tokenizer/tokenizer.h"

namespace hadal {
namespace {

// Prose with numbers and Chinese, from this repository.
std::vector<std::string> Texts() {
  std::vector<std::string> texts;
  for (const char* path :
       {"ARCHITECTURE.md", "README.md", "docs/tokenizer.md", "docs/formats.md"}) {
    texts.push_back(ReadFile(path).value());
  }
  texts.push_back("2024年的第123456号文件：深度学习模型的训练。深度学习模型的推理。\r\n\t深度。");
  texts.push_back("broken \xFF\xFE bytes \xE4\xB8 end");
  return texts;
}

BpeTraining Train(const BpeTrainerOptions& options, const std::vector<std::string>& texts,
                  size_t batch = 2) {
  auto trainer = BpeTrainer::Create(options);
  EXPECT_TRUE(trainer.ok());
  for (size_t i = 0; i < texts.size(); i += batch) {
    std::vector<std::string_view> part(
        texts.begin() + static_cast<ptrdiff_t>(i),
        texts.begin() + static_cast<ptrdiff_t>(std::min(i + batch, texts.size())));
    trainer->Add(part);
  }
  auto made = trainer->Train();
  EXPECT_TRUE(made.ok());
  return std::move(*made);
}

TEST(BpeTrainer, EveryCombinationLoadsAndRoundTrips) {
  using Options = BpeTrainerOptions;
  const auto texts = Texts();
  for (const auto pattern : {Options::Pattern::kDeepSeekV3, Options::Pattern::kGpt2}) {
    for (const auto digits :
         {Options::Digits::kWhole, Options::Digits::kSingle, Options::Digits::kThrees}) {
      const BpeTraining made =
          Train({.vocab_size = 1000, .pattern = pattern, .digits = digits}, texts);
      const auto tokenizer = Tokenizer::FromJson(made.tokenizer_json, made.tokenizer_config_json);
      ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
      EXPECT_EQ(tokenizer->vocab_size(), 1000);
      EXPECT_EQ(made.vocab_size, 1000);
      EXPECT_EQ(tokenizer->bos(), 0);
      EXPECT_EQ(tokenizer->eos(), 1);
      EXPECT_TRUE(tokenizer->add_bos());
      for (const std::string& text : texts) {
        const auto ids = tokenizer->Encode(text);
        EXPECT_EQ(tokenizer->Decode(ids), text);
        EXPECT_LT(ids.size(), text.size() * 3 / 4);
      }
      std::set<size_t> longest;
      for (TokenId id = 0; id < 1000; ++id) {
        const std::string_view piece = tokenizer->Piece(id);
        const auto digit = [](char c) { return c >= '0' && c <= '9'; };
        if (std::all_of(piece.begin(), piece.end(), digit)) longest.insert(piece.size());
      }
      EXPECT_LE(*longest.rbegin(), digits == Options::Digits::kSingle   ? 1u
                                   : digits == Options::Digits::kThrees ? 3u
                                                                        : 64u);
      const size_t number = tokenizer->Encode("123456789").size();
      EXPECT_GE(number, digits == Options::Digits::kSingle   ? 9u
                        : digits == Options::Digits::kThrees ? 3u
                                                             : 1u);
    }
  }
}

TEST(BpeTrainer, SpecialTokensAreThereAndNeverInText) {
  const auto texts = Texts();
  const BpeTraining made = Train({.vocab_size = 600}, texts);
  const auto tokenizer = Tokenizer::FromJson(made.tokenizer_json, made.tokenizer_config_json);
  ASSERT_TRUE(tokenizer.ok());
  for (const std::string& name : DeepSeekSpecialTokens()) {
    const auto id = tokenizer->Find(name);
    ASSERT_TRUE(id.has_value()) << name;
    EXPECT_EQ(tokenizer->EncodeWithSpecials(name), std::vector<TokenId>{*id});
    const auto plain = tokenizer->Encode(name);
    EXPECT_EQ(std::count(plain.begin(), plain.end(), *id), 0) << name;
    EXPECT_EQ(tokenizer->Decode(plain), name);
  }
  EXPECT_TRUE(tokenizer->IsSpecial(*tokenizer->Find("<｜User｜>")));
  EXPECT_FALSE(tokenizer->IsSpecial(*tokenizer->Find("<think>")));
}

TEST(BpeTrainer, SameBytesWhateverTheThreadsAndBatches) {
  const auto texts = Texts();
  BpeTrainerOptions options{.vocab_size = 900};
  const std::string one = Train(options, texts, 1).tokenizer_json;
  options.threads = 2;
  EXPECT_EQ(Train(options, texts, 6).tokenizer_json, one);
}

// The definition: count all pairs, merge the best everywhere, again.
std::vector<std::string> SlowMerges(const std::vector<std::string>& words, int count) {
  std::vector<std::vector<std::string>> split;
  for (const std::string& w : words) {
    split.emplace_back();
    for (const char c : w) split.back().emplace_back(1, c);
  }
  std::map<std::string, int> ids;
  for (int byte = 0; byte < 256; ++byte) ids[std::string(1, static_cast<char>(byte))] = byte;
  std::vector<std::string> merges;
  while (static_cast<int>(merges.size()) < count) {
    std::map<std::pair<int, int>, int> pairs;
    for (const auto& w : split) {
      for (size_t i = 0; i + 1 < w.size(); ++i) ++pairs[{ids[w[i]], ids[w[i + 1]]}];
    }
    std::pair<int, int> best{-1, -1};
    int most = 1;
    for (const auto& [pair, n] : pairs) {
      if (n > most) std::tie(best, most) = std::pair(pair, n);
    }
    if (most < 2) break;
    std::string left, right;
    for (const auto& [text, id] : ids) {
      if (id == best.first) left = text;
      if (id == best.second) right = text;
    }
    merges.push_back(left + " " + right);
    ids.emplace(left + right, static_cast<int>(ids.size()));
    for (auto& w : split) {
      std::vector<std::string> merged;
      for (size_t i = 0; i < w.size(); ++i) {
        const bool here = i + 1 < w.size() && w[i] == left && w[i + 1] == right;
        merged.push_back(here ? left + right : w[i]);
        i += here;
      }
      w = merged;
    }
  }
  return merges;
}

TEST(BpeTrainer, MergesAreThoseOfTheDefinition) {
  Rng rng(11);
  for (int round = 0; round < 6; ++round) {
    std::vector<std::string> words;
    std::string text;
    for (int i = 0; i < 60; ++i) {
      std::string word;
      const uint64_t size = 1 + rng.Below(9);
      for (uint64_t k = 0; k < size; ++k) word += static_cast<char>('a' + rng.Below(3));
      words.push_back(word);
      text += (i > 0 ? "\n" : "") + word;  // line breaks are words of their own
    }
    const auto want = SlowMerges(words, 40);
    const BpeTraining made =
        Train({.vocab_size = 276 + 40, .pattern = BpeTrainerOptions::Pattern::kGpt2}, {text});
    const auto got = nlohmann::json::parse(made.tokenizer_json)["model"]["merges"]
                         .get<std::vector<std::string>>();
    EXPECT_EQ(got, want);
  }
}

TEST(BpeTrainer, ClearErrors) {
  EXPECT_FALSE(BpeTrainer::Create({.vocab_size = 275}).ok());
  EXPECT_TRUE(BpeTrainer::Create({.vocab_size = 276}).ok());
  EXPECT_FALSE(BpeTrainer::Create({.special = {"<a>", "<a>"}}).ok());
  EXPECT_FALSE(BpeTrainer::Create({.special = {""}}).ok());
  auto empty = BpeTrainer::Create({});
  ASSERT_TRUE(empty.ok());
  EXPECT_FALSE(empty->Train().ok());
  // Too little text for the vocabulary: as many tokens as there are.
  const BpeTraining small = Train({.vocab_size = 5000}, {"aaaa aaaa"});
  EXPECT_LT(small.vocab_size, 300);
  EXPECT_TRUE(Tokenizer::FromJson(small.tokenizer_json).ok());
}

}  // namespace
}  // namespace hadal
