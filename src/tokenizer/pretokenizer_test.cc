// The hand-written scanners against the regular expressions that they stand for.
#include "tokenizer/pretokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "tokenizer/unicode.h"

namespace hadal::internal {
namespace {

constexpr int kTexts = 5000;
const char* const kNames[] = {"gpt-2",       "llama-bpe",    "qwen2",          "smollm",
                              "deepseek-v3", "deepseek-llm", "deepseek-coder", "default"};

// Characters on both sides of what the patterns tell apart.
constexpr std::string_view kParts[] = {
    "'s",          "'LL",          "'re",    "'t",       "'\u017F", "\r\n",         "\n\n",
    "\n",          "\r",           "\t",     "  ",       "   ",     " \n",          " \n ",
    "\x0B",        "\x1C",         "\x01",   "\x7F",     "12",      "1234",         "\u0663",
    "\u2167",      "\u2460",       "\u00BD", "\u3007",   "\u4E00",  "\u9FA5\u4E2D", "\u9FA6",
    "\u3042",      "\u30FB",       "\u309B", "\u3099",   "\u30FC",  "\u3040",       "\u30FF",
    "\u3000",      "\u2003",       "\u00A0", "\u0085",   "\u1680",  "\u2028",       "\u200B",
    "\u200D",      "\uFEFF",       "\u00E9", "e\u0301",  "\u01C5",  "\u02B0",       "\u0416",
    "\u05D0",      "\u0939\u094D", "\u0E01", "\uAC00",   "\uFF01",  "\uFF21",       "\uFF11",
    "\u2018",      "\u201D",       "\u2014", "\u20AC",   "\u00D7",  "\U0001F600",   "\uFFFD",
    "\U0001D400",  "\U000E0001",   "\xC3",   "\xE4\xBD", "\xFF",    "\x80",         "\xF0\x9F",
    "\xED\xA0\x80"};

// Blocks whose classes all versions of Unicode in use agree on.
constexpr std::pair<char32_t, char32_t> kBlocks[] = {
    {0x20, 0x7E},     {0xA0, 0x24F},    {0x384, 0x4FF},   {0x900, 0x94D},
    {0x2000, 0x206F}, {0x2150, 0x2188}, {0x2460, 0x24FF}, {0x3000, 0x30FF},
    {0x4E00, 0x9FA5}, {0xAC00, 0xD7A3}, {0xFF01, 0xFF5E}, {0x1F600, 0x1F640}};

std::string RandomText(Rng* rng) {
  constexpr std::string_view kAscii = "aabzAZ  01 9.,!$+<_-'\"()\n";
  std::string text;
  for (uint64_t n = 1 + rng->Below(24); n > 0; --n) {
    const uint64_t kind = rng->Below(8);
    if (kind < 5) {
      text += kAscii[rng->Below(kAscii.size())];
    } else if (kind < 7) {
      text += kParts[rng->Below(std::size(kParts))];
    } else {
      const auto [first, last] = kBlocks[rng->Below(std::size(kBlocks))];
      AppendUtf8(first + static_cast<char32_t>(rng->Below(last - first + 1)), &text);
    }
  }
  return text;
}

using Views = std::vector<std::string_view>;

Views Isolate(const Regex& regex, std::string_view text) {
  Views out;
  size_t at = 0;
  for (const auto& [begin, end] : regex.FindAll(text)) {
    if (begin > at) out.push_back(text.substr(at, begin - at));
    if (end > begin) out.push_back(text.substr(begin, end - begin));
    at = end;
  }
  if (at < text.size()) out.push_back(text.substr(at));
  return out;
}

Views ByExpressions(const std::vector<Regex>& steps, std::string_view text) {
  Views pieces = {text};
  for (const Regex& step : steps) {
    Views next;
    for (const std::string_view piece : pieces) {
      const Views parts = Isolate(step, piece);
      next.insert(next.end(), parts.begin(), parts.end());
    }
    pieces = std::move(next);
  }
  return pieces;
}

class Splits : public testing::TestWithParam<const char*> {};

TEST_P(Splits, EqualTheirExpressions) {
  const auto pre = PreTokenizer::FromName(GetParam());
  ASSERT_TRUE(pre.ok());
  std::vector<Regex> steps;
  for (const std::string& pattern : pre->patterns()) {
    auto regex = Regex::Compile(pattern);
    ASSERT_TRUE(regex.ok()) << regex.error().message;
    steps.push_back(std::move(*regex));
  }
  Rng rng(11);
  for (int i = 0; i < kTexts && !HasFailure(); ++i) {
    const std::string text = RandomText(&rng);
    Pieces fast, stepwise;
    pre->Split(text, true, &fast);
    pre->SplitInSteps(text, true, &stepwise);
    const Views want = ByExpressions(steps, text);
    EXPECT_EQ(fast.list, want) << i << ": " << text;
    EXPECT_EQ(stepwise.list, want) << i << ": " << text;
  }
}

// Longer texts against the steps, which the test above holds to the expressions.
TEST_P(Splits, WholeSequencesEqualTheirSteps) {
  const auto pre = PreTokenizer::FromName(GetParam());
  ASSERT_TRUE(pre.ok());
  Rng rng(12);
  for (int i = 0; i < 300 && !HasFailure(); ++i) {
    std::string text;
    for (uint64_t n = rng.Below(60); n > 0; --n) text += RandomText(&rng) + "word ";
    Pieces fast, stepwise;
    pre->Split(text, true, &fast);
    pre->SplitInSteps(text, true, &stepwise);
    EXPECT_EQ(fast.list, stepwise.list) << i << ": " << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Known, Splits, testing::ValuesIn(kNames), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

TEST(Patterns, ScannersEqualTheirExpressions) {
  for (const Scanner scanner : {Scanner::kGpt2, Scanner::kLlama3, Scanner::kQwen2,
                                Scanner::kDeepSeekV3, Scanner::kTrailingSpace}) {
    const auto regex = Regex::Compile(ScannerPattern(scanner));
    ASSERT_TRUE(regex.ok()) << regex.error().message;
    Rng rng(13);
    for (int i = 0; i < kTexts && !HasFailure(); ++i) {
      const std::string text = RandomText(&rng);
      Views got;
      Scan(scanner, text, &got);
      EXPECT_EQ(got, Isolate(*regex, text))
          << static_cast<int>(scanner) << ", " << i << ": " << text;
    }
  }
}

TEST(Patterns, RunsEqualTheirExpressions) {
  for (const char* pattern :
       {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", " ?\\p{M}+", "\\p{N}{1,3}", "\\p{N}", "[^a-z\\s]+",
        "[\\p{P}\\$\\+<=>\\^~\\|]+", "\\d+", "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"}) {
    const auto run = ParseRunPattern(pattern);
    ASSERT_TRUE(run.has_value()) << pattern;
    const auto regex = Regex::Compile(pattern);
    ASSERT_TRUE(regex.ok()) << regex.error().message;
    Rng rng(14);
    for (int i = 0; i < kTexts && !HasFailure(); ++i) {
      const std::string text = RandomText(&rng);
      EXPECT_EQ(FindRuns(*run, text), regex->FindAll(text)) << pattern << ", " << i << ": " << text;
    }
  }
}

}  // namespace
}  // namespace hadal::internal
