#include "data/problems.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/hash.h"
#include "base/rng.h"
#include "data/problems/oracle_for_test.h"
#include "data/problems/values.h"

namespace hadal {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kItems = 100;
#else
constexpr int kItems = 1000;
#endif
constexpr uint64_t kSeed = 2024;
// The most common answer of a level is right less often than this, so constant answers gain little.
constexpr double kGuessBaseline = 0.25;

int ItemsOf(Family family, int level) {
  return family == Family::kPuzzle && level > 4 ? kItems / 20 : kItems;
}

template <typename Function>
void ForEveryLevel(Function function) {
  for (int f = 0; f < kFamilies; ++f) {
    for (int level = 1; level <= kLevels; ++level) {
      SCOPED_TRACE(std::string(FamilyName(static_cast<Family>(f))) + " level " +
                   std::to_string(level));
      function(static_cast<Family>(f), level);
      if (testing::Test::HasFailure()) return;
    }
  }
}

// An upper guess at tokens of a small vocabulary: digits, signs, spaces before them and line ends
// are one each, four letters are one.
int RoughTokens(std::string_view text) {
  int tokens = 0, letters = 0;
  const auto is_letter = [](char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; };
  for (size_t i = 0; i < text.size(); ++i) {
    if (is_letter(text[i])) {
      tokens += letters++ % 4 == 0;
      continue;
    }
    letters = 0;
    const bool joins = text[i] == ' ' && i + 1 < text.size() && is_letter(text[i + 1]);
    const bool continues = (text[i] & 0xC0) == 0x80;  // of a UTF-8 sequence
    tokens += !joins && !continues;
  }
  return tokens;
}

int WordCount(std::string_view text) {
  return static_cast<int>(std::count(text.begin(), text.end(), ' ') +
                          std::count(text.begin(), text.end(), '\n')) +
         1;
}

void ExpectRightItem(const Problem& p) {
  ASSERT_EQ(Verify(p, p.gold), Verdict::kRight) << p.canonical << " gold " << p.gold;
  ASSERT_EQ(Grade(p, p.thought + "</think>\n" + p.answer), Verdict::kRight) << p.answer;
  ASSERT_TRUE(p.thought.ends_with(p.gold)) << p.thought;
  ASSERT_EQ(p.thought.find("think>"), std::string::npos);
  ASSERT_EQ(p.thought.find("boxed"), std::string::npos);
}

TEST(Problems, EveryItemIsRight) {
  std::map<Family, int> steps;
  ForEveryLevel([&](Family family, int level) {
    std::map<std::string, int> golds;
    const int items = ItemsOf(family, level);
    for (int i = 0; i < items; ++i) {
      const auto index = static_cast<uint64_t>(i);
      const Problem p = MakeProblem(kSeed, index, family, level, Language::kEnglish);
      const Problem q = MakeProblem(kSeed, index, family, level, Language::kChinese);
      ASSERT_NO_FATAL_FAILURE(ExpectRightItem(p));
      ASSERT_NO_FATAL_FAILURE(ExpectRightItem(q));
      ASSERT_EQ(p.canonical, q.canonical);
      ASSERT_EQ(p.thought, q.thought);
      ASSERT_NE(p.prompt, q.prompt);
      ASSERT_TRUE(OracleAgrees(p)) << p.prompt << "\n" << p.gold;
      const StepCheck check = CheckSteps(p.thought);
      ASSERT_EQ(check.wrong, "") << p.thought;
      steps[family] += check.checked;
      ++golds[p.gold];
      if (level <= 4) {
        ASSERT_LE(WordCount(p.thought), 150) << p.thought;
        ASSERT_LE(RoughTokens(DocumentText(p)), 470) << DocumentText(p);
        ASSERT_LE(RoughTokens(DocumentText(q)), 470) << DocumentText(q);
      }
    }
    int most = 0;
    for (const auto& [gold, count] : golds) most = std::max(most, count);
    EXPECT_LT(most, kGuessBaseline * items + 3);
  });
  // The families of arithmetic really had steps to check.
  for (const Family family : {Family::kChain, Family::kMixed, Family::kMultiply, Family::kModular,
                              Family::kDivisors, Family::kFactor, Family::kFraction, Family::kBase,
                              Family::kEquation, Family::kCountdown, Family::kLogic}) {
    EXPECT_GT(steps[family], 10 * kItems) << FamilyName(family);
  }
}

TEST(Problems, LevelsGetHarder) {
  for (int f = 0; f < kFamilies; ++f) {
    for (int level = 2; level <= kLevels; ++level) {
      const auto before = KnobsOf(static_cast<Family>(f), level - 1);
      const auto now = KnobsOf(static_cast<Family>(f), level);
      ASSERT_EQ(before.size(), now.size());
      bool harder = false;
      for (size_t i = 0; i < now.size(); ++i) {
        EXPECT_EQ(before[i].name, now[i].name);
        EXPECT_LE(before[i].value, now[i].value) << FamilyName(static_cast<Family>(f)) << level;
        harder |= before[i].value < now[i].value;
      }
      EXPECT_TRUE(harder) << FamilyName(static_cast<Family>(f)) << " level " << level;
    }
  }
}

TEST(Problems, SameBytesEverywhere) {
  Sha256 hash;
  ForEveryLevel([&](Family family, int level) {
    for (uint64_t i = 0; i < 10; ++i) {
      for (const Language language : {Language::kEnglish, Language::kChinese}) {
        const Problem p = MakeProblem(1, i, family, level, language);
        const std::string text = DocumentText(p) + p.canonical;
        hash.Update(text.data(), text.size());
      }
    }
  });
  EXPECT_EQ(hash.Hex(), "71723e99e88ee1423630c5dee041a7368d06c5bf5c44cb05b90cb67e8e33a6ab");
}

std::string Replaced(std::string text, char from, std::string_view to) {
  const size_t at = text.find(from);
  return at == std::string::npos ? text + "x" : text.replace(at, 1, to);
}

// Answers that no problem has, made from the right one.
std::vector<std::string> WrongAnswers(const Problem& p) {
  std::vector<std::string> wrong = {"",
                                    " ",
                                    "abc",
                                    "1e309",
                                    "nan",
                                    "inf",
                                    "1/0",
                                    "0x1F",
                                    "99999999999999999999",
                                    "-99999999999999999999",
                                    "1/99999999999999999999",
                                    std::string(400, '9'),
                                    std::string(200, '('),
                                    std::string(9000, '1'),
                                    "{" + p.gold + "}",
                                    p.gold + "x",
                                    p.gold + "1",
                                    p.gold + " " + p.gold,
                                    p.gold + ",",
                                    "= " + p.gold,
                                    "answer " + p.gold};
  // Jugs may be filled otherwise, or once more, and still hold what is asked.
  if (p.family != Family::kPuzzle) wrong.push_back(p.gold + ", " + p.gold);
  for (const char c : p.gold) {
    if (c < '0' || c > '9') continue;
    // The digit in full width, the same digit in Arabic script.
    const std::string wide = {'\xEF', '\xBC', static_cast<char>('\x90' + (c - '0'))};
    const std::string arabic = {'\xD9', static_cast<char>('\xA0' + (c - '0'))};
    wrong.push_back(Replaced(p.gold, c, wide));
    wrong.push_back(Replaced(p.gold, c, arabic));
    if (p.family != Family::kPuzzle) {
      wrong.push_back(
          Replaced(p.gold, c, std::string(1, c == '9' ? '8' : static_cast<char>(c + 1))));
    }
    break;
  }
  return wrong;
}

TEST(Problems, WrongAnswersAreRefused) {
  ForEveryLevel([&](Family family, int level) {
    for (uint64_t i = 0; i < static_cast<uint64_t>(ItemsOf(family, level)) / 4; ++i) {
      const Problem p = MakeProblem(kSeed + 1, i, family, level, Language::kEnglish);
      for (const auto& answer : WrongAnswers(p)) {
        ASSERT_EQ(Verify(p, answer), Verdict::kWrong)
            << p.prompt << " | " << p.gold << " | " << answer;
      }
    }
  });
}

TEST(Problems, OtherRightAnswersAreAccepted) {
  const auto judge = [](Family family, std::string canonical, std::string gold,
                        std::string_view answer) {
    Problem p;
    p.family = family;
    p.canonical = std::move(canonical);
    p.gold = std::move(gold);
    return Verify(p, answer);
  };
  const auto right = Verdict::kRight, wrong = Verdict::kWrong;
  EXPECT_EQ(judge(Family::kFactor, "12", "2*2*3", "3 * 2 \u00d7 2"), right);
  EXPECT_EQ(judge(Family::kFactor, "12", "2*2*3", "4*3"), wrong);
  EXPECT_EQ(judge(Family::kFactor, "12", "2*2*3", "1*2*2*3"), wrong);
  EXPECT_EQ(judge(Family::kEquation, "roots 2 1 -5 6", "2, 3", "x = 3, x=2"), right);
  EXPECT_EQ(judge(Family::kEquation, "roots 2 1 -5 6", "2, 3", "2"), wrong);
  EXPECT_EQ(judge(Family::kEquation, "roots 2 1 -5 6", "2, 3", "2, 2"), wrong);
  EXPECT_EQ(judge(Family::kCountdown, "24 3 5 8", "", "(8\u22125)\u00d7(8)"), wrong);
  EXPECT_EQ(judge(Family::kCountdown, "9 3 3 3 3", "", "3/(3/3)*3"), right);
  EXPECT_EQ(judge(Family::kCountdown, "24 3 3 8 8", "", "8 \u00f7 (3 \u2212 8/3)"), right);
  EXPECT_EQ(judge(Family::kCountdown, "24 3 3 8 8", "", "8/(3-8/3)+0"), wrong);
  EXPECT_EQ(judge(Family::kCountdown, "24 3 8", "", "3**8"), wrong);
  EXPECT_EQ(judge(Family::kFraction, "", "1/2", "2/4"), wrong);
  EXPECT_EQ(judge(Family::kFraction, "", "3", "3/1"), right);
  EXPECT_EQ(judge(Family::kBase, "", "1AF", "1af"), right);
  EXPECT_EQ(judge(Family::kBase, "", "1AF", "01AF"), wrong);
  EXPECT_EQ(judge(Family::kSort, "up 0 1.5 2.25", "", "1.50,2.250"), right);
  EXPECT_EQ(judge(Family::kSort, "up 0 1.5 2.25", "", "1.5, 2.2500001"), wrong);
  EXPECT_EQ(judge(Family::kGrid, "2 2 0 3 0000", "RD", "DR"), right);
  EXPECT_EQ(judge(Family::kGrid, "2 2 0 3 0000", "RD", "RLRD"), wrong);
  EXPECT_EQ(judge(Family::kGrid, "2 2 0 3 0110", "", "impossible"), right);
  EXPECT_EQ(judge(Family::kPuzzle, "jugs 35 00 3", "F1", "F2, P21"), right);
  EXPECT_EQ(judge(Family::kPuzzle, "hanoi 11 33", "", "12, 13, 23"), right);
  EXPECT_EQ(judge(Family::kPuzzle, "hanoi 11 33", "", "13, 13"), wrong);
  EXPECT_EQ(judge(Family::kChain, "", "1234", "+1234"), right);
  EXPECT_EQ(judge(Family::kChain, "", "1234", "1,234"), wrong);
}

TEST(Problems, DamagedProblemsAreErrors) {
  Rng rng(5);
  ForEveryLevel([&](Family family, int level) {
    Problem p = MakeProblem(3, 0, family, level, Language::kEnglish);
    for (int i = 0; i < 50; ++i) {
      std::string bytes(rng.Below(40), '\0');
      for (char& c : bytes) c = static_cast<char>(rng.Below(256));
      EXPECT_EQ(Verify(p, bytes), Verdict::kWrong);
      Problem damaged = p;
      if (!damaged.canonical.empty()) {
        damaged.canonical[rng.Below(p.canonical.size())] = static_cast<char>(rng.Below(256));
      }
      Verify(damaged, p.gold);  // any verdict, but no crash
      damaged.canonical = bytes;
      Verify(damaged, p.gold);
    }
    p.canonical.clear();
    p.gold.clear();
    EXPECT_EQ(Verify(p, "1"), Verdict::kError);
    EXPECT_EQ(Grade(p, "no box"), Verdict::kError);
    p.family = static_cast<Family>(200);
    EXPECT_EQ(Verify(p, "1"), Verdict::kError);
  });
}

TEST(Problems, SplitsShareNoInstance) {
  for (const Family family : {Family::kMultiply, Family::kCountdown, Family::kGrid}) {
    std::map<Split, std::set<std::string>> seen;
    for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
      for (const Language language : {Language::kEnglish, Language::kChinese}) {
        for (int level = 1; level <= 3; ++level) {
          ProblemStream stream(
              {kSeed + static_cast<uint64_t>(split), family, level, language, split});
          for (int i = 0; i < 100; ++i) seen[split].insert(stream.Next().canonical);
        }
      }
    }
    for (const auto& canonical : seen[Split::kTest]) {
      EXPECT_FALSE(seen[Split::kTrain].contains(canonical)) << canonical;
      EXPECT_FALSE(seen[Split::kValidation].contains(canonical)) << canonical;
    }
    for (const auto& canonical : seen[Split::kValidation]) {
      EXPECT_FALSE(seen[Split::kTrain].contains(canonical)) << canonical;
    }
  }
  std::map<Split, int> parts;
  for (int i = 0; i < 20000; ++i) ++parts[SplitOf(std::to_string(i))];
  EXPECT_NEAR(parts[Split::kTrain], 16000, 300);
  EXPECT_NEAR(parts[Split::kTest], 2000, 200);
}

TEST(Problems, StreamsGoOnFromTheirIndex) {
  const ProblemStreamOptions options{9, Family::kSort, 3, Language::kChinese, Split::kTest};
  ProblemStream whole(options);
  for (int i = 0; i < 20; ++i) whole.Next();
  ProblemStream rest(options, whole.index());
  for (int i = 0; i < 20; ++i) {
    const Problem a = whole.Next(), b = rest.Next();
    EXPECT_EQ(DocumentText(a), DocumentText(b));
    EXPECT_EQ(SplitOf(a.canonical), Split::kTest);
  }
}

TEST(Problems, NamesGoThereAndBack) {
  EXPECT_EQ(FamilyNames().size(), static_cast<size_t>(kFamilies));
  for (const auto& name : FamilyNames()) {
    ASSERT_TRUE(FamilyFromName(name).has_value());
    EXPECT_EQ(FamilyName(*FamilyFromName(name)), name);
  }
  EXPECT_FALSE(FamilyFromName("chains").has_value());
}

TEST(Problems, TheLastBoxAfterTheThoughtCounts) {
  const auto answer = [](std::string_view text) {
    const Extraction e = ExtractAnswer(text);
    return e.found ? e.answer : "none";
  };
  EXPECT_EQ(answer("a \\boxed{1} b \\boxed{ 2 } c"), "2");
  EXPECT_EQ(answer("\\boxed{1}</think> \\boxed{2}"), "2");
  EXPECT_EQ(answer("\\boxed{1}</think> nothing"), "none");
  EXPECT_EQ(answer("</think>\\boxed{1}</think>"), "none");
  EXPECT_EQ(answer("<think>\\boxed{1}"), "none");
  EXPECT_EQ(answer("</think><think>\\boxed{1}"), "none");
  EXPECT_EQ(answer("\\boxed{1} \\boxed{2"), "1");
  EXPECT_EQ(answer("\\boxed{\\frac{1}{2}}"), "\\frac{1}{2}");
  EXPECT_EQ(answer("boxed{1} \\boxed 2"), "none");
  EXPECT_EQ(answer("\\boxed{" + std::string(9000, '1') + "}"), "none");
  EXPECT_EQ(ExtractAnswer("x</think>\\boxed{1}\\boxed{22}").trace,
            "box 2 of 2 at byte 18 in the text after </think>");
  EXPECT_EQ(ExtractAnswer("\\boxed{").trace,
            "no \\boxed{...} in the text without a thought, 1 without an end");
}

TEST(Problems, ConversationIsOneJsonLine) {
  const Problem p = MakeProblem(1, 1, Family::kGrid, 1, Language::kEnglish);
  const std::string line = ConversationJson(p);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_NE(line.find("\\\\boxed{" + p.gold + "}"), std::string::npos);
  EXPECT_TRUE(line.starts_with("{\"messages\":[{\"role\":\"user\",\"content\":\"Grid, 0"));
}

TEST(Values, ExpressionsAreExactOrNothing) {
  using problems::ParseExpression;
  const auto value = [](std::string_view text) {
    const auto e = ParseExpression(text);
    return e ? std::to_string(e->value.num) + "/" + std::to_string(e->value.den) : "none";
  };
  EXPECT_EQ(value("1/3+1/6"), "1/2");
  EXPECT_EQ(value("8-3-2"), "3/1");
  EXPECT_EQ(value("8/(3-8/3)"), "24/1");
  EXPECT_EQ(value("999999999999999999*9"), "8999999999999999991/1");
  EXPECT_EQ(value("999999999999999999*10"), "none");
  EXPECT_EQ(value("1/999999999999999999/999999999999999999"), "none");
  for (const char* text :
       {"1/0", "1/(2-2)", "2**3", "7//2", "-1", "+1", "1-", "(1", "1)", "()", "03", "1.5", "1e3",
        "2(3)", "\uff11", "1 2", "9999999999999999999", "0x1"}) {
    EXPECT_EQ(value(text), "none") << text;
  }
  EXPECT_EQ(value(std::string(63, '(') + "1" + std::string(63, ')')), "1/1");
  EXPECT_EQ(value(std::string(129, '1')), "none");
  EXPECT_EQ(value(std::string(128, '(')), "none");
}

}  // namespace
}  // namespace hadal
