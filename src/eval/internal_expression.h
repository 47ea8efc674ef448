// The tree of a mathematical expression, its exact value and a numeric one.
#pragma once

#include <complex>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "eval/internal_exact.h"

namespace hadal::eval::internal {

struct Node {
  enum class Kind : uint8_t {
    kNumber,  // value
    kSymbol,  // name: a variable, or "#pi", "#e", "#i"
    kInfinity,
    kAdd,
    kMultiply,  // any number of children
    kDivide,
    kPower,
    kNegate,   // 2, 2, 1
    kRoot,     // radicand; value: the order
    kCall,     // name, one child
    kLogBase,  // base, argument
    kBinomial,
    kPlusMinus,  // 2: left +- right; 1: +- operand; name "-" for \mp
  };
  Kind kind = Kind::kNumber;
  std::string name = {};
  Rational value = {};
  std::vector<std::unique_ptr<Node>> children = {};
};
using NodePtr = std::unique_ptr<Node>;

NodePtr MakeNode(Node::Kind kind, std::vector<NodePtr> children, std::string name = {});
NodePtr MakeNumber(const Rational& value);
NodePtr MakeSymbol(std::string name);
NodePtr Clone(const Node& node);

// minus: every \pm is taken as its lower sign.
bool HasPlusMinus(const Node& node);
bool IsInfinite(const Node& node, bool* negative);  // the whole is +-infinity
Fraction Exact(Algebra& algebra, const Node& node, bool minus);

// The value with symbols set to fixed pseudo-random numbers, another set for each `sample`; not
// finite where undefined or unknown. Independent of Exact, as a second witness.
std::complex<double> Numeric(const Node& node, bool minus, int sample);

}  // namespace hadal::eval::internal
