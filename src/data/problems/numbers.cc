// Modular arithmetic, greatest divisors and least multiples, prime factors.
#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/steps.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

// ---- modular ----

struct ModularLevel {
  int operations;  // 1: a+b, 2: a*b+c, 3: a^e
  int64_t modulus, exponent;
};
constexpr ModularLevel kModularLevels[kLevels] = {{1, 9, 1},    {2, 10, 1},   {2, 12, 1},
                                                  {3, 15, 9},   {3, 50, 16},  {3, 97, 32},
                                                  {3, 499, 64}, {3, 997, 128}};

std::vector<Knob> ModularKnobs(int level) {
  const auto& l = kModularLevels[level - 1];
  return {{"operations", l.operations}, {"modulus", l.modulus}, {"exponent", l.exponent}};
}

int64_t WriteProductMod(Text& text, int64_t a, int64_t b, int64_t m) {
  WriteProduct(text, a, b);
  if (a * b >= m) WriteDivide(text, a * b, m);
  text.EndLine();
  return a * b % m;
}

// Squares a until the power fits, then multiplies the squares of the exponent's bits.
int64_t WritePowerMod(Text& text, int64_t a, int64_t e, int64_t m) {
  text << e << '=';
  int64_t high = 1;
  while (high * 2 <= e) high *= 2;
  for (int64_t bit = high; bit > 0; bit /= 2) {
    if ((e & bit) != 0) text << (bit == high ? "" : "+") << bit;
  }
  text.EndLine();
  std::array<int64_t, 16> squares{};
  size_t count = 0;
  for (int64_t bit = 1; bit <= high; bit *= 2, ++count) {
    text << a << '^' << bit << ": ";
    if (bit > 1) {
      squares[count] = WriteProductMod(text, squares[count - 1], squares[count - 1], m);
    } else {
      squares[count] = a;
      text << a;
    }
    text.EndLine();
  }
  int64_t done = high, result = squares[count - 1];
  for (size_t i = count - 1; i-- > 0;) {
    const int64_t bit = int64_t{1} << i;
    if ((e & bit) == 0) continue;
    done += bit;
    text << a << '^' << done << ": ";
    result = WriteProductMod(text, result, squares[i], m);
  }
  return result;
}

int64_t PowerMod(int64_t a, int64_t e, int64_t m) {
  int64_t result = 1;
  for (int64_t i = 0; i < e; ++i) result = result * a % m;
  return result;
}

void MakeModular(Draft& d) {
  const auto& l = kModularLevels[d.level - 1];
  const int64_t m = d.Pick(std::max<int64_t>(5, l.modulus / 2), l.modulus);
  Text expression;
  int64_t result = 0;
  if (l.operations == 3) {
    int64_t a = 0, e = 0;
    // Most powers that end at 0 or 1 are drawn again, or a guess would be right too often.
    do {
      a = d.Pick(2, m - 1);
      e = d.Pick(std::max<int64_t>(2, l.exponent / 4), l.exponent);
    } while (PowerMod(a, e, m) <= 1 && d.Chance(75));
    expression << a << '^' << e;
    result = WritePowerMod(d.thought, a, e, m);
  } else if (l.operations == 2) {
    const int64_t a = d.Pick(2, 12), b = d.Pick(2, 12), c = d.Pick(1, l.modulus);
    expression << a << '*' << b << '+' << c;
    d.thought << a << '*' << b << '=' << a * b;
    d.thought.EndLine();
    WriteAdd(d.thought, a * b, c);
    d.thought.EndLine();
    result = WriteDivide(d.thought, a * b + c, m).second;
  } else {
    const int64_t a = d.Pick(2, 50), b = d.Pick(2, 49);
    expression << a << '+' << b;
    WriteAdd(d.thought, a, b);
    d.thought.EndLine();
    result = WriteDivide(d.thought, a + b, m).second;
  }
  d.thought.EndLine();
  d.canonical << expression << " mod " << m;
  d.prompt << d.Say("Compute ", "计算 ") << expression << " mod " << m << d.Say(".", "。");
  d.gold << result;
}

// ---- divisors ----

struct DivisorsLevel {
  int numbers;
  int64_t largest;
  int multiples;  // also ask the least common multiple
};
constexpr DivisorsLevel kDivisorsLevels[kLevels] = {{2, 50, 0},    {2, 100, 0},   {2, 100, 1},
                                                    {3, 100, 1},   {3, 1000, 1},  {3, 10000, 1},
                                                    {4, 10000, 1}, {4, 100000, 1}};
constexpr int64_t kSmallMultiple = 999, kLargestMultiple = 1'000'000'000'000;

std::vector<Knob> DivisorsKnobs(int level) {
  const auto& l = kDivisorsLevels[level - 1];
  return {{"numbers", l.numbers}, {"largest", l.largest}, {"multiples", l.multiples}};
}

void MakeDivisors(Draft& d) {
  const auto& l = kDivisorsLevels[d.level - 1];
  std::vector<int64_t> numbers(static_cast<size_t>(l.numbers));
  const int64_t common = d.Pick(2, l.largest / 8);
  for (auto& number : numbers) number = common * d.Pick(1, l.largest / common);
  bool multiple = l.multiples && d.Chance(50);
  int64_t least = 1;
  for (const int64_t number : numbers) {
    if (least <= kLargestMultiple) least = std::lcm(least, number);
  }
  if (least > (d.level <= 4 ? kSmallMultiple : kLargestMultiple)) multiple = false;
  auto sorted = numbers;
  std::sort(sorted.begin(), sorted.end());
  d.canonical << (multiple ? "lcm" : "gcd");
  for (const int64_t number : sorted) d.canonical << ' ' << number;
  d.prompt << (multiple ? d.Say("Find the least common multiple of ", "求最小公倍数: ")
                        : d.Say("Find the greatest common divisor of ", "求最大公约数: "));
  for (size_t i = 0; i < numbers.size(); ++i) d.prompt << (i > 0 ? ", " : "") << numbers[i];
  d.prompt << d.Say(".", "。");
  int64_t running = numbers[0];
  for (size_t i = 1; i < numbers.size(); ++i) {
    const int64_t a = running, b = numbers[i];
    const int64_t divisor = WriteGcd(d.thought, a, b);
    d.thought.EndLine();
    d.thought << "gcd " << divisor;
    d.thought.EndLine();
    running = multiple && divisor == b ? a : divisor;
    if (!multiple || divisor == b) continue;
    WriteDivide(d.thought, a, divisor);
    d.thought.EndLine();
    running = WriteMultiply(d.thought, a / divisor, b);
    d.thought.EndLine();
    d.thought << "lcm " << running;
    d.thought.EndLine();
  }
  d.gold << running;
}

// ---- factor ----

struct FactorLevel {
  int64_t largest, last;  // a trace tries no divisor above `last`
};
constexpr FactorLevel kFactorLevels[kLevels] = {
    {400, 5}, {600, 7}, {800, 7}, {999, 11}, {1000, 97}, {10000, 97}, {100000, 97}, {1000000, 97}};

std::vector<Knob> FactorKnobs(int level) {
  const auto& l = kFactorLevels[level - 1];
  return {{"largest", l.largest}, {"last", l.last}};
}

bool IsPrime(int64_t n) {
  if (n < 2) return false;
  for (int64_t p = 2; p * p <= n; ++p) {
    if (n % p == 0) return false;
  }
  return true;
}

// Trial division must end: the part without factors up to `last` is small.
bool ShortTrial(int64_t n, int64_t last) {
  for (int64_t p = 2; p <= last; ++p) {
    while (n % p == 0) n /= p;
  }
  return n < (last + 1) * (last + 1);
}

// After each prime that divides, all primes so far.
void WriteTrial(Text& text, Text& gold, int64_t n) {
  for (int64_t p = 2; p * p <= n;) {
    WriteDivide(text, n, p, false);
    if (n % p == 0) {
      n /= p;
      gold << (gold.str().empty() ? "" : "*") << p;
      text << "yes " << gold;
    } else {
      text << "no";
      do ++p;
      while (!IsPrime(p));
    }
    text.EndLine();
    text << p << '*' << p << '=' << p * p << (p * p > n ? '>' : p * p < n ? '<' : '=') << n;
    text.EndLine();
  }
  gold << (gold.str().empty() ? "" : "*") << n;
  text << n << " prime " << gold;
  text.EndLine();
}

void MakeFactor(Draft& d) {
  const auto& [largest, last] = kFactorLevels[d.level - 1];
  int64_t n = 0;
  do {
    n = d.Pick(std::max<int64_t>(4, largest / 20), largest);
    if (d.Chance(50) && n * 6 <= largest) n *= 6;  // more factors than chance gives
  } while (!ShortTrial(n, last) || (IsPrime(n) && d.Chance(60)));
  d.canonical << n;
  d.prompt << d.Say("Write ", "把 ") << n
           << d.Say(" as a product of primes, like 2*2*3.", " 写成质数的乘积, 例如 2*2*3。");
  WriteTrial(d.thought, d.gold, n);
  d.thought << n << '=' << d.gold;
}

Verdict VerifyFactor(const Problem& problem, std::string_view answer) {
  const auto n = ParseInteger(problem.canonical);
  if (!n || *n < 2 || *n > 1'000'000'000'000) return Verdict::kError;
  int64_t rest = *n;
  while (true) {
    // Also with the other signs of multiplication.
    size_t at = answer.find('*'), size = 1;
    for (const std::string_view sign : {"\u00d7", "\u00b7"}) {
      const size_t other = answer.find(sign);
      if (other < at) at = other, size = sign.size();
    }
    const auto factor = ParseInteger(answer.substr(0, at));
    if (!factor || *factor < 2 || rest % *factor != 0 || !IsPrime(*factor)) return Verdict::kWrong;
    rest /= *factor;
    if (at == std::string_view::npos) break;
    answer.remove_prefix(at + size);
  }
  return rest == 1 ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace

const FamilyEntry kModularFamily = {"modular", MakeModular, VerifyInteger, ModularKnobs};
const FamilyEntry kDivisorsFamily = {"divisors", MakeDivisors, VerifyInteger, DivisorsKnobs};
const FamilyEntry kFactorFamily = {"factor", MakeFactor, VerifyFactor, FactorKnobs};

}  // namespace hadal::problems
