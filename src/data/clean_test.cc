#include "data/clean.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/decontaminate.h"
#include "data/dedup.h"
#include "data/testing_folder.h"
#include "data/words.h"
#include "tokenizer/unicode.h"

namespace hadal {
namespace {

using testing::Folder;

std::string Prose() {
  return ReadFile("docs/security.md").value() + ReadFile("ARCHITECTURE.md").value();
}

std::string RandomText(Rng* rng, int size) {
  static const char* const kParts[] = {
      "a",      "B",  " ",      "\n",     "\r\n", "\r",       "\t",     "e\u0301", "é",
      "\u2028", "中", "文",     "\xFF",   "\xE4", "\x00\x01", "\uFEFF", "ﬁ",       "가",
      "ᄀ",     "ᅡ", "\u0301", "\u0327", "12",   ".",        "\x7F"};
  std::string text;
  for (int i = 0; i < size; ++i) text += kParts[rng->Below(std::size(kParts))];
  return text;
}

TEST(Normalise, Examples) {
  EXPECT_EQ(Normalise("a\r\nb\rc\u2028d\u0085e"), "a\nb\nc\nd\ne");
  EXPECT_EQ(Normalise("\n \n  x  \n\n\n\n\ty \t\n\n"), "  x\n\n\ty");
  EXPECT_EQ(Normalise("cafe\u0301 \u212B \u1100\u1161"), "café Å 가");
  EXPECT_EQ(Normalise("\uFEFFa\x01\x1B[31mb\x7F\u0090c"), "a[31mbc");
  EXPECT_EQ(Normalise("x\xFFy\xE4\xB8z"), "x\uFFFDy\uFFFDz");
  EXPECT_EQ(Normalise(""), "");
  EXPECT_EQ(Normalise("\n\n \n"), "");
  const NormaliseOptions none{false, false, false, false, false};
  EXPECT_EQ(Normalise("e\u0301 \r\n\n\n\x01 ", none), "e\u0301 \r\n\n\n\x01 ");
}

TEST(Normalise, TwiceIsOnceAndValid) {
  Rng rng(5);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = RandomText(&rng, 1 + static_cast<int>(rng.Below(40)));
    const std::string once = Normalise(text);
    ASSERT_EQ(Normalise(once), once) << text;
    ASSERT_TRUE(internal::IsValidUtf8(once));
    ASSERT_EQ(once.find('\r'), std::string::npos);
    ASSERT_EQ(once.find("\n\n\n"), std::string::npos);
  }
}

TEST(TextKind, TellsFourKinds) {
  EXPECT_EQ(EstimateTextKind(Prose()), TextKind::kEnglish);
  EXPECT_EQ(EstimateTextKind("深度学习是机器学习的一个分支，它使用多层神经网络。PyTorch 很常用。"),
            TextKind::kChinese);
  for (const char* path : {"src/data/loader.cc", "src/data/clean.h", "tools/layers.py"}) {
    EXPECT_EQ(EstimateTextKind(ReadFile(path).value()), TextKind::kCode) << path;
  }
  EXPECT_EQ(EstimateTextKind("これはとてもきれいなひらがなのぶんしょうです。"), TextKind::kOther);
  EXPECT_EQ(EstimateTextKind("Je ne sais pas ce que vous voulez dire, mais c'est une belle "
                             "journée pour aller au marché avec mes amis."),
            TextKind::kOther);
  EXPECT_EQ(EstimateTextKind("Это русский текст о погоде и о людях."), TextKind::kOther);
  EXPECT_EQ(EstimateTextKind(""), TextKind::kOther);
}

Quality Judge(const std::string& text) { return JudgeQuality(text, EstimateTextKind(text)); }

std::string Repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(Quality, EachRuleDropsItsCase) {
  const std::string good = Prose();
  EXPECT_EQ(Judge(good), Quality::kKeep);
  EXPECT_EQ(Judge(" \n"), Quality::kEmpty);
  EXPECT_EQ(Judge("Too short to be of use."), Quality::kTooShort);
  QualityOptions small;
  small.max_words = 100;
  EXPECT_EQ(JudgeQuality(good, TextKind::kEnglish, small), Quality::kTooLong);
  EXPECT_EQ(Judge(good.substr(0, 900) + Repeat("\uFFFD", 20)), Quality::kBrokenText);
  EXPECT_EQ(Judge(Repeat("the of and to a in it is be on at by or so ", 4)), Quality::kWordLength);
  EXPECT_EQ(Judge(Repeat("#tag and #more of the ", 10)), Quality::kSymbols);
  std::string bullets, ellipses, lines;
  for (int i = 0; i < 30; ++i) {
    const std::string n = std::to_string(i * 7919);
    bullets += "- the point of number " + n + " with that\n";
    ellipses += "read more about the story of number " + n + " and have fun with it here...\n";
    lines += i % 2 == 0 ? "Subscribe to the newsletter of this site\n"
                        : "Sentence " + n + " is about the weather of the day\n";
  }
  EXPECT_EQ(Judge(bullets), Quality::kBulletLines);
  EXPECT_EQ(Judge(ellipses), Quality::kEllipsisLines);
  EXPECT_EQ(Judge(lines), Quality::kRepeatedLines);
  std::string numbers = "the of and to be with that have ";
  for (int i = 0; i < 60; ++i) numbers += std::to_string(i * i * 977) + " ";
  EXPECT_EQ(JudgeQuality(numbers, TextKind::kEnglish), Quality::kFewLetters);
  EXPECT_EQ(JudgeQuality(Repeat("lovely words without grammar everywhere ", 8), TextKind::kEnglish),
            Quality::kFewStopWords);
  EXPECT_EQ(Judge(Repeat("buy cheap watches of the best brand and ", 40)), Quality::kRepeatedWords);
  EXPECT_EQ(Judge("Lorem ipsum " + good), Quality::kBoilerplate);
  EXPECT_EQ(JudgeQuality("int x[] = {" + Repeat("1, ", 600) + "};", TextKind::kCode),
            Quality::kLongLines);
  EXPECT_EQ(Judge(ReadFile("src/data/loader.cc").value()), Quality::kKeep);
}

TEST(Quality, AnyBytesAreSafe) {
  Rng rng(8);
  for (int round = 0; round < 500; ++round) {
    const std::string text = RandomText(&rng, static_cast<int>(rng.Below(300)));
    for (int kind = 0; kind < kTextKinds; ++kind) {
      const auto quality = static_cast<int>(JudgeQuality(text, static_cast<TextKind>(kind)));
      ASSERT_LT(quality, kQualities);
    }
    EstimateTextKind(text);
    MinHash(text);
  }
  for (int q = 0; q < kQualities; ++q) EXPECT_FALSE(QualityName(static_cast<Quality>(q)).empty());
}

TEST(Words, FoldsCaseAndCutsIdeographs) {
  std::vector<internal::Word> a, b;
  internal::SplitWords("Hello, World! 深度 x2", &a);
  internal::SplitWords("hello world 深 度X2", &b);
  ASSERT_EQ(a.size(), 5u);
  ASSERT_EQ(b.size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(a[i].hash, b[i].hash);
  EXPECT_TRUE(a[2].ideograph);
  EXPECT_FALSE(a[4].ideograph);
}

TEST(ExactIndex, FindsEveryRepeat) {
  ExactIndex index;
  for (int i = 0; i < 5000; ++i) EXPECT_TRUE(index.Insert(HashContent(std::to_string(i))));
  for (int i = 0; i < 5000; ++i) EXPECT_FALSE(index.Insert(HashContent(std::to_string(i))));
  EXPECT_TRUE(index.Insert({}));
  EXPECT_FALSE(index.Insert({}));
  EXPECT_EQ(index.size(), 5001);
}

std::string Words(Rng* rng, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "w" + std::to_string(rng->Below(100000)) + " ";
  return text;
}

TEST(MinHash, EstimatesJaccardSimilarity) {
  Rng rng(3);
  for (const int shared : {0, 100, 200, 300, 400}) {
    const std::string common = Words(&rng, shared);
    const std::string a = common + Words(&rng, 400 - shared),
                      b = common + Words(&rng, 400 - shared);
    const double groups = std::max(shared - 4, 0);
    const double truth = shared == 400 ? 1 : groups / (2 * 396.0 - groups);
    EXPECT_NEAR(Similarity(MinHash(a), MinHash(b)), truth, 0.14) << shared;  // 3 standard errors
  }
  EXPECT_EQ(Similarity(MinHash("Same Words, here."), MinHash("same words here")), 1);
}

TEST(NearIndex, FindsNearAndKeepsFar) {
  Rng rng(4);
  NearIndex index;
  std::vector<std::string> texts;
  for (int i = 0; i < 300; ++i) {
    texts.push_back(Words(&rng, 300));
    ASSERT_FALSE(index.Insert(MinHash(texts.back())).has_value());
  }
  for (int i = 0; i < 300; i += 10) {
    const auto n = static_cast<size_t>(i);
    const auto found = index.Insert(MinHash(texts[n] + " and a few words more"));
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(*found, i);
  }
  EXPECT_EQ(index.size(), 300);
}

TEST(NearIndex, ForgetsTheOldest) {
  Rng rng(6);
  NearIndex index({.max_documents = 8});
  std::vector<Signature> all;
  for (int i = 0; i < 40; ++i) {
    all.push_back(MinHash(Words(&rng, 50)));
    ASSERT_FALSE(index.Insert(all.back()).has_value());
  }
  EXPECT_EQ(index.forgotten(), 32);
  for (int i = 32; i < 40; ++i) EXPECT_EQ(index.Insert(all[static_cast<size_t>(i)]), i);
  EXPECT_FALSE(index.Insert(all[0]).has_value());
}

TEST(Decontaminator, FindsRunsWhateverTheDressing) {
  Decontaminator d;
  const std::string item =
      "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in "
      "May.";
  d.AddItem(item, "gsm8k:1");
  d.AddItem("What is the capital of France and of Spain?", "short:1");  // 9 words: met whole
  d.AddItem("too short to count", "never");
  const std::string chinese =
      "小明有五个苹果，他给了小红两个苹果，后来妈妈又给他买了三个苹果，请问小明现在一共有多少个苹果"
      "？请写出完整的计算过程。";
  d.AddItem(chinese, "zh:1");
  EXPECT_EQ(d.items(), 3);
  const auto hit =
      d.Find("Once NATALIA sold clips to 48 of her friends -- in april; and then she ran.");
  ASSERT_TRUE(hit.has_value());
  EXPECT_EQ(hit->name, "gsm8k:1");
  EXPECT_EQ(hit->words, "NATALIA sold clips to 48 of her friends -- in april; and then she");
  EXPECT_FALSE(
      d.Find("Natalia sold clips to 48 of her friends in April, and she ran.").has_value());
  EXPECT_EQ(d.Find("Q: what is the capital of France and of Spain? A")->name, "short:1");
  EXPECT_FALSE(d.Find("what is the capital of France and of Italy?").has_value());
  EXPECT_EQ(d.Find("题目：" + chinese + "答")->name, "zh:1");
  EXPECT_FALSE(d.Find(chinese.substr(0, 60)).has_value());
  EXPECT_FALSE(d.Find("").has_value());
}

TEST(Decontaminator, ReadsFiles) {
  const Folder folder;
  const std::string rows = folder.Write("eval.jsonl",
                                        "{\"id\": 7, \"question\": {\"text\": \"how many of the "
                                        "twelve apples did the old man eat today\"}}\n\n"
                                        "{\"tests\": [\"assert that the function returns the list "
                                        "of numbers without its first element\"]}\n");
  Decontaminator d;
  ASSERT_TRUE(d.AddFile(rows).ok());
  EXPECT_EQ(d.items(), 2);
  EXPECT_EQ(d.Find("so: How many of the twelve apples did the old man eat today?")->name,
            "eval.jsonl:1");
  EXPECT_FALSE(d.AddFile(folder / "absent.jsonl").ok());
  const Status bad = d.AddFile(folder.Write("bad.jsonl", "{\"a\": 1}\n{oops\n"));
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().message.find("bad.jsonl:2"), std::string::npos);
  EXPECT_FALSE(d.AddFile(folder.Write("nothing.jsonl", "{\"a\": \"few words\"}\n")).ok());
}

}  // namespace
}  // namespace hadal
