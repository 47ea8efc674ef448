// Exact arithmetic for the answer checker: rationals, and fractions of polynomials over atoms.
//
// Soundness is what matters here: two expressions whose difference reduces to zero are equal, for
// every value of their symbols where both are defined. What cannot be decided (an overflow, an
// expression too large) is `bad` and equal to nothing.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hadal::eval::internal {

std::string Concat(std::initializer_list<std::string_view> parts);

// num / den in lowest terms, den > 0; den == 0: bad (overflow or division by zero), which spreads.
struct Rational {
  int64_t num = 0, den = 1;
  Rational() = default;
  Rational(int64_t value) : num(value) {}  // NOLINT: implicit
  static Rational Of(__int128 num, __int128 den);
  static Rational Bad() { return Of(0, 0); }

  bool bad() const { return den == 0; }
  bool zero() const { return num == 0 && den != 0; }
  bool integer() const { return den == 1; }
  int64_t Floor() const;
  std::string Text() const;
  friend bool operator==(const Rational& a, const Rational& b) {
    return a.num == b.num && a.den == b.den;
  }
  friend bool operator<(const Rational& a, const Rational& b);
};
Rational operator+(const Rational& a, const Rational& b);
Rational operator-(const Rational& a, const Rational& b);
Rational operator*(const Rational& a, const Rational& b);
Rational operator/(const Rational& a, const Rational& b);
Rational Power(const Rational& base, int64_t exponent);
// Prime factors with their powers, n >= 1; nullopt where trial division would take too long.
std::optional<std::vector<std::pair<int64_t, int64_t>>> Factor(int64_t n);

// Atom to exponent, none of them zero. Atoms are names: "x"; "#2", "#3", ... primes, exponents in
// (0, 1), so that products of roots of integers have one form (distinct ones are independent over
// the rationals); "#i", exponent 1; "#pi", "#e"; "sin(...)", "rt2(...)", ... around the text of
// their argument.
using Monomial = std::map<std::string, Rational>;

struct Poly {
  std::map<Monomial, Rational> terms;  // no zero coefficient
  bool bad = false;

  static Poly Constant(const Rational& value);
  static Poly Atom(const std::string& name, const Rational& exponent = 1);
  bool zero() const { return !bad && terms.empty(); }
  // The value when it is a rational number.
  std::optional<Rational> AsRational() const;
  std::string Text() const;
};

bool operator==(const Poly& a, const Poly& b);

struct Fraction {
  Poly num, den = Poly::Constant(1);
  bool bad() const { return num.bad || den.bad; }
  std::optional<Rational> AsRational() const;
  std::string Text() const;
};

// The operations. Relations of the atoms met so far (sin^2 = 1 - cos^2, rt2(a)^2 = a) are kept in
// it, so what is compared must come from the same Algebra.
class Algebra {
 public:
  Fraction Add(const Fraction& a, const Fraction& b);
  Fraction Subtract(const Fraction& a, const Fraction& b);
  Fraction Multiply(const Fraction& a, const Fraction& b);
  Fraction Divide(const Fraction& a, const Fraction& b);
  Fraction Power(const Fraction& base, const Fraction& exponent);
  Fraction Root(const Fraction& value, int64_t order);  // the real root of a negative, order odd
  // sin cos tan cot sec csc ln abs floor ceil fact, or an unknown function of one argument.
  Fraction Call(const std::string& name, const Fraction& argument);
  Fraction Binomial(const Fraction& n, const Fraction& k);
  bool Zero(const Poly& poly);
  bool Equal(const Fraction& a, const Fraction& b);
  // a == c b for one rational c other than 0.
  bool Proportional(const Fraction& a, const Fraction& b);

 private:
  struct Relation {
    int64_t order = 2;
    Poly value;  // atom^order
  };
  Poly Add(const Poly& a, const Poly& b, const Rational& factor);
  Poly Multiply(const Poly& a, const Poly& b);
  void AddTerm(Poly& sum, Monomial monomial, Rational factor, int depth);
  Poly IntegerPower(const Poly& base, int64_t exponent);
  Fraction IntegerPower(const Fraction& base, int64_t exponent);
  Fraction RationalPower(const Fraction& base, const Rational& exponent, bool real);
  Fraction SymbolicPower(const Fraction& base, const Fraction& exponent);
  Fraction Simplified(Fraction value);
  std::optional<Fraction> Denested(const Poly& base);
  Fraction OpaqueRoot(const Poly& base, const Rational& exponent);
  Fraction Trigonometric(const std::string& name, const Fraction& argument);
  Fraction Sine(Fraction argument);
  Fraction Cosine(Fraction argument);
  Fraction Logarithm(const Fraction& argument);

  std::map<std::string, Relation> relations_;
};

}  // namespace hadal::eval::internal
