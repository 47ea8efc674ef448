// Answers as typed values. Every parser takes any bytes, wants all of them, and gives nothing where
// they are not exactly the form it names or a value would not fit: there is no rounding anywhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace hadal::problems {

std::string_view Trim(std::string_view text);  // ASCII spaces

// [+-]digits, at most 18 of them, ASCII, no zero in front; U+2212 is a minus.
std::optional<int64_t> ParseInteger(std::string_view text);
// Integers with commas between them (U+FF0C too), at most 4096.
std::optional<std::vector<int64_t>> ParseIntegers(std::string_view text);
std::vector<std::string_view> SplitCommas(std::string_view text);

// Lowest terms, den > 0. Every operation refuses what does not fit 64 bits.
struct Rational {
  int64_t num = 0, den = 1;
  friend bool operator==(const Rational&, const Rational&) = default;
};
std::optional<Rational> Combine(const Rational& a, char op, const Rational& b);  // + - * /

// An integer, a/b with b > 0, as written: not reduced.
std::optional<Rational> ParseFraction(std::string_view text);
// An integer or a decimal, exactly: 3.50 is 7/2. At most 9 digits behind the point.
std::optional<Rational> ParseDecimal(std::string_view text);

// Integers, + - * / (and U+2212, U+00D7, U+00F7), parentheses, at most 128 bytes; no sign in front.
struct Expression {
  Rational value;
  std::vector<int64_t> literals;
};
std::optional<Expression> ParseExpression(std::string_view text);

// The words of a canonical form, read one after the other; ok() falls when one is missing or is
// not what was asked.
class Fields {
 public:
  explicit Fields(std::string_view text) : rest_(text) {}
  std::string_view Word();
  int64_t Integer(int64_t low, int64_t high);
  bool ok() const { return ok_; }
  bool AtEnd() const { return rest_.empty(); }
  void Fail() { ok_ = false; }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace hadal::problems
