#include <cmath>
#include <limits>

#include "base/rng.h"
#include "eval/internal_expression.h"

namespace hadal::eval::internal {
namespace {

using Complex = std::complex<double>;
using Kind = Node::Kind;

Fraction Number(const Rational& value) { return {Poly::Constant(value), Poly::Constant(1)}; }

Complex Unknown() { return {std::numeric_limits<double>::quiet_NaN(), 0}; }

// FNV-1a: the same symbol gets the same number in both expressions.
uint64_t HashOf(const std::string& text) {
  uint64_t hash = 14695981039346656037ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

Complex SymbolValue(const std::string& name, int sample) {
  if (name == "#pi") return M_PI;
  if (name == "#e") return M_E;
  if (name == "#i") return {0, 1};
  Rng rng(HashOf(name), static_cast<uint64_t>(sample));
  const double value = 0.25 + 2 * rng.NextDouble();
  return sample % 2 == 0 ? value : -value;
}

// -0 as imaginary part would choose the other side of the cut.
Complex OnAxis(Complex x) { return x.imag() == 0 ? Complex(x.real(), 0) : x; }

Complex CallValue(const std::string& name, Complex x) {
  const bool real = x.imag() == 0;
  if (name == "sin") return std::sin(x);
  if (name == "cos") return std::cos(x);
  if (name == "tan") return std::sin(x) / std::cos(x);
  if (name == "cot") return std::cos(x) / std::sin(x);
  if (name == "sec") return 1.0 / std::cos(x);
  if (name == "csc") return 1.0 / std::sin(x);
  if (name == "ln") return x == 0.0 ? Unknown() : std::log(OnAxis(x));
  if (name == "exp") return std::exp(x);
  if (name == "abs") return std::abs(x);
  if (name == "arcsin") return std::asin(x);
  if (name == "arccos") return std::acos(x);
  if (name == "arctan") return std::atan(x);
  if (name == "sinh") return std::sinh(x);
  if (name == "cosh") return std::cosh(x);
  if (name == "tanh") return std::tanh(x);
  if (name == "floor" && real) return std::floor(x.real());
  if (name == "ceil" && real) return std::ceil(x.real());
  if (name == "fact" && real) return std::tgamma(x.real() + 1);
  // An unknown function: any fixed continuous one that tells arguments apart.
  Rng rng(HashOf(name));
  return std::sin(x * (0.3 + rng.NextDouble())) + (2 + rng.NextDouble()) * x;
}

Complex PowerValue(Complex base, Complex exponent) {
  if (base == 0.0) return exponent.real() > 0 ? Complex(0) : Unknown();
  if (exponent.imag() == 0 && exponent.real() == std::round(exponent.real()) &&
      std::abs(exponent.real()) <= 1024) {
    const bool inverse = exponent.real() < 0;
    Complex result = 1;
    for (auto n = static_cast<int>(std::abs(exponent.real())); n > 0; n >>= 1, base *= base) {
      if (n & 1) result *= base;
    }
    return inverse ? 1.0 / result : result;
  }
  return std::pow(OnAxis(base), exponent);
}

Complex RootValue(Complex x, double order) {
  if (x.imag() == 0 && x.real() < 0 && std::fmod(order, 2) == 1) {
    return -std::pow(-x.real(), 1 / order);
  }
  return std::pow(OnAxis(x), 1 / order);
}

}  // namespace

NodePtr MakeNode(Kind kind, std::vector<NodePtr> children, std::string name) {
  auto node = std::make_unique<Node>();
  node->kind = kind;
  node->name = std::move(name);
  node->children = std::move(children);
  return node;
}

NodePtr MakeNumber(const Rational& value) {
  auto node = std::make_unique<Node>();
  node->value = value;
  return node;
}

NodePtr MakeSymbol(std::string name) { return MakeNode(Kind::kSymbol, {}, std::move(name)); }

NodePtr Clone(const Node& node) {
  auto copy = MakeNode(node.kind, {}, node.name);
  copy->value = node.value;
  for (const auto& child : node.children) copy->children.push_back(Clone(*child));
  return copy;
}

bool HasPlusMinus(const Node& node) {
  if (node.kind == Kind::kPlusMinus) return true;
  for (const auto& child : node.children) {
    if (HasPlusMinus(*child)) return true;
  }
  return false;
}

bool IsInfinite(const Node& node, bool* negative) {
  if (node.kind == Kind::kInfinity) {
    *negative = false;
    return true;
  }
  if (node.kind != Kind::kNegate || node.children[0]->kind != Kind::kInfinity) return false;
  *negative = true;
  return true;
}

Fraction Exact(Algebra& algebra, const Node& node, bool minus) {
  std::vector<Fraction> c;
  for (const auto& child : node.children) c.push_back(Exact(algebra, *child, minus));
  switch (node.kind) {
    case Kind::kNumber:
      return Number(node.value);
    case Kind::kSymbol:
      return {Poly::Atom(node.name), Poly::Constant(1)};
    case Kind::kInfinity:
      return Number(Rational::Bad());
    case Kind::kAdd:
    case Kind::kMultiply: {
      Fraction result = c[0];
      for (size_t i = 1; i < c.size(); ++i) {
        result =
            node.kind == Kind::kAdd ? algebra.Add(result, c[i]) : algebra.Multiply(result, c[i]);
      }
      return result;
    }
    case Kind::kDivide:
      return algebra.Divide(c[0], c[1]);
    case Kind::kPower:
      return algebra.Power(c[0], c[1]);
    case Kind::kNegate:
      return algebra.Multiply(Number(-1), c[0]);
    case Kind::kRoot:
      return algebra.Root(c[0], node.value.integer() ? node.value.num : 0);
    case Kind::kCall:
      return algebra.Call(node.name, c[0]);
    case Kind::kLogBase:
      return algebra.Divide(algebra.Call("ln", c[1]), algebra.Call("ln", c[0]));
    case Kind::kBinomial:
      return algebra.Binomial(c[0], c[1]);
    case Kind::kPlusMinus: {
      const bool subtract = (node.name == "-") != minus;
      Fraction right = subtract ? algebra.Multiply(Number(-1), c.back()) : c.back();
      return c.size() == 2 ? algebra.Add(c[0], right) : right;
    }
  }
  return Number(Rational::Bad());
}

Complex Numeric(const Node& node, bool minus, int sample) {
  std::vector<Complex> c;
  for (const auto& child : node.children) c.push_back(Numeric(*child, minus, sample));
  switch (node.kind) {
    case Kind::kNumber:
      return node.value.bad()
                 ? Unknown()
                 : static_cast<double>(node.value.num) / static_cast<double>(node.value.den);
    case Kind::kSymbol:
      return SymbolValue(node.name, sample);
    case Kind::kInfinity:
      return Unknown();
    case Kind::kAdd:
    case Kind::kMultiply: {
      Complex result = c[0];
      for (size_t i = 1; i < c.size(); ++i) {
        result = node.kind == Kind::kAdd ? result + c[i] : result * c[i];
      }
      return result;
    }
    case Kind::kDivide:
      return c[1] == 0.0 ? Unknown() : c[0] / c[1];
    case Kind::kPower:
      return PowerValue(c[0], c[1]);
    case Kind::kNegate:
      return -c[0];
    case Kind::kRoot:
      return RootValue(c[0], static_cast<double>(node.value.num));
    case Kind::kCall:
      return CallValue(node.name, c[0]);
    case Kind::kLogBase:
      return CallValue("ln", c[1]) / CallValue("ln", c[0]);
    case Kind::kBinomial:
      if (c[0].imag() != 0 || c[1].imag() != 0) return Unknown();
      return std::exp(std::lgamma(c[0].real() + 1) - std::lgamma(c[1].real() + 1) -
                      std::lgamma(c[0].real() - c[1].real() + 1));
    case Kind::kPlusMinus: {
      const Complex right = (node.name == "-") != minus ? -c.back() : c.back();
      return c.size() == 2 ? c[0] + right : right;
    }
  }
  return Unknown();
}

}  // namespace hadal::eval::internal
