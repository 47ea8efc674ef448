#include "tokenizer/thought_splitter.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/rng.h"
#include "tokenizer/unicode.h"

namespace hadal {
namespace {

using Part = ThoughtSplitter::Part;

// A byte-level vocabulary of the 256 bytes and a few words; with_tags: single tokens for the tags.
Tokenizer MakeTokenizer(bool with_tags) {
  TokenizerSpec spec;
  spec.pre = "gpt-2";
  for (int b = 0; b < 256; ++b) {
    std::string name;
    internal::AppendUtf8(internal::ByteToStandIn(static_cast<uint8_t>(b)), &name);
    spec.tokens.push_back(name);
    spec.types.push_back(1);
  }
  for (const char* word : {"</", ">Ċ", "ĊĊ", ".</", "thi"}) {
    spec.tokens.emplace_back(word);
    spec.types.push_back(1);
  }
  spec.tokens.emplace_back("<|im_start|>");
  spec.types.push_back(3);
  if (with_tags) {
    for (const char* tag : {"<think>", "</think>"}) {
      spec.tokens.emplace_back(tag);
      spec.types.push_back(4);
    }
  }
  auto made = Tokenizer::FromSpec(spec);
  EXPECT_TRUE(made.ok()) << made.error().message;
  return std::move(*made);
}

struct Split {
  std::string thought, answer;
  int64_t tokens = 0;
  bool operator==(const Split&) const = default;
};

Split SplitAll(const Tokenizer& tokenizer, const std::vector<TokenId>& prompt,
               const std::vector<TokenId>& ids) {
  ThoughtSplitter splitter(tokenizer, ThoughtSplitter::FindTags(tokenizer), prompt);
  Split split;
  const auto take = [&](const std::vector<ThoughtSplitter::Piece>& pieces) {
    EXPECT_LE(pieces.size(), 2u);
    for (const auto& piece : pieces) {
      EXPECT_FALSE(piece.text.empty());
      EXPECT_TRUE(internal::IsValidUtf8(piece.text));
      (piece.part == Part::kThought ? split.thought : split.answer) += piece.text;
    }
  };
  for (const TokenId id : ids) take(splitter.Push(id));
  take(splitter.Finish());
  split.tokens = splitter.thought_tokens();
  return split;
}

std::vector<TokenId> Ids(const Tokenizer& t, const std::string& text) {
  return t.EncodeWithSpecials(text);
}

class BothKinds : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Tags, BothKinds, testing::Bool());

TEST_P(BothKinds, OpensAtTheStartAndClosesOnce) {
  const Tokenizer t = MakeTokenizer(GetParam());
  const auto ids = Ids(t, "<think>\n\nso it is\n\n</think>\n\nYes <think>no</think> more\n");
  const Split s = SplitAll(t, {}, ids);
  EXPECT_EQ(s.thought, "so it is");
  EXPECT_EQ(s.answer, "Yes <think>no</think> more\n");
}

TEST_P(BothKinds, StartsThinkingAfterAPromptThatOpenedTheThought) {
  const Tokenizer t = MakeTokenizer(GetParam());
  const auto prompt = Ids(t, "<|im_start|>user hi<|im_start|>assistant\n<think>\n");
  const Split s = SplitAll(t, prompt, Ids(t, "why\n</think>\n\nbecause"));
  EXPECT_EQ(s.thought, "why");
  EXPECT_EQ(s.answer, "because");
}

TEST_P(BothKinds, ClosedThoughtsOfThePromptLeaveTheAnswerPlain) {
  const Tokenizer t = MakeTokenizer(GetParam());
  const auto prompt = Ids(t, "<|im_start|>assistant\n<think>\n\n</think>\n\n");
  ThoughtSplitter splitter(t, ThoughtSplitter::FindTags(t), prompt);
  EXPECT_FALSE(splitter.thinking());
  EXPECT_EQ(SplitAll(t, prompt, Ids(t, "plain")), (Split{"", "plain", 0}));
}

TEST_P(BothKinds, UnfinishedThoughtsAndTagsAreGivenBack) {
  const Tokenizer t = MakeTokenizer(GetParam());
  const Split s = SplitAll(t, Ids(t, "<think>"), Ids(t, "never ends\n\n</thin"));
  EXPECT_EQ(s.thought, "never ends\n\n</thin");
  EXPECT_EQ(s.answer, "");
  EXPECT_EQ(SplitAll(t, {}, Ids(t, "\n<thin")).answer, "\n<thin");
}

TEST_P(BothKinds, EmptyThoughtIsNothing) {
  const Tokenizer t = MakeTokenizer(GetParam());
  EXPECT_EQ(SplitAll(t, {}, Ids(t, "<think>\n\n</think>\n\nx")),
            (Split{"", "x", GetParam() ? 2 : 2}));
}

TEST(ThoughtSplitter, UserTextCannotOpenAThought) {
  const Tokenizer t = MakeTokenizer(false);
  const auto prompt = Ids(t, "<|im_start|>user what is <think>?<|im_start|>assistant\n");
  ThoughtSplitter splitter(t, ThoughtSplitter::FindTags(t), prompt);
  EXPECT_FALSE(splitter.thinking());
}

TEST(ThoughtSplitter, TextTagsAreFoundHoweverTheyAreCut) {
  const Tokenizer t = MakeTokenizer(false);
  // The same text as other tokens: ".</" "thi" "n" "k" ">\n".
  std::vector<TokenId> ids = Ids(t, "<think>a");
  for (const char* token : {".</", "thi", "n", "k", ">\n", "b"}) ids.push_back(*t.Find(token));
  EXPECT_EQ(SplitAll(t, {}, ids).thought, "a.");
  EXPECT_EQ(SplitAll(t, {}, ids).answer, "b");
}

TEST(ThoughtSplitter, CountsTheIdsOfTheThoughtOnly) {
  const Tokenizer t = MakeTokenizer(true);
  EXPECT_EQ(SplitAll(t, {}, Ids(t, "<think>abc</think>defg")).tokens, 3);
  const Tokenizer plain = MakeTokenizer(false);
  EXPECT_EQ(SplitAll(plain, {}, Ids(plain, "<think>abc</think>defg")).tokens, 3);
}

TEST(ThoughtSplitter, WithoutTagsEverythingIsTheAnswer) {
  const Tokenizer t = MakeTokenizer(true);
  ThoughtSplitter splitter(t, std::nullopt, Ids(t, "<think>"));
  EXPECT_FALSE(splitter.thinking());
  const auto pieces = splitter.Push(*t.Find("a"));
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].part, Part::kAnswer);
}

// A plain statement of the contract: split the whole text at once.
Split Reference(const std::string& text) {
  const auto trim_left = [](std::string s) {
    return s.erase(0, std::min(s.find_first_not_of("\r\n"), s.size()));
  };
  const auto trim_right = [](std::string s) { return s.erase(s.find_last_not_of("\r\n") + 1); };
  const std::string body = trim_left(text);
  if (!body.starts_with("<think>")) return {"", text, 0};
  const std::string inside = trim_left(body.substr(7));
  const size_t close = inside.find("</think>");
  if (close == std::string::npos) return {inside, "", 0};
  return {trim_right(inside.substr(0, close)), trim_left(inside.substr(close + 8)), 0};
}

TEST_P(BothKinds, RandomStreamsEqualTheSplitOfTheWholeText) {
  const Tokenizer t = MakeTokenizer(GetParam());
  const std::vector<std::string> words = {
      "<think>", "</think>", "\n",      "\r\n", "<", "</",          "thi",
      "x",       "\xC3\xA9", "</think", ">",    " ", "\xE4\xBD\xA0"};
  Rng rng(7);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    const uint64_t n = rng.Below(24);
    if (rng.Below(2) == 0) text = "<think>";
    for (uint64_t i = 0; i < n; ++i) text += words[rng.Below(words.size())];
    const auto ids = Ids(t, text);
    // With single tokens, a tag made of other tokens is text: give only texts where both agree.
    if (GetParam()) {
      std::string glued;
      for (const TokenId id : ids) {
        const bool tag = id == *t.Find("<think>") || id == *t.Find("</think>");
        glued += tag ? "\x01" : std::string(t.Piece(id));
      }
      if (glued.find("think>") != std::string::npos) continue;
    }
    Split got = SplitAll(t, {}, ids);
    got.tokens = 0;
    EXPECT_EQ(got, Reference(text)) << text;
  }
}

TEST_P(BothKinds, RandomIdsNeverLoseText) {
  const Tokenizer t = MakeTokenizer(GetParam());
  Rng rng(11);
  for (int round = 0; round < 300; ++round) {
    std::vector<TokenId> ids;
    for (uint64_t i = rng.Below(200); i > 0; --i) {
      ids.push_back(static_cast<TokenId>(rng.Below(static_cast<uint64_t>(t.vocab_size()) + 3)));
    }
    ids.insert(ids.begin(), *t.Find("x"));  // so no thought opens
    const Split s = SplitAll(t, {}, ids);
    EXPECT_EQ(s.answer, internal::ReplaceInvalidUtf8(t.Decode(ids, /*skip_special=*/true)));
    EXPECT_EQ(s.thought, "");
  }
}

TEST_P(BothKinds, AMillionIdsAreFast) {
  const Tokenizer t = MakeTokenizer(GetParam());
  std::vector<TokenId> ids = Ids(t, "<think>");
  const TokenId less = *t.Find("<"), line = *t.Find("\n");
  for (int i = 0; i < 500'000; ++i) {
    ids.push_back(less);
    ids.push_back(line);
  }
  const auto start = std::chrono::steady_clock::now();
  const Split s = SplitAll(t, {}, ids);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_EQ(s.thought.size(), 1'000'000u);
  EXPECT_LT(seconds, 10.0);
}

}  // namespace
}  // namespace hadal
