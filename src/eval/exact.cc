#include <cstdlib>

#include "eval/internal_exact.h"

namespace hadal::eval::internal {
namespace {

constexpr int64_t kMostTrials = 2'000'000;  // factors numbers below 4e12 wholly

__int128 Gcd(__int128 a, __int128 b) {
  if (a < 0) a = -a;
  if (b < 0) b = -b;
  while (b != 0) {
    const __int128 r = a % b;
    a = b;
    b = r;
  }
  return a;
}

}  // namespace

std::string Concat(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const std::string_view part : parts) text += part;
  return text;
}

Rational Rational::Of(__int128 num, __int128 den) {
  Rational result;
  result.den = 0;
  if (den == 0) return result;
  const __int128 gcd = Gcd(num, den);
  num /= gcd;
  den /= gcd;
  if (den < 0) {
    num = -num;
    den = -den;
  }
  // INT64_MIN is left out, so that a negation never overflows.
  if (num > INT64_MAX || num < -__int128{INT64_MAX} || den > INT64_MAX) return result;
  result.num = static_cast<int64_t>(num);
  result.den = static_cast<int64_t>(den);
  return result;
}

int64_t Rational::Floor() const {
  const int64_t quotient = num / den;
  return num % den < 0 ? quotient - 1 : quotient;
}

std::string Rational::Text() const {
  if (bad()) return "?";
  return den == 1 ? std::to_string(num) : Concat({std::to_string(num), "/", std::to_string(den)});
}

bool operator<(const Rational& a, const Rational& b) {
  return __int128{a.num} * b.den < __int128{b.num} * a.den;
}

Rational operator+(const Rational& a, const Rational& b) {
  if (a.bad() || b.bad()) return Rational::Bad();
  return Rational::Of(__int128{a.num} * b.den + __int128{b.num} * a.den, __int128{a.den} * b.den);
}

Rational operator-(const Rational& a, const Rational& b) { return a + Rational(-1) * b; }

Rational operator*(const Rational& a, const Rational& b) {
  if (a.bad() || b.bad()) return Rational::Bad();
  return Rational::Of(__int128{a.num} * b.num, __int128{a.den} * b.den);
}

Rational operator/(const Rational& a, const Rational& b) {
  if (a.bad() || b.bad() || b.num == 0) return Rational::Bad();
  return Rational::Of(__int128{a.num} * b.den, __int128{a.den} * b.num);
}

Rational Power(const Rational& base, int64_t exponent) {
  if (exponent == INT64_MIN) return Rational::Bad();
  if (exponent < 0) return Rational(1) / Power(base, -exponent);
  Rational result = 1, square = base;
  while (exponent > 0) {
    if (exponent & 1) result = result * square;
    exponent >>= 1;
    if (exponent > 0) square = square * square;
    if (result.bad()) return result;
  }
  return result;
}

std::optional<std::vector<std::pair<int64_t, int64_t>>> Factor(int64_t n) {
  std::vector<std::pair<int64_t, int64_t>> factors;
  for (int64_t p = 2; p <= n / p; p += p == 2 ? 1 : 2) {
    if (p > kMostTrials) return std::nullopt;
    int64_t power = 0;
    for (; n % p == 0; n /= p) ++power;
    if (power > 0) factors.emplace_back(p, power);
  }
  if (n > 1) factors.emplace_back(n, 1);
  return factors;
}

}  // namespace hadal::eval::internal
