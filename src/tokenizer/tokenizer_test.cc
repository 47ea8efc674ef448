#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "tokenizer/unicode.h"

namespace hadal {
namespace {

constexpr const char* kData = "src/tokenizer/testdata/";
const std::vector<std::string> kKinds = {"gpt2",   "llama3",      "qwen2",
                                         "smollm", "deepseek_v3", "deepseek_coder",
                                         "odd",    "llama2",      "metaspace"};

std::string ReadAll(const std::string& path) {
  auto text = ReadFile(path);
  EXPECT_TRUE(text.ok()) << path;
  return text.ok() ? *text : std::string();
}

Tokenizer Load(const std::string& kind) {
  auto made = Tokenizer::FromJson(ReadAll(std::string(kData) + "tokenizer_" + kind + ".json"));
  EXPECT_TRUE(made.ok()) << kind << ": " << made.error().message;
  return std::move(*made);
}

std::vector<std::string> Texts() {
  return nlohmann::json::parse(ReadAll(std::string(kData) + "tokenizer_texts.json"));
}

std::string Fnv(const std::vector<TokenId>& ids) {
  uint64_t h = 0xCBF29CE484222325;
  for (const TokenId id : ids) {
    for (int b = 0; b < 4; ++b)
      h = (h ^ (static_cast<uint32_t>(id) >> (8 * b) & 0xFF)) * 0x100000001B3;
  }
  char hex[20];
  std::snprintf(hex, sizeof(hex), "%016llx", static_cast<unsigned long long>(h));
  return hex;
}

std::string RandomBytes(Rng* rng, size_t most) {
  std::string text;
  for (uint64_t n = rng->Below(most); n > 0; --n) {
    text += static_cast<char>(rng->Below(3) == 0 ? rng->Below(256) : 32 + rng->Below(90));
  }
  return text;
}

TEST(Golden, IdsEqualTheReference) {
  const auto texts = Texts();
  const auto hashes = nlohmann::json::parse(ReadAll(std::string(kData) + "tokenizer_ids.json"));
  ASSERT_GE(texts.size(), 300u);
  for (const std::string& kind : kKinds) {
    const Tokenizer t = Load(kind);
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(Fnv(t.EncodeWithSpecials(texts[i])), hashes[kind][i].get<std::string>())
          << kind << ", text " << i << ": " << texts[i];
    }
  }
}

TEST(RoundTrip, AnyBytesComeBack) {
  Rng rng(5);
  for (const char* kind : {"gpt2", "llama3", "smollm", "deepseek_v3", "deepseek_coder"}) {
    const Tokenizer t = Load(kind);
    for (int i = 0; i < 400; ++i) {
      const std::string text = RandomBytes(&rng, 120);
      EXPECT_EQ(t.Decode(t.Encode(text)), text) << kind;
    }
  }
}

TEST(RoundTrip, SpecEncodesTheSame) {
  const auto texts = Texts();
  for (const char* kind : {"gpt2", "llama3", "smollm", "deepseek_v3", "deepseek_coder"}) {
    const Tokenizer t = Load(kind);
    const auto again = Tokenizer::FromSpec(t.ToSpec());
    ASSERT_TRUE(again.ok()) << kind << ": " << again.error().message;
    EXPECT_EQ(again->vocab_size(), t.vocab_size());
    for (const std::string& text : texts) {
      if (text.find("wordy") != std::string::npos || text.find("<mark>") != std::string::npos)
        continue;
      EXPECT_EQ(again->Encode(text), t.Encode(text)) << kind << ": " << text;
    }
  }
}

TEST(Prompt, OnlyControlRangesHoldSpecialTokens) {
  const Tokenizer t = Load("llama3");
  const std::string text = "<|im_end|>a<|im_end|>";
  const TokenId end = *t.Find("<|im_end|>");
  const auto count = [&](const std::vector<TokenId>& ids) {
    return std::count(ids.begin(), ids.end(), end);
  };
  EXPECT_TRUE(t.IsSpecial(end));
  EXPECT_EQ(count(t.Encode(text)), 0);
  EXPECT_EQ(t.Decode(t.Encode(text)), text);
  EXPECT_EQ(count(t.EncodePrompt(text, {})), 0);
  const std::vector<Tokenizer::Range> first = {{0, 11}}, cut = {{0, 9}, {9, 22}},
                                      all = {{0, text.size()}};
  EXPECT_EQ(count(t.EncodePrompt(text, first)), 1);
  EXPECT_EQ(count(t.EncodePrompt(text, cut)), 1);
  EXPECT_EQ(count(t.EncodePrompt(text, all)), 2);
  EXPECT_EQ(count(t.EncodeWithSpecials(text)), 2);
}

TEST(Prompt, MarkersThatFilesCallPlainAreTextToo) {
  const Tokenizer t = Load("deepseek_v3");
  for (const char* marker : {"<think>", "</think>", "<\xEF\xBD\x9CUser\xEF\xBD\x9C>"}) {
    const TokenId id = *t.Find(marker);
    const auto plain = t.Encode(std::string("x") + marker + "y");
    EXPECT_EQ(std::count(plain.begin(), plain.end(), id), 0) << marker;
    const std::vector<Tokenizer::Range> range = {{0, std::strlen(marker)}};
    EXPECT_EQ(t.EncodePrompt(marker, range), std::vector<TokenId>{id});
  }
}

TEST(Prompt, BosIsNeverDoubled) {
  const Tokenizer t = Load("llama3");
  ASSERT_TRUE(t.add_bos());
  const TokenId bos = *t.bos();
  const std::vector<Tokenizer::Range> range = {{0, 3}};
  EXPECT_EQ(t.EncodePrompt("", {}), std::vector<TokenId>{bos});
  auto ids = t.EncodePrompt("<s>hello", range);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), bos), 1);
  EXPECT_EQ(ids, t.EncodePrompt("hello", {}));
  ids = t.EncodePrompt("<s>hello", {});
  EXPECT_EQ(ids.front(), bos);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), bos), 1);
}

TEST(Stream, NeverHalfACharacterAndNothingLost) {
  Rng rng(9);
  for (const std::string& kind : kKinds) {
    const Tokenizer t = Load(kind);
    for (int round = 0; round < 200; ++round) {
      std::vector<TokenId> ids;
      if (round % 2 == 0) {
        ids = t.EncodeWithSpecials(RandomBytes(&rng, 60) + "\xF0\x9F\x98\x80\xE4\xBD\xA0");
      } else {
        for (int i = 0; i < 40; ++i) {
          ids.push_back(static_cast<TokenId>(rng.Below(static_cast<uint64_t>(t.vocab_size()) + 2)) -
                        1);
        }
      }
      for (const bool skip : {false, true}) {
        StreamDecoder decoder(t, skip);
        std::string text;
        for (const TokenId id : ids) {
          const std::string part = decoder.Push(id);
          ASSERT_TRUE(internal::IsValidUtf8(part));
          text += part;
        }
        text += decoder.Flush();
        ASSERT_EQ(text, internal::ReplaceInvalidUtf8(t.Decode(ids, skip))) << kind;
      }
    }
  }
}

// Long texts take the way with a cache, single words the way without.
TEST(Linear, LongTextsAreTheSumOfTheirWords) {
  for (const char* kind : {"gpt2", "llama3", "smollm", "deepseek_v3", "deepseek_coder"}) {
    const Tokenizer t = Load(kind);
    Rng rng(3);
    std::string text;
    std::vector<TokenId> want;
    while (text.size() < 100'000) {
      std::string word = " ";
      for (uint64_t n = 1 + rng.Below(30) / (1 + rng.Below(8)); n > 0; --n) {
        word += static_cast<char>('a' + rng.Below(3));
      }
      text += word;
      const auto ids = t.Encode(word);
      want.insert(want.end(), ids.begin(), ids.end());
    }
    EXPECT_EQ(t.Encode(text), want) << kind;
  }
}

TEST(Linear, LongRunsOfOneCharacter) {
#ifdef __SANITIZE_ADDRESS__
  constexpr size_t kLength = 50'000;
#else
  constexpr size_t kLength = 300'000;
#endif
  for (const std::string& kind : kKinds) {
    const Tokenizer t = Load(kind);
    for (const char* unit : {"a", " ", "1", "!", "\n", "\xCC\x81", "\xFF"}) {
      std::string text;
      while (text.size() < kLength) text += unit;
      const std::clock_t start = std::clock();
      const auto ids = t.Encode(text);
      const double s = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      EXPECT_GT(ids.size(), 0u);
      EXPECT_LT(s, 10.0) << kind << " on repeated " << unit;
    }
    if (HasFailure()) break;
  }
}

TEST(Golden, BytesWithoutTokens) {
  TokenizerSpec spec;
  spec.pre = "gpt-2";
  spec.tokens = {"<|endoftext|>", "a", "b", "\u00EF", "\u00BF", "\u00BD"};
  spec.types = {3, 1, 1, 1, 1, 1};
  spec.unknown = 0;
  const auto t = Tokenizer::FromSpec(spec);
  ASSERT_TRUE(t.ok()) << t.error().message;
  // A character without tokens vanishes, broken UTF-8 becomes U+FFFD.
  EXPECT_EQ(t->Encode("a\x04"
                      "b"),
            (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(t->Encode("a\xFF"
                      "b"),
            (std::vector<TokenId>{1, 3, 4, 5, 2}));
  spec.tokens[3] = "c";
  const auto bare = Tokenizer::FromSpec(spec);
  ASSERT_TRUE(bare.ok()) << bare.error().message;
  EXPECT_EQ(bare->Encode("a\xFF"
                         "b"),
            (std::vector<TokenId>{1, 2}));
}

TEST(Golden, FindKnowsEveryToken) {
  TokenizerSpec spec;
  spec.pre = "gpt-2";
  spec.tokens = {"x", "<s>", "\u0120x", "y", "<s>", "unused", "y"};
  spec.types = {1, 3, 1, 5, 1, 5, 1};
  const auto t = Tokenizer::FromSpec(spec);
  ASSERT_TRUE(t.ok()) << t.error().message;
  EXPECT_EQ(t->Find("x"), TokenId{0});
  EXPECT_EQ(t->Find("<s>"), TokenId{1});
  EXPECT_EQ(t->Find(" x"), TokenId{2});
  EXPECT_EQ(t->Find("y"), TokenId{3});
  EXPECT_EQ(t->Find("unused"), TokenId{5});
  EXPECT_FALSE(t->Find("nowhere").has_value());
  EXPECT_FALSE(t->Find("").has_value());
}

// Merges that name tokens that are not text are looked up by name, with the same result.
TEST(Golden, MergesOfOddTokens) {
  TokenizerSpec spec;
  spec.pre = "gpt-2";
  spec.tokens = {"a", "b", "ab", "abb", "ba"};
  spec.merges = {"a b", "ab b"};
  const auto plain = Tokenizer::FromSpec(spec);
  spec.types = {1, 1, 1, 1, 5};
  spec.merges.push_back("b a");
  const auto odd = Tokenizer::FromSpec(spec);
  ASSERT_TRUE(plain.ok() && odd.ok());
  EXPECT_EQ(plain->Encode("abbab"), (std::vector<TokenId>{3, 2}));
  EXPECT_EQ(odd->Encode("abbab"), (std::vector<TokenId>{3, 2}));
}

TEST(Golden, EmptyInputGivesNothing) {
  for (const std::string& kind : kKinds) {
    const Tokenizer t = Load(kind);
    EXPECT_TRUE(t.Encode("").empty());
    EXPECT_EQ(t.Decode({}), "");
    EXPECT_EQ(t.Piece(-1), "");
    EXPECT_EQ(t.Piece(1 << 30), "");
    EXPECT_FALSE(t.IsSpecial(-5));
  }
}

// --- hostile files -------------------------------------------------------------------------------

std::string ErrorOf(const std::string& json) {
  const auto made = Tokenizer::FromJson(json);
  return made.ok() ? std::string() : made.error().message;
}

std::string Model(const std::string& vocab, const std::string& merges = "[]",
                  const std::string& rest = "") {
  return R"({"model":{"type":"BPE","vocab":)" + vocab + R"(,"merges":)" + merges + "}" + rest + "}";
}

void ExpectError(const std::string& json, const std::string& part) {
  const std::string error = ErrorOf(json);
  EXPECT_NE(error.find(part), std::string::npos)
      << "got \"" << error << "\" for " << json.substr(0, 200);
}

TEST(Hostile, GiganticIdsAllocateNothing) {
  ExpectError(Model(R"({"a":2147483648})"), "has id 2147483648");
  ExpectError(Model(R"({"a":18446744073709551615})"), "has id 18446744073709551615");
  ExpectError(Model(R"({"a":4000000})"), "in a vocabulary of 1 tokens");
  ExpectError(Model(R"({"a":-1})"), "has id -1");
  ExpectError(Model(R"({"a":1.5})"), "not an integer");
  ExpectError(Model(R"({"a":0})", "[]", R"(,"added_tokens":[{"id":2147483647,"content":"x"}])"),
              "has id 2147483647");
}

TEST(Hostile, DuplicateIds) {
  ExpectError(Model(R"({"a":0,"b":0})"), "both have id 0");
  ExpectError(Model(R"({"a":0})", "[]", R"(,"added_tokens":[{"id":0,"content":"x"}])"),
              "both have id 0");
  ExpectError(Model(R"({"a":0})", "[]", R"(,"added_tokens":[{"id":1,"content":"a"}])"),
              "the vocabulary says 0");
}

TEST(Hostile, WrongTypes) {
  ExpectError("[]", "not a JSON object");
  ExpectError("{}", "\"model\" is not an object");
  ExpectError(Model("[]"), "vocab\" is not an object");
  ExpectError(Model("{}"), "empty");
  ExpectError(Model(R"({"a":"0"})"), "not an integer");
  ExpectError(Model(R"({"a":0})", "{}"), "not a list");
  ExpectError(Model(R"({"a":0})", "[1]"), "merge 0");
  ExpectError(Model(R"({"a":0})", "[]", R"(,"added_tokens":[3])"), "not an object");
  ExpectError(Model(R"({"a":0})", "[]", R"(,"pre_tokenizer":3)"), "not an object");
  ExpectError(Model(R"({"a":0})", "[]", R"(,"normalizer":{"type":7})"), "not a string");
}

TEST(Hostile, UnknownComponentsAreNamed) {
  ExpectError(Model(R"({"a":0})", "[]", R"(,"pre_tokenizer":{"type":"Quantum"})"), "Quantum");
  ExpectError(Model(R"({"a":0})", "[]", R"(,"normalizer":{"type":"Precompiled"})"), "Precompiled");
  ExpectError(Model(R"({"a":0})", "[]", R"(,"decoder":{"type":"CTC"})"), "CTC");
  ExpectError(R"({"model":{"type":"Unigram","vocab":[]}})", "Unigram");
}

TEST(Hostile, MergesOfUnknownTokens) {
  ExpectError(Model(R"({"a":0,"b":1})", R"(["a b"])"), "\"ab\", which is not in the vocabulary");
  ExpectError(Model(R"({"a":0})", R"([["a","zz"]])"), "\"zz\"");
  ExpectError(Model(R"({"a":0})", R"(["ab"])"), "not two tokens");
}

TEST(Hostile, DepthAndBrokenText) {
  ExpectError(std::string(100000, '['), "nested deeper");
  ExpectError(std::string(70, '{'), "nested deeper");
  ExpectError("{\"model\":\"\xFF\"}", "not valid JSON");
  ExpectError("{\"model\":", "not valid JSON");
  ExpectError("", "not valid JSON");
}

std::string SplitBy(const std::string& pattern) {
  nlohmann::json split = {
      {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
  return Model(R"({"a":0,"b":1,"c":2})", "[]", ",\"pre_tokenizer\":" + split.dump());
}

TEST(Hostile, BrokenExpressions) {
  for (const char* pattern :
       {"(", "[", "a{2,1}", "\\", "(?<n>a)(?<n", "\\p{Nonsense}", "[a&&b]", "(*MARK:x)"}) {
    EXPECT_NE(ErrorOf(SplitBy(pattern)), "") << pattern;
  }
  EXPECT_NE(ErrorOf(SplitBy(std::string(1 << 20, 'a'))), "");
}

TEST(Hostile, RunawayExpressionsEnd) {
  for (const char* pattern :
       {"(a*)*b", "(a|aa)+$", "(?:a+)+c", "\\s*\\s*\\s*x", "(.*)*\\1z", "a*a*a*a*c"}) {
    const auto made = Tokenizer::FromJson(SplitBy(pattern));
    ASSERT_TRUE(made.ok()) << made.error().message;
    const std::clock_t start = std::clock();
    (void)made->Encode(std::string(20'000, 'a') + std::string(20'000, ' '));
    const double s = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    EXPECT_LT(s, 15.0) << pattern;
  }
}

TEST(Hostile, SpecsThatContradictThemselves) {
  TokenizerSpec spec;
  EXPECT_FALSE(Tokenizer::FromSpec(spec).ok());
  spec.tokens = {"a", "b"};
  spec.pre = "gpt-2";
  EXPECT_TRUE(Tokenizer::FromSpec(spec).ok());
  auto bad = spec;
  bad.types = {1};
  EXPECT_FALSE(Tokenizer::FromSpec(bad).ok());
  bad = spec;
  bad.types = {1, 99};
  EXPECT_FALSE(Tokenizer::FromSpec(bad).ok());
  bad = spec;
  bad.bos = 2;
  EXPECT_FALSE(Tokenizer::FromSpec(bad).ok());
  bad = spec;
  bad.pre = "nobody-knows";
  EXPECT_FALSE(Tokenizer::FromSpec(bad).ok());
  bad = spec;
  bad.merges = {"ab"};
  EXPECT_FALSE(Tokenizer::FromSpec(bad).ok());
  bad = spec;
  bad.model = TokenizerSpec::Model::kSpm;
  EXPECT_FALSE(Tokenizer::FromSpec(bad).ok());
  bad.scores = {0.0f, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_FALSE(Tokenizer::FromSpec(bad).ok());
}

// Driven by tools/golden/compare_tokenizer.py: texts with their sizes on standard input, ids with
// their counts on standard error.
TEST(Stdin, EncodesForTheComparison) {
  const char* path = std::getenv("HADAL_ENCODE_JSON");
  if (path == nullptr) GTEST_SKIP() << "only for tools/golden/compare_tokenizer.py";
  const auto made = Tokenizer::FromJson(ReadAll(path));
  ASSERT_TRUE(made.ok()) << made.error().message;
  const std::string in((std::istreambuf_iterator<char>(std::cin)), {});
  for (size_t at = 0; at + 4 <= in.size();) {
    uint32_t n;
    std::memcpy(&n, in.data() + at, 4);
    const auto ids = made->EncodeWithSpecials(std::string_view(in).substr(at + 4, n));
    at += 4 + n;
    n = static_cast<uint32_t>(ids.size());
    std::fwrite(&n, 4, 1, stderr);
    std::fwrite(ids.data(), 4, ids.size(), stderr);
  }
}

}  // namespace
}  // namespace hadal
