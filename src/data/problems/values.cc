#include "data/problems/values.h"

#include <limits>
#include <numeric>

namespace hadal::problems {
namespace {

constexpr size_t kMaxDigits = 18;  // 10^18 - 1 fits 64 bits
constexpr size_t kMaxList = 4096;
constexpr size_t kMaxExpression = 128;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Takes `token` from the front of text.
bool Eat(std::string_view& text, std::string_view token) {
  if (!text.starts_with(token)) return false;
  text.remove_prefix(token.size());
  return true;
}

// Digits from the front of text, as written.
std::optional<int64_t> EatDigits(std::string_view& text, bool zeros_in_front) {
  size_t size = 0;
  while (size < text.size() && IsDigit(text[size])) ++size;
  if (size == 0 || size > kMaxDigits) return std::nullopt;
  if (!zeros_in_front && size > 1 && text[0] == '0') return std::nullopt;
  int64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value * 10 + (text[i] - '0');
  text.remove_prefix(size);
  return value;
}

// Takes a sign and says whether it was a minus.
bool EatSign(std::string_view& text) {
  if (Eat(text, "-") || Eat(text, "\u2212")) return true;
  Eat(text, "+");
  return false;
}

std::optional<Rational> Reduced(__int128 num, __int128 den) {
  if (den == 0) return std::nullopt;
  if (den < 0) num = -num, den = -den;
  __int128 a = num < 0 ? -num : num, b = den;
  while (b != 0) {
    const __int128 r = a % b;
    a = b;
    b = r;
  }
  num /= a;
  den /= a;
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  if (num > kMax || num < -kMax || den > kMax) return std::nullopt;
  return Rational{static_cast<int64_t>(num), static_cast<int64_t>(den)};
}

class ExpressionParser {
 public:
  explicit ExpressionParser(std::string_view text) : rest_(text) {}

  std::optional<Expression> All() {
    const auto value = Sum();
    if (!value || !Skip().empty()) return std::nullopt;
    return Expression{*value, std::move(literals_)};
  }

 private:
  std::string_view& Skip() {
    while (!rest_.empty() && rest_[0] == ' ') rest_.remove_prefix(1);
    return rest_;
  }

  char Operator(std::string_view plus, std::string_view other, char first, char second) {
    Skip();
    if (rest_.starts_with(first)) return rest_.remove_prefix(1), first;
    if (rest_.starts_with(second)) return rest_.remove_prefix(1), second;
    if (!plus.empty() && Eat(rest_, plus)) return first;
    if (Eat(rest_, other)) return second;
    return 0;
  }

  std::optional<Rational> Sum() {
    auto value = Product();
    while (value) {
      const char op = Operator("", "\u2212", '+', '-');
      if (op == 0) break;
      const auto right = Product();
      if (!right) return std::nullopt;
      value = Combine(*value, op, *right);
    }
    return value;
  }

  std::optional<Rational> Product() {
    auto value = Factor();
    while (value) {
      const char op = Operator("\u00d7", "\u00f7", '*', '/');
      if (op == 0) break;
      const auto right = Factor();
      if (!right) return std::nullopt;
      value = Combine(*value, op, *right);
    }
    return value;
  }

  std::optional<Rational> Factor() {
    if (Eat(Skip(), "(")) {
      const auto value = Sum();
      if (!value || !Eat(Skip(), ")")) return std::nullopt;
      return value;
    }
    const auto literal = EatDigits(rest_, false);
    if (!literal) return std::nullopt;
    literals_.push_back(*literal);
    return Rational{*literal, 1};
  }

  std::string_view rest_;
  std::vector<int64_t> literals_;
};

}  // namespace

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::optional<int64_t> ParseInteger(std::string_view text) {
  text = Trim(text);
  const bool negative = EatSign(text);
  const auto value = EatDigits(text, false);
  if (!value || !text.empty()) return std::nullopt;
  return negative ? -*value : *value;
}

std::vector<std::string_view> SplitCommas(std::string_view text) {
  std::vector<std::string_view> parts;
  constexpr std::string_view kWide = "\uff0c";
  for (;;) {
    const size_t narrow = text.find(','), wide = text.find(kWide);
    const size_t at = narrow < wide ? narrow : wide;
    parts.push_back(Trim(text.substr(0, at)));
    if (at == std::string_view::npos || parts.size() > kMaxList) return parts;
    text.remove_prefix(at + (narrow < wide ? 1 : kWide.size()));
  }
}

std::optional<std::vector<int64_t>> ParseIntegers(std::string_view text) {
  const auto parts = SplitCommas(text);
  if (parts.size() > kMaxList) return std::nullopt;
  std::vector<int64_t> values;
  values.reserve(parts.size());
  for (const auto part : parts) {
    const auto value = ParseInteger(part);
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  return values;
}

std::optional<Rational> Combine(const Rational& a, char op, const Rational& b) {
  const __int128 an = a.num, ad = a.den, bn = b.num, bd = b.den;
  switch (op) {
    // Each product is below 2^126, so their sum is below 2^127.
    case '+':
      return Reduced(an * bd + bn * ad, ad * bd);
    case '-':
      return Reduced(an * bd - bn * ad, ad * bd);
    case '*':
      return Reduced(an * bn, ad * bd);
    case '/':
      return Reduced(an * bd, ad * bn);
    default:
      return std::nullopt;
  }
}

std::optional<Rational> ParseFraction(std::string_view text) {
  const size_t slash = text.find('/');
  const auto num = ParseInteger(text.substr(0, slash));
  if (!num) return std::nullopt;
  if (slash == std::string_view::npos) return Rational{*num, 1};
  const auto den = ParseInteger(text.substr(slash + 1));
  if (!den || *den <= 0) return std::nullopt;
  return Rational{*num, *den};
}

std::optional<Rational> ParseDecimal(std::string_view text) {
  text = Trim(text);
  const bool negative = EatSign(text);
  const auto whole = EatDigits(text, false);
  if (!whole) return std::nullopt;
  int64_t num = *whole, den = 1;
  if (Eat(text, ".")) {
    if (text.empty() || text.size() > 9 || *whole > 999'999'999) return std::nullopt;
    for (size_t i = 0; i < text.size(); ++i) den *= 10;
    const auto part = EatDigits(text, true);
    if (!part) return std::nullopt;
    num = *whole * den + *part;
  }
  if (!text.empty()) return std::nullopt;
  return Reduced(negative ? -num : num, den);
}

std::optional<Expression> ParseExpression(std::string_view text) {
  text = Trim(text);
  if (text.size() > kMaxExpression) return std::nullopt;
  return ExpressionParser(text).All();
}

std::string_view Fields::Word() {
  if (rest_.empty()) ok_ = false;
  const size_t space = rest_.find(' ');
  const std::string_view word = rest_.substr(0, space);
  rest_.remove_prefix(space == std::string_view::npos ? rest_.size() : space + 1);
  return word;
}

int64_t Fields::Integer(int64_t low, int64_t high) {
  const auto value = ParseInteger(Word());
  if (value && *value >= low && *value <= high) return *value;
  ok_ = false;
  return low;
}

}  // namespace hadal::problems
