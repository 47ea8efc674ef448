// The table of gold, answer, verdict; properties; hostile text.
#include "eval/answer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <set>

#include "base/rng.h"
#include "eval/internal_exact.h"
#include "eval/rows.h"
#include "eval/task.h"

namespace hadal::eval {
namespace {

struct Triple {
  std::string gold, answer, verdict;
};

std::vector<Triple> Table() {
  std::ifstream in("src/eval/testdata/answers.tsv");
  std::vector<Triple> rows;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t first = line.find('\t'), last = line.rfind('\t');
    rows.push_back(
        {line.substr(0, first), line.substr(first + 1, last - first - 1), line.substr(last + 1)});
  }
  return rows;
}

TEST(Answer, TheTableHolds) {
  const auto table = Table();
  ASSERT_GE(table.size(), 500u);
  int right = 0;
  for (const Triple& t : table) {
    const AnswerCheck check = CheckAnswer(t.gold, t.answer);
    EXPECT_EQ(VerdictName(check.verdict), t.verdict)
        << t.gold << " | " << t.answer << ": " << check.reason;
    right += t.verdict == "right" ? 1 : 0;
  }
  EXPECT_GT(right, 200);
}

TEST(Answer, EveryGoldEqualsItselfAndItsBox) {
  for (const Triple& t : Table()) {
    EXPECT_EQ(CheckAnswer(t.gold, t.gold).verdict, Verdict::kRight) << t.gold;
    EXPECT_EQ(CheckAnswer(t.gold, "$\\boxed{" + t.gold + "}$.").verdict, Verdict::kRight) << t.gold;
  }
}

TEST(Answer, RightAnswersShareTheirKeyWhereItIsExact) {
  EXPECT_EQ(CheckAnswer("1", "3/6").key, CheckAnswer("1", "0.5").key);
  EXPECT_EQ(CheckAnswer("1", "\\sqrt{8}").key, CheckAnswer("1", "2\\sqrt2").key);
  EXPECT_EQ(CheckAnswer("1", "x+1").key, CheckAnswer("1", "1 + x").key);
  EXPECT_NE(CheckAnswer("1", "2").key, CheckAnswer("1", "3").key);
}

// No two different golds of MATH-500 are equal, but for layout, units and labels.
TEST(Answer, Math500) {
  const auto rows = ReadRows("../shared/data/math500/test.jsonl");
  if (!rows.ok()) GTEST_SKIP() << rows.error().message;
  std::set<std::string> golds;
  for (const Row& row : *rows) golds.insert(*row.Get("answer"));
  int equal = 0;
  for (const std::string& a : golds) {
    EXPECT_EQ(CheckAnswer(a, a).verdict, Verdict::kRight) << a;
    for (const std::string& b : golds) {
      if (!(a < b)) continue;
      const AnswerCheck check = CheckAnswer(a, b);
      EXPECT_NE(check.verdict, Verdict::kError) << a << ": " << check.reason;
      equal += check.verdict == Verdict::kRight ? 1 : 0;
    }
  }
  EXPECT_EQ(equal, 11);  // "120" and "120^\circ", "5" and "x=5", "1,-2" and "-2,1", ...
}

TEST(Answer, AnyBytesGetAVerdictSoon) {
  const std::string alphabet = "0123456789+-*/^_=<>()[]{}|,.;:!&%$\\ xyzeiabfn\n\xc3\xa9\xff\t";
  const std::vector<std::string> words = {"\\frac",
                                          "\\sqrt",
                                          "\\left(",
                                          "\\right)",
                                          "\\text{",
                                          "\\begin{pmatrix}",
                                          "\\end{pmatrix}",
                                          "\\pm",
                                          "\\cup",
                                          "\\infty",
                                          "\\sin",
                                          "\\log_",
                                          "\\pi",
                                          "^{\\circ}",
                                          "\\\\",
                                          "\\in",
                                          "\\le",
                                          "or ",
                                          "π",
                                          "½",
                                          "\\boxed{"};
  Rng rng(5);
  for (int i = 0; i < 4000; ++i) {
    std::string text;
    for (uint64_t n = 1 + rng.Below(30); n > 0; --n) {
      text += rng.Below(3) == 0 ? words[rng.Below(words.size())]
                                : std::string(1, alphabet[rng.Below(alphabet.size())]);
    }
    const AnswerCheck check = CheckAnswer("17", text);
    // 17 is spelt with its digits, or it is arithmetic.
    if (check.verdict == Verdict::kRight) {
      EXPECT_NE(text.find_first_of("123456789"), std::string::npos) << text;
    }
    CheckAnswer(text, "17");
    const bool blank = text.find_first_not_of(" \t\n") == std::string::npos;
    if (!blank) {
      EXPECT_NE(CheckAnswer(text, text).verdict, Verdict::kWrong) << text;
    }
  }
}

TEST(Answer, CostlyTextsEndSoon) {
  const auto start = std::chrono::steady_clock::now();
  const auto repeat = [](const std::string& s, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += s;
    return out;
  };
  for (const std::string& text :
       std::vector<std::string>{repeat("(", 1900),
                                repeat("{", 1900),
                                repeat("\\frac", 350),
                                repeat("\\sqrt", 350),
                                repeat("\\sqrt{", 300) + "2" + repeat("}", 300),
                                repeat("-", 1900),
                                repeat("\\sin ", 350),
                                "(a+b+c+d+e+f+g+h)^{64}",
                                "(a+b)^{64}(c+d)^{64}(f+g)^{64}",
                                "((a+b+c)^{60}+d)^{60}",
                                repeat("(a+b+c+d)", 200),
                                repeat("x^", 600) + "2",
                                repeat("2^", 600) + "2",
                                std::string("9223372036854775783!"),
                                std::string("\\sqrt{9223372036854775783}"),
                                std::string("\\binom{9223372036854775807}{4611686018427387903}"),
                                repeat("1,", 900) + "1",
                                repeat("[", 900) + repeat("]", 900),
                                repeat("(1,", 500) + "1" + repeat(")", 500),
                                repeat("\\sqrt{1+", 200) + "2" + repeat("}", 200),
                                "\\sin" + repeat("(\\sin", 300) + "(x" + repeat(")", 301),
                                std::string(1 << 20, '1')}) {
    EXPECT_NE(CheckAnswer("17", text).verdict, Verdict::kRight) << text.substr(0, 60);
    CheckAnswer(text, "17");
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_LT(seconds, 20) << "of a busy machine with sanitizers; 0.5 s else";
}

TEST(Exact, FractionsOverflowIntoBadAndStayThere) {
  using internal::Rational;
  const Rational big = INT64_MAX;
  EXPECT_TRUE((big + 1).bad());
  EXPECT_TRUE((big * 2).bad());
  EXPECT_TRUE((Rational(1) / 0).bad());
  EXPECT_TRUE((big + 1 - big).bad());
  EXPECT_EQ(big * 2 / 2, Rational::Bad());
  EXPECT_EQ(Rational::Of(6, -4), Rational::Of(-3, 2));
  EXPECT_EQ(Rational::Of(-7, 2).Floor(), -4);
  EXPECT_TRUE(internal::Power(10, 19).bad());
  EXPECT_EQ(internal::Power(Rational::Of(2, 3), -2), Rational::Of(9, 4));
}

}  // namespace
}  // namespace hadal::eval
