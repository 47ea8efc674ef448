// Functions of the answer checker: what has an exact value gets it, the rest stays an atom.
#include <algorithm>

#include "eval/internal_exact.h"

namespace hadal::eval::internal {
namespace {

Fraction Number(const Rational& value) { return {Poly::Constant(value), Poly::Constant(1)}; }
Fraction Bad() { return Number(Rational::Bad()); }

// r where the value is r * pi.
std::optional<Rational> TimesPi(const Fraction& value) {
  if (value.bad() || !(value.den.AsRational() == Rational(1))) return std::nullopt;
  if (value.num.terms.empty()) return Rational(0);
  if (value.num.terms.size() != 1) return std::nullopt;
  const auto& [monomial, factor] = *value.num.terms.begin();
  if (monomial != Monomial{{"#pi", 1}}) return std::nullopt;
  return factor;
}

bool LeadsNegative(const Fraction& value) {
  return !value.num.terms.empty() && value.num.terms.begin()->second < Rational(0);
}

Fraction Opaque(const std::string& name, const Fraction& argument) {
  const std::string text = argument.Text();
  if (argument.bad() || text.size() > 2000) return Bad();
  return {Poly::Atom(Concat({name, "(", text, ")"})), Poly::Constant(1)};
}

}  // namespace

// Multiples of pi/12 have values; others are atoms with sin^2 = 1 - cos^2.
Fraction Algebra::Sine(Fraction argument) {
  if (const auto r = TimesPi(argument)) {
    const Rational twelfths = *r * 12;
    if (twelfths.integer()) {
      int64_t k = ((twelfths.num % 24) + 24) % 24;
      const bool negative = k >= 12;
      k %= 12;
      if (k > 6) k = 12 - k;
      const Fraction two = Root(Number(2), 2), three = Root(Number(3), 2), six = Root(Number(6), 2);
      const Fraction values[7] = {Number(0),
                                  Multiply(Number(Rational::Of(1, 4)), Subtract(six, two)),
                                  Number(Rational::Of(1, 2)),
                                  Multiply(Number(Rational::Of(1, 2)), two),
                                  Multiply(Number(Rational::Of(1, 2)), three),
                                  Multiply(Number(Rational::Of(1, 4)), Add(six, two)),
                                  Number(1)};
      return Multiply(Number(negative ? -1 : 1), values[k]);
    }
  }
  const bool negative = LeadsNegative(argument);
  if (negative) argument = Multiply(Number(-1), argument);
  const Fraction cosine = Opaque("cos", argument), sine = Opaque("sin", argument);
  if (cosine.bad()) return cosine;
  relations_.try_emplace(sine.num.terms.begin()->first.begin()->first,
                         Relation{2, Add(Poly::Constant(1), Multiply(cosine.num, cosine.num), -1)});
  return Multiply(Number(negative ? -1 : 1), sine);
}

Fraction Algebra::Cosine(Fraction argument) {
  if (const auto r = TimesPi(argument); r && (*r * 12).integer()) {
    const Fraction half_pi{Multiply(Poly::Atom("#pi"), Poly::Constant(Rational::Of(1, 2))),
                           Poly::Constant(1)};
    return Sine(Add(argument, half_pi));
  }
  if (LeadsNegative(argument)) argument = Multiply(Number(-1), argument);
  return Opaque("cos", argument);
}

Fraction Algebra::Trigonometric(const std::string& name, const Fraction& argument) {
  if (name == "sin") return Sine(argument);
  if (name == "cos") return Cosine(argument);
  if (name == "tan") return Divide(Sine(argument), Cosine(argument));
  if (name == "cot") return Divide(Cosine(argument), Sine(argument));
  return Divide(Number(1), name == "sec" ? Cosine(argument) : Sine(argument));
}

// ln of a positive rational is the sum over its primes; of e^k it is k.
Fraction Algebra::Logarithm(const Fraction& argument) {
  if (const auto value = argument.AsRational()) {
    if (!(Rational(0) < *value)) return Bad();
    Fraction sum = Number(0);
    for (const auto& [part, sign] : {std::pair{value->num, 1}, std::pair{value->den, -1}}) {
      const auto factors = Factor(part);
      if (!factors) return Bad();
      for (const auto& [prime, power] : *factors) {
        const Fraction term{Poly::Atom(Concat({"ln(", std::to_string(prime), ")"})),
                            Poly::Constant(1)};
        sum = Add(sum, Multiply(Number(power * sign), term));
      }
    }
    return sum;
  }
  const auto& terms = argument.num.terms;
  if (argument.den.AsRational() == Rational(1) && terms.size() == 1 &&
      Rational(0) < terms.begin()->second) {
    // ln of a positive product of primes' roots and powers of e.
    const auto& [monomial, factor] = *terms.begin();
    Fraction sum = Logarithm(Number(factor));
    bool known = true;
    for (const auto& [name, exponent] : monomial) {
      if (name == "#e") {
        sum = Add(sum, Number(exponent));
      } else if (name[0] == '#' && name.size() > 1 && name[1] >= '0' && name[1] <= '9') {
        const Fraction term{Poly::Atom(Concat({"ln(", name.substr(1), ")"})), Poly::Constant(1)};
        sum = Add(sum, Multiply(Number(exponent), term));
      } else {
        known = false;
      }
    }
    if (known) return sum;
  }
  return Opaque("ln", argument);
}

Fraction Algebra::Call(const std::string& name, const Fraction& argument) {
  if (argument.bad()) return Bad();
  for (const char* trigonometric : {"sin", "cos", "tan", "cot", "sec", "csc"}) {
    if (name == trigonometric) return Trigonometric(name, argument);
  }
  if (name == "ln") return Logarithm(argument);
  if (name == "exp") return Power({Poly::Atom("#e"), Poly::Constant(1)}, argument);
  if (const auto value = argument.AsRational()) {
    if (name == "abs") return Number(*value < Rational(0) ? Rational(-1) * *value : *value);
    if (name == "floor") return Number(value->Floor());
    if (name == "ceil") return Number(-(Rational(-1) * *value).Floor());
    if (name == "fact") {
      if (!value->integer() || value->num < 0) return Bad();
      Rational product = 1;
      for (int64_t i = 2; i <= value->num && !product.bad(); ++i) product = product * Rational(i);
      if (!product.bad()) return Number(product);
    }
  }
  return Opaque(name, argument);
}

Fraction Algebra::Binomial(const Fraction& n, const Fraction& k) {
  const auto top = n.AsRational(), bottom = k.AsRational();
  if (!top || !bottom || !top->integer() || !bottom->integer() || bottom->num < 0 ||
      bottom->num > top->num) {
    const std::string text = Concat({"binom(", n.Text(), ";", k.Text(), ")"});
    if (n.bad() || k.bad() || text.size() > 2000) return Bad();
    return {Poly::Atom(text), Poly::Constant(1)};
  }
  Rational product = 1;
  const int64_t least = std::min(bottom->num, top->num - bottom->num);
  for (int64_t i = 1; i <= least && !product.bad(); ++i) {
    product = product * Rational::Of(top->num - least + i, i);
  }
  return Number(product);
}

}  // namespace hadal::eval::internal
