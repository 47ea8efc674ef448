// Fractions in lowest terms; numbers in other bases and bit by bit.
#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/steps.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

// ---- fraction ----

struct FractionLevel {
  int terms;
  int64_t size;
  int products;  // multiplication among the operations
};
constexpr FractionLevel kFractionLevels[kLevels] = {{1, 10, 0},  {2, 10, 0},  {2, 12, 1},
                                                    {2, 15, 1},  {3, 20, 1},  {3, 50, 1},
                                                    {4, 100, 1}, {4, 1000, 1}};

std::vector<Knob> FractionKnobs(int level) {
  const auto& l = kFractionLevels[level - 1];
  return {{"terms", l.terms}, {"size", l.size}, {"products", l.products}};
}

void WriteFraction(Text& text, const Rational& value) {
  text << value.num;
  if (value.den != 1) text << '/' << value.den;
}

// num/den to lowest terms.
Rational WriteReduced(Text& text, int64_t num, int64_t den) {
  text << num << '/' << den;
  text.EndLine();
  const int64_t divisor = WriteGcd(text, num, den);
  text.EndLine();
  text << "gcd " << divisor;
  text.EndLine();
  if (divisor > 1) {
    WriteDivide(text, num, divisor);
    WriteDivide(text, den, divisor);
    text.EndLine();
  }
  const Rational value{num / divisor, den / divisor};
  text << num << '/' << den << '=';
  WriteFraction(text, value);
  text.EndLine();
  return value;
}

Rational WriteOperation(Text& text, const Rational& a, char op, const Rational& b) {
  WriteFraction(text, a);
  text << op << b.num << '/' << b.den;
  text.EndLine();
  int64_t num = 0;
  if (op == '*') {
    num = WriteProduct(text, a.num, b.num);
    text.EndLine();
  } else {
    const int64_t left = WriteProduct(text, a.num, b.den);
    text.EndLine();
    const int64_t right = WriteProduct(text, b.num, a.den);
    text.EndLine();
    num = op == '+' ? WriteAdd(text, left, right) : WriteSubtract(text, left, right);
    text.EndLine();
  }
  const int64_t den = WriteProduct(text, a.den, b.den);
  text.EndLine();
  return WriteReduced(text, num, den);
}

// Two numbers without a common divisor, not both 1.
Rational PickLowest(Draft& d, int64_t size) {
  for (;;) {
    const Rational value{d.Pick(1, size), d.Pick(2, size)};
    if (std::gcd(value.num, value.den) == 1) return value;
  }
}

void MakeFraction(Draft& d) {
  const auto& l = kFractionLevels[d.level - 1];
  Text expression;
  Rational running;
  if (l.terms == 1) {
    const Rational value = PickLowest(d, l.size);
    const int64_t common = d.Pick(2, 9);
    expression << value.num * common << '/' << value.den * common;
    running = WriteReduced(d.thought, value.num * common, value.den * common);
  } else {
    running = PickLowest(d, l.size);
    WriteFraction(expression, running);
    for (int i = 1; i < l.terms; ++i) {
      const Rational term = PickLowest(d, l.size);
      char op = "+-*"[d.Pick(0, l.products ? 2 : 1)];
      // The operations stand in one row without precedence trouble: each has its parentheses.
      if (op == '-' && static_cast<__int128>(running.num) * term.den <=
                           static_cast<__int128>(term.num) * running.den) {
        op = '+';
      }
      if (i > 1) {
        Text wrapped;
        wrapped << '(' << expression << ')';
        std::swap(expression, wrapped);
      }
      expression << ' ' << op << ' ' << term.num << '/' << term.den;
      running = WriteOperation(d.thought, running, op, term);
    }
  }
  d.canonical << expression;
  d.prompt << d.Say("Compute ", "计算 ") << expression
           << d.Say(" in lowest terms.", ", 写成最简分数。");
  WriteFraction(d.gold, running);
}

Verdict VerifyFraction(const Problem& problem, std::string_view answer) {
  const auto gold = ParseFraction(problem.gold);
  if (!gold) return Verdict::kError;
  const auto value = ParseFraction(answer);
  return value && *value == *gold ? Verdict::kRight : Verdict::kWrong;
}

// ---- base ----

struct BaseLevel {
  int kinds;  // 1: to a base, 2: and from it, 3: and counting ones, 4: and bit operations
  int operations;
  int64_t base, value;
};
constexpr BaseLevel kBaseLevels[kLevels] = {
    {1, 0, 4, 99},    {2, 0, 6, 150},    {3, 0, 8, 200},     {4, 1, 9, 255},
    {4, 2, 16, 1000}, {4, 3, 24, 10000}, {4, 3, 36, 100000}, {4, 4, 36, 1000000}};
constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

std::vector<Knob> BaseKnobs(int level) {
  const auto& l = kBaseLevels[level - 1];
  return {{"kinds", l.kinds}, {"operations", l.operations}, {"base", l.base}, {"value", l.value}};
}

std::string InBase(int64_t value, int64_t base) {
  std::string digits;
  do {
    digits += kDigits[static_cast<size_t>(value % base)];
    value /= base;
  } while (value > 0);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

// Repeated division; after each the digits so far, which come last to first.
void WriteToBase(Text& text, int64_t value, int64_t base) {
  std::string digits;
  for (int64_t rest = value; rest > 0; rest /= base) {
    const int64_t digit = rest % base;
    WriteDivide(text, rest, base);
    if (digit >= 10) text << digit << " is " << kDigits[static_cast<size_t>(digit)] << ' ';
    digits.insert(digits.begin(), kDigits[static_cast<size_t>(digit)]);
    text << digits;
    text.EndLine();
  }
}

void WriteFromBase(Draft& d, const std::string& digits, int64_t base) {
  Text& text = d.thought;
  int64_t value = 0;
  for (size_t i = 0; i < digits.size(); ++i) {
    const auto digit = static_cast<int64_t>(kDigits.find(digits[i]));
    if (digit >= 10) text << digits[i] << " is " << digit << ' ';
    if (i == 0) {
      text << digit;
      value = digit;
    } else if (d.level <= 4) {
      text << value << '*' << base << '=' << value * base << ' ' << value * base << '+' << digit
           << '=' << value * base + digit;
      value = value * base + digit;
    } else {
      const int64_t product = WriteMultiply(text, value, base);
      text.EndLine();
      value = WriteAdd(text, product, digit);
    }
    text.EndLine();
  }
}

void MakeConversion(Draft& d, int64_t base, int64_t value, bool to) {
  const std::string digits = InBase(value, base);
  d.canonical << (to ? "to " : "from ") << base << ' ' << value;
  if (to) {
    d.prompt << d.Say("Write ", "把 ") << value << d.Say(" in base ", " 写成 ") << base
             << d.Say(".", " 进制。");
    WriteToBase(d.thought, value, base);
    d.gold << digits;
  } else {
    d.prompt << d.Say("Write the base ", "把 ") << base << d.Say(" number ", " 进制数 ") << digits
             << d.Say(" in base 10.", " 写成 10 进制。");
    WriteFromBase(d, digits, base);
    d.gold << value;
  }
}

void MakeOnes(Draft& d, int64_t value) {
  d.canonical << "ones " << value;
  d.prompt << d.Say("How many ones has ", "") << value
           << d.Say(" in base 2?", " 写成 2 进制有几个 1?");
  WriteToBase(d.thought, value, 2);
  int ones = 0;
  for (const char digit : InBase(value, 2)) {
    ones += digit == '1';
    d.thought << digit << ':' << ones << ' ';
  }
  d.thought.EndLine();
  d.gold << ones;
}

void MakeBits(Draft& d, int operations, int64_t largest) {
  const auto width = InBase(largest, 2).size();
  const auto padded = [width](int64_t value) {
    const std::string digits = InBase(value, 2);
    return std::string(width - digits.size(), '0') + digits;
  };
  int64_t running = d.Pick(1, largest);
  std::string bits = padded(running);
  Text expression;
  expression << bits;
  for (int i = 0; i < operations; ++i) {
    const int64_t other = d.Pick(1, largest);
    const auto op = static_cast<size_t>(d.Pick(0, 2));
    const std::string right = padded(other);
    constexpr std::array<std::string_view, 3> kNames = {" AND ", " OR ", " XOR "};
    if (i > 0) {
      Text wrapped;
      wrapped << '(' << expression << ')';
      std::swap(expression, wrapped);
    }
    expression << kNames[op] << right;
    running = op == 0 ? running & other : op == 1 ? running | other : running ^ other;
    const std::string result = padded(running);
    for (size_t k = 0; k < width; ++k) {
      d.thought << bits[k] << "&|^"[op] << right[k] << '=' << result[k] << ' ';
    }
    d.thought.EndLine();
    d.thought << result;
    d.thought.EndLine();
    bits = result;
  }
  d.canonical << "bits " << expression;
  d.prompt << d.Say("Compute ", "计算 ") << expression
           << d.Say(" in base 2, without leading zeros.", ", 写成 2 进制, 前面不带 0。");
  d.gold << InBase(running, 2);
}

void MakeBase(Draft& d) {
  const auto& l = kBaseLevels[d.level - 1];
  const int64_t base = d.Pick(2, l.base);
  const int64_t value = d.Pick(std::max<int64_t>(10, l.value / 20), l.value);
  switch (d.Pick(1, l.kinds)) {
    case 1:
      return MakeConversion(d, base, value, true);
    case 2:
      return MakeConversion(d, base, value, false);
    case 3:
      return MakeOnes(d, value);
    default:
      return MakeBits(d, l.operations, l.value);
  }
}

Verdict VerifyBase(const Problem& problem, std::string_view answer) {
  if (problem.gold.empty()) return Verdict::kError;
  answer = Trim(answer);
  const auto same = [](char a, char b) { return a >= 'a' && a <= 'z' ? a - 32 == b : a == b; };
  return std::equal(answer.begin(), answer.end(), problem.gold.begin(), problem.gold.end(), same)
             ? Verdict::kRight
             : Verdict::kWrong;
}

}  // namespace

const FamilyEntry kFractionFamily = {"fraction", MakeFraction, VerifyFraction, FractionKnobs};
const FamilyEntry kBaseFamily = {"base", MakeBase, VerifyBase, BaseKnobs};

}  // namespace hadal::problems
