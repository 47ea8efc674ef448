// Polynomials over atoms, and fractions of them: sums, products, powers.
#include <algorithm>
#include <cstdlib>

#include "eval/internal_exact.h"

namespace hadal::eval::internal {
namespace {

constexpr size_t kMostTerms = 400;
constexpr size_t kMostTextBytes = 2000;  // of an argument inside an atom's name
constexpr int64_t kMostPower = 64;       // of a sum
constexpr int kMostDepth = 128;

bool IsPrimeAtom(const std::string& name) {
  return name.size() > 1 && name[0] == '#' && name[1] >= '0' && name[1] <= '9';
}

// Atoms that stand for positive real numbers, whose powers may be multiplied out.
bool IsPositive(const std::string& name) {
  return IsPrimeAtom(name) || name == "#e" || name == "#pi" || name.starts_with("pow(");
}

Poly BadPoly() {
  Poly result;
  result.bad = true;
  return result;
}

Fraction BadFraction() { return {BadPoly(), Poly::Constant(1)}; }

Fraction Number(const Rational& value) { return {Poly::Constant(value), Poly::Constant(1)}; }

bool IsOne(const Poly& poly) { return poly == Poly::Constant(1); }

// The multiplicative inverse of a single term.
Poly Inverse(const Poly& term) {
  Poly result;
  Monomial monomial = term.terms.begin()->first;
  for (auto& [name, exponent] : monomial) exponent = Rational(-1) * exponent;
  result.terms[std::move(monomial)] = Rational(1) / term.terms.begin()->second;
  return result;
}

}  // namespace

bool operator==(const Poly& a, const Poly& b) { return !a.bad && !b.bad && a.terms == b.terms; }

Poly Poly::Constant(const Rational& value) {
  Poly result;
  result.bad = value.bad();
  if (!result.bad && !value.zero()) result.terms[{}] = value;
  return result;
}

Poly Poly::Atom(const std::string& name, const Rational& exponent) {
  Poly result;
  result.terms[{{name, exponent}}] = 1;
  return result;
}

std::optional<Rational> Poly::AsRational() const {
  if (bad) return std::nullopt;
  if (terms.empty()) return Rational(0);
  if (terms.size() > 1 || !terms.begin()->first.empty()) return std::nullopt;
  return terms.begin()->second;
}

std::string Poly::Text() const {
  if (bad) return "?";
  if (terms.empty()) return "0";
  std::string text;
  for (const auto& [monomial, factor] : terms) {
    if (!text.empty()) text += '+';
    text += factor.Text();
    for (const auto& [name, exponent] : monomial) {
      text += Concat({"*", name});
      if (!(exponent == Rational(1))) text += Concat({"^", exponent.Text()});
    }
  }
  return text;
}

std::optional<Rational> Fraction::AsRational() const {
  const auto n = num.AsRational(), d = den.AsRational();
  if (!n || !d || d->zero()) return std::nullopt;
  const Rational value = *n / *d;
  if (value.bad()) return std::nullopt;
  return value;
}

std::string Fraction::Text() const {
  return IsOne(den) ? num.Text() : Concat({"(", num.Text(), ")/(", den.Text(), ")"});
}

// Adds factor * monomial, with every relation of its atoms applied.
void Algebra::AddTerm(Poly& sum, Monomial monomial, Rational factor, int depth) {
  for (auto it = monomial.begin(); it != monomial.end();) {
    Rational& exponent = it->second;
    if (IsPrimeAtom(it->first) && !exponent.bad()) {
      const int64_t whole = exponent.Floor();
      if (std::abs(whole) > kMostPower) exponent = Rational::Bad();
      factor = factor * hadal::eval::internal::Power(
                            Rational(std::strtoll(it->first.c_str() + 1, nullptr, 10)),
                            exponent.bad() ? 0 : whole);
      exponent = exponent - whole;
    } else if (it->first == "#i" && exponent.integer()) {
      const int64_t turns = ((exponent.num % 4) + 4) % 4;
      if (turns >= 2) factor = Rational(-1) * factor;
      exponent = turns % 2;
    }
    sum.bad |= exponent.bad();
    it = exponent.zero() ? monomial.erase(it) : std::next(it);
  }
  sum.bad |= factor.bad() || depth > kMostDepth;
  if (sum.bad || factor.zero()) return;
  for (const auto& [name, exponent] : monomial) {
    const auto relation = relations_.find(name);
    if (relation == relations_.end() || !exponent.integer()) continue;
    const int64_t order = relation->second.order;
    if (exponent.num < order) continue;
    const Poly power = IntegerPower(relation->second.value, exponent.num / order);
    sum.bad |= power.bad;
    Monomial rest = monomial;
    rest.erase(name);
    if (exponent.num % order != 0) rest[name] = exponent.num % order;
    for (const auto& [other, other_factor] : power.terms) {
      Monomial product = rest;
      for (const auto& [atom, e] : other) product[atom] = product[atom] + e;
      AddTerm(sum, std::move(product), factor * other_factor, depth + 1);
    }
    return;
  }
  Rational& there = sum.terms.try_emplace(monomial, Rational(0)).first->second;
  there = there + factor;
  sum.bad |= there.bad() || sum.terms.size() > kMostTerms;
  if (there.zero()) sum.terms.erase(monomial);
}

Poly Algebra::Add(const Poly& a, const Poly& b, const Rational& factor) {
  Poly sum = a;
  sum.bad |= b.bad;
  for (const auto& [monomial, f] : b.terms) {
    if (sum.bad) break;
    AddTerm(sum, monomial, f * factor, 0);
  }
  return sum;
}

Poly Algebra::Multiply(const Poly& a, const Poly& b) {
  Poly product;
  product.bad = a.bad || b.bad || a.terms.size() * b.terms.size() > 8 * kMostTerms;
  for (const auto& [monomial, factor] : a.terms) {
    for (const auto& [other, other_factor] : b.terms) {
      if (product.bad) return product;
      Monomial both = monomial;
      for (const auto& [name, exponent] : other) both[name] = both[name] + exponent;
      AddTerm(product, std::move(both), factor * other_factor, 0);
    }
  }
  return product;
}

Poly Algebra::IntegerPower(const Poly& base, int64_t exponent) {
  if (base.bad || exponent < 0 || (base.terms.size() > 1 && exponent > kMostPower)) {
    return BadPoly();
  }
  Poly result = Poly::Constant(1), square = base;
  while (exponent > 0 && !result.bad) {
    if (exponent & 1) result = Multiply(result, square);
    exponent >>= 1;
    if (exponent > 0) square = Multiply(square, square);
  }
  return result;
}

// A denominator of one term goes into the numerator.
Fraction Algebra::Simplified(Fraction value) {
  if (value.bad() || value.den.terms.empty()) return BadFraction();
  if (value.num.terms.empty()) return Number(0);
  if (value.den.terms.size() > 1) return value;
  value.num = Multiply(value.num, Inverse(value.den));
  value.den = Poly::Constant(1);
  return value;
}

Fraction Algebra::Add(const Fraction& a, const Fraction& b) {
  if (a.den == b.den) return Simplified({Add(a.num, b.num, 1), a.den});
  return Simplified(
      {Add(Multiply(a.num, b.den), Multiply(b.num, a.den), 1), Multiply(a.den, b.den)});
}

Fraction Algebra::Subtract(const Fraction& a, const Fraction& b) {
  return Add(a, Multiply(Number(-1), b));
}

Fraction Algebra::Multiply(const Fraction& a, const Fraction& b) {
  return Simplified({Multiply(a.num, b.num), Multiply(a.den, b.den)});
}

Fraction Algebra::Divide(const Fraction& a, const Fraction& b) {
  if (a.bad() || b.bad() || Zero(b.num)) return BadFraction();
  return Simplified({Multiply(a.num, b.den), Multiply(a.den, b.num)});
}

// Negative powers of atoms with a relation are multiplied away before the relation applies.
bool Algebra::Zero(const Poly& poly) {
  if (poly.bad) return false;
  Monomial lowest;
  for (const auto& [monomial, factor] : poly.terms) {
    for (const auto& [name, exponent] : monomial) {
      if (!relations_.contains(name) || !(exponent < Rational(0))) continue;
      auto& low = lowest.try_emplace(name, Rational(0)).first->second;
      if (exponent < low) low = exponent;
    }
  }
  Poly clearing = Poly::Constant(1);
  for (const auto& [name, exponent] : lowest) {
    clearing = Multiply(clearing, Poly::Atom(name, Rational(-1) * exponent));
  }
  const Poly product = Multiply(poly, clearing);
  return product.zero();
}

bool Algebra::Equal(const Fraction& a, const Fraction& b) {
  if (a.bad() || b.bad()) return false;
  return Zero(Add(Multiply(a.num, b.den), Multiply(b.num, a.den), -1));
}

bool Algebra::Proportional(const Fraction& a, const Fraction& b) {
  if (a.bad() || b.bad()) return false;
  const Poly left = Multiply(a.num, b.den), right = Multiply(b.num, a.den);
  if (left.bad || right.bad || left.terms.empty() || right.terms.empty()) return false;
  const auto& [monomial, factor] = *left.terms.begin();
  const auto other = right.terms.find(monomial);
  if (other == right.terms.end()) return false;
  return Zero(Add(left, right, Rational(-1) * factor / other->second));
}

Fraction Algebra::IntegerPower(const Fraction& base, int64_t exponent) {
  if (exponent < 0) return Divide(Number(1), IntegerPower(base, -exponent));
  return Simplified({IntegerPower(base.num, exponent), IntegerPower(base.den, exponent)});
}

Fraction Algebra::OpaqueRoot(const Poly& base, const Rational& exponent) {
  const std::string text = base.Text();
  if (base.bad || text.size() > kMostTextBytes || exponent.den > kMostPower) return BadFraction();
  const std::string name = Concat({"rt", std::to_string(exponent.den), "(", text, ")"});
  const bool laurent = std::any_of(base.terms.begin(), base.terms.end(), [](const auto& term) {
    return std::any_of(term.first.begin(), term.first.end(),
                       [](const auto& atom) { return atom.second < Rational(0); });
  });
  if (!laurent) relations_.try_emplace(name, Relation{exponent.den, base});
  return IntegerPower(Fraction{Poly::Atom(name), Poly::Constant(1)}, exponent.num);
}

// sqrt(a + b sqrt(m)) = sqrt((a+d)/2) +- sqrt((a-d)/2) where d = sqrt(a^2 - b^2 m) is rational.
std::optional<Fraction> Algebra::Denested(const Poly& base) {
  if (base.terms.size() != 2) return std::nullopt;
  const auto a = base.terms.find(Monomial{});
  if (a == base.terms.end() || !(Rational(0) < a->second)) return std::nullopt;
  Poly surd = base;
  surd.terms.erase(Monomial{});
  const auto& monomial = surd.terms.begin()->first;
  const bool real = std::all_of(monomial.begin(), monomial.end(),
                                [](const auto& atom) { return IsPrimeAtom(atom.first); });
  const auto square = Multiply(surd, surd).AsRational();
  if (!real || !square) return std::nullopt;
  const Rational under = a->second * a->second - *square;
  if (under.bad() || under < Rational(0)) return std::nullopt;
  const auto d = Root(Number(under), 2).AsRational();
  if (!d) return std::nullopt;
  const Fraction high = Root(Number((a->second + *d) / 2), 2);
  const Fraction low = Root(Number((a->second - *d) / 2), 2);
  const bool minus = surd.terms.begin()->second < Rational(0);
  return minus ? Subtract(high, low) : Add(high, low);
}

// real: a negative number has its real odd roots (radical signs), else only square roots.
Fraction Algebra::RationalPower(const Fraction& base, const Rational& exponent, bool real) {
  if (base.bad() || exponent.bad() || exponent.den > kMostPower) return BadFraction();
  if (!IsOne(base.den)) {
    if (base.num.AsRational() != Rational(1)) return BadFraction();
    return Divide(Number(1), RationalPower({base.den, Poly::Constant(1)}, exponent, real));
  }
  if (base.num.terms.empty()) return exponent < Rational(0) ? BadFraction() : Number(0);
  // The rational content comes out: it is positive, and its roots have one form.
  Rational content = base.num.terms.begin()->second;
  const bool negative = content < Rational(0);
  if (negative) content = Rational(-1) * content;
  const bool single = base.num.terms.size() == 1;
  Poly rest = Multiply(base.num, Poly::Constant(Rational(1) / content));
  Fraction result = Number(1);
  if (!single && exponent.den == 2) {
    if (const auto denested = Denested(base.num)) return IntegerPower(*denested, exponent.num);
  }
  for (const auto& [part, sign] : {std::pair{content.num, 1}, std::pair{content.den, -1}}) {
    const auto factors = Factor(part);
    if (!factors) return BadFraction();
    for (const auto& [prime, power] : *factors) {
      const Rational e = exponent * Rational(power * sign);
      if (e.bad() || std::abs(e.Floor()) > kMostPower) return BadFraction();
      Poly factor;
      AddTerm(factor, {{Concat({"#", std::to_string(prime)}), e}}, 1, 0);
      result = Multiply(result, {factor, Poly::Constant(1)});
    }
  }
  if (!single) return Multiply(result, OpaqueRoot(rest, exponent));
  if (negative && exponent.den != 2 && !(real && exponent.den % 2 == 1)) return BadFraction();
  Monomial others = rest.terms.begin()->first;
  for (auto it = others.begin(); it != others.end();) {
    if (!IsPositive(it->first)) {
      ++it;
      continue;
    }
    Poly factor;
    AddTerm(factor, {{it->first, it->second * exponent}}, 1, 0);
    result = Multiply(result, {factor, Poly::Constant(1)});
    it = others.erase(it);
  }
  if (others.empty()) {
    if (!negative) return result;
    if (exponent.den == 2) {
      return Multiply(result, {Poly::Atom("#i", exponent.num), Poly::Constant(1)});
    }
    return exponent.num % 2 == 0 ? result : Multiply(Number(-1), result);
  }
  const auto& [name, power] = *others.begin();
  // (x^p)^q = x^(pq) on the principal branch for 0 < p <= 1 only: sqrt(x^2) is not x.
  if (!negative && others.size() == 1 && name != "#i" && !relations_.contains(name) &&
      Rational(0) < power && !(Rational(1) < power)) {
    return Multiply(result, {Poly::Atom(name, power * exponent), Poly::Constant(1)});
  }
  Poly opaque;
  opaque.terms[others] = negative ? -1 : 1;
  return Multiply(result, OpaqueRoot(opaque, exponent));
}

Fraction Algebra::Root(const Fraction& value, int64_t order) {
  if (order < 1 || order > kMostPower) return BadFraction();
  if (order == 1) return value;
  return RationalPower(value, Rational::Of(1, order), true);
}

// b^(sum of terms): integers come out, every other term t makes the atom pow(b;t) with its
// coefficient as exponent.
Fraction Algebra::SymbolicPower(const Fraction& base, const Fraction& exponent) {
  if (!IsOne(exponent.den) || !IsOne(base.den) || base.num.terms.size() != 1) {
    const std::string text = Concat({"pw(", base.Text(), ";", exponent.Text(), ")"});
    if (base.bad() || exponent.bad() || text.size() > kMostTextBytes) return BadFraction();
    return {Poly::Atom(text), Poly::Constant(1)};
  }
  const auto& [monomial, factor] = *base.num.terms.begin();
  const auto number = base.num.AsRational();
  Fraction result = Number(1);
  if (number) {
    if (!number->integer() || number->num < 2) {
      if (*number == Rational(1)) return Number(1);
      if (!(Rational(0) < *number) || number->num != 1) {
        return {Poly::Atom(Concat({"pw(", base.Text(), ";", exponent.Text(), ")"})),
                Poly::Constant(1)};
      }
      return Divide(Number(1), SymbolicPower(Number(number->den), exponent));
    }
    const auto factors = Factor(number->num);
    if (!factors) return BadFraction();
    if (factors->size() > 1 || factors->front().second > 1) {
      for (const auto& [prime, power] : *factors) {
        const Fraction part = Power(Number(prime), Multiply(Number(power), exponent));
        result = Multiply(result, part);
      }
      return result;
    }
  }
  const bool symbol =
      factor == Rational(1) && monomial.size() == 1 && monomial.begin()->second == Rational(1);
  if (!number && !symbol) {
    return {Poly::Atom(Concat({"pw(", base.Text(), ";", exponent.Text(), ")"})), Poly::Constant(1)};
  }
  const std::string name = number ? number->Text() : monomial.begin()->first;
  for (const auto& [term, coefficient] : exponent.num.terms) {
    if (term.empty()) {
      result = Multiply(result, RationalPower(base, coefficient, false));
      continue;
    }
    Poly plain;
    plain.terms[term] = 1;
    const std::string atom = Concat({"pow(", name, ";", plain.Text(), ")"});
    // Only of a positive base may the coefficient stand outside.
    const bool positive = number || IsPositive(name);
    if (!positive && !coefficient.integer()) return BadFraction();
    result = Multiply(
        result, {Poly::Atom(Concat({positive ? "" : "n", atom}), coefficient), Poly::Constant(1)});
  }
  return result;
}

Fraction Algebra::Power(const Fraction& base, const Fraction& exponent) {
  if (base.bad() || exponent.bad()) return BadFraction();
  const auto constant = exponent.AsRational();
  if (!constant) return SymbolicPower(base, exponent);
  if (!constant->integer()) return RationalPower(base, *constant, false);
  if (base.num.terms.empty() && !(Rational(0) < *constant)) return BadFraction();  // 0^0 too
  if (std::abs(constant->num) > 1'000'000) return BadFraction();
  return IntegerPower(base, constant->num);
}

}  // namespace hadal::eval::internal
