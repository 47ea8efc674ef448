// Expressions, with the readings that two people could differ on refused: 1/2x, sin x/2, x2.
#include <algorithm>
#include <array>

#include "eval/internal_answer.h"

namespace hadal::eval::internal {
namespace {

using Kind = Node::Kind;

constexpr int kMostDepth = 60;

std::vector<NodePtr> Children(NodePtr a, NodePtr b) {
  std::vector<NodePtr> list;
  list.push_back(std::move(a));
  list.push_back(std::move(b));
  return list;
}

std::vector<NodePtr> Children(NodePtr a) {
  std::vector<NodePtr> list;
  list.push_back(std::move(a));
  return list;
}

constexpr std::array kCalls = std::to_array<std::string_view>(
    {"sin", "cos", "tan", "cot", "sec", "csc", "ln", "exp", "arcsin", "arccos", "arctan", "sinh",
     "cosh", "tanh", "log", "lg"});

bool IsCall(const Token& token) {
  return token.kind == Token::Kind::kCommand &&
         std::find(kCalls.begin(), kCalls.end(), token.text) != kCalls.end();
}

bool IsInteger(const Token& token) {
  return token.kind == Token::Kind::kNumber && token.text.find('.') == std::string::npos;
}

}  // namespace

NodePtr ExpressionParser::Fail(std::string what) {
  if (error_.empty()) error_ = std::move(what);
  return nullptr;
}

bool ExpressionParser::At(std::string_view sign) const {
  return at_ < end_ && tokens_[at_].Is(sign);
}

bool ExpressionParser::AtCommand(std::string_view name) const {
  return at_ < end_ && tokens_[at_].IsCommand(name);
}

NodePtr ExpressionParser::Parse() {
  if (at_ >= end_) return Fail("nothing there");
  NodePtr node = Sum();
  if (node && at_ != end_) return Fail("'" + tokens_[at_].text + "' is not expected there");
  return node;
}

NodePtr ExpressionParser::Sum() {
  if (++depth_ > kMostDepth) return Fail("nested too deeply");
  NodePtr sum;
  while (true) {
    const bool plus_minus = AtCommand("pm") || AtCommand("mp");
    const std::string name = AtCommand("mp") ? "-" : "+";
    const bool minus = At("-"), sign = minus || plus_minus || At("+");
    if (sign) ++at_;
    if (!sign && sum) break;
    NodePtr term = Product();
    if (!term) return nullptr;
    if (plus_minus) {
      auto children = sum ? Children(std::move(sum), std::move(term)) : Children(std::move(term));
      sum = MakeNode(Kind::kPlusMinus, std::move(children), name);
      continue;
    }
    if (minus) term = MakeNode(Kind::kNegate, Children(std::move(term)));
    if (!sum) {
      sum = std::move(term);
    } else if (sum->kind == Kind::kAdd) {
      sum->children.push_back(std::move(term));
    } else {
      sum = MakeNode(Kind::kAdd, Children(std::move(sum), std::move(term)));
    }
  }
  --depth_;
  return sum;
}

bool ExpressionParser::StartsFactor() const {
  if (at_ >= end_) return false;
  const Token& token = tokens_[at_];
  if (token.kind == Token::Kind::kSymbol) return true;
  if (token.Is("(") || token.Is("[") || token.Is("{")) return true;
  if (token.Is("|")) return bars_ == 0;
  if (token.kind != Token::Kind::kCommand) return false;
  for (const char* name : {"frac", "sqrt", "binom", "lfloor", "lceil", "floor", "ceil", "abs"}) {
    if (token.text == name) return true;
  }
  return IsCall(token);
}

NodePtr ExpressionParser::Product() {
  NodePtr product = Signed();
  bool divided = false;
  while (product) {
    const bool times = At("*"), over = At("/");
    if (!times && !over) {
      if (!StartsFactor()) break;
      if (divided) return Fail("a/bc may mean (a/b)c or a/(bc)");
    } else {
      ++at_;
    }
    divided = over;
    NodePtr factor = times || over ? Signed() : Power();
    if (!factor) return nullptr;
    product = MakeNode(over ? Kind::kDivide : Kind::kMultiply,
                       Children(std::move(product), std::move(factor)));
  }
  return product;
}

NodePtr ExpressionParser::Signed() {
  if (!At("-")) return Power();
  if (++depth_ > kMostDepth) return Fail("nested too deeply");
  ++at_;
  NodePtr node = Signed();
  --depth_;
  return node ? MakeNode(Kind::kNegate, Children(std::move(node))) : nullptr;
}

NodePtr ExpressionParser::Power() {
  NodePtr base = Postfix();
  if (!base || !At("^")) return base;
  ++at_;
  NodePtr exponent = Exponent();
  if (!exponent) return nullptr;
  return MakeNode(Kind::kPower, Children(std::move(base), std::move(exponent)));
}

NodePtr ExpressionParser::Exponent() {
  if (++depth_ > kMostDepth) return Fail("nested too deeply");
  const bool minus = At("-");
  if (minus) ++at_;
  NodePtr node = Postfix();
  if (node && At("^")) {
    ++at_;
    NodePtr upper = Exponent();
    node = upper ? MakeNode(Kind::kPower, Children(std::move(node), std::move(upper))) : nullptr;
  }
  --depth_;
  if (!node) return nullptr;
  return minus ? MakeNode(Kind::kNegate, Children(std::move(node))) : std::move(node);
}

NodePtr ExpressionParser::Postfix() {
  NodePtr node = Primary();
  while (node) {
    if (At("!")) {
      ++at_;
      node = MakeNode(Kind::kCall, Children(std::move(node)), "fact");
    } else if (functions_ > 0 && At("^") && at_ + 1 < end_ &&
               (tokens_[at_ + 1].IsCommand("circ") ||
                (at_ + 3 < end_ && tokens_[at_ + 1].Is("{") && tokens_[at_ + 2].IsCommand("circ") &&
                 tokens_[at_ + 3].Is("}")))) {
      // Degrees inside a function.
      at_ += tokens_[at_ + 1].Is("{") ? 4 : 2;
      node =
          MakeNode(Kind::kMultiply,
                   Children(std::move(node),
                            MakeNode(Kind::kDivide, Children(MakeSymbol("#pi"), MakeNumber(180)))));
    } else {
      break;
    }
  }
  return node;
}

NodePtr ExpressionParser::Bracketed(std::string_view close) {
  ++at_;
  const int bars = std::exchange(bars_, 0);
  NodePtr node = Sum();
  bars_ = bars;
  if (!node) return nullptr;
  if (!At(close)) return Fail("a bracket never closes");
  ++at_;
  return node;
}

NodePtr ExpressionParser::Group() {
  if (!At("{")) return Fail("a group { } is missing");
  return Bracketed("}");
}

// 0.1\overline{6}; mixed numbers 1\frac{4}{5} and 1 4/5.
NodePtr ExpressionParser::Number() {
  const Token& token = tokens_[at_++];
  if (token.value.bad()) return Fail("the number " + token.text + " is too large");
  if (At("_")) return Fail("a number in a base inside an expression");
  if (AtCommand("overline") && at_ + 3 < end_ && tokens_[at_ + 1].Is("{") &&
      IsInteger(tokens_[at_ + 2]) && tokens_[at_ + 3].Is("}")) {
    const size_t point = token.text.find('.');
    if (point == std::string::npos) return Fail("a bar over an integer");
    const Token& repeated = tokens_[at_ + 2];
    at_ += 4;
    const auto places = static_cast<int64_t>(token.text.size() - point - 1);
    const auto period = static_cast<int64_t>(repeated.text.size());
    const Rational tail = repeated.value / (hadal::eval::internal::Power(10, period) - 1) /
                          hadal::eval::internal::Power(10, places);
    return MakeNumber(token.value + tail);
  }
  const auto mixed = [&](const Token& top, const Token& bottom, size_t length) -> NodePtr {
    const Rational part = top.value / bottom.value;
    if (part.bad() || !(part < Rational(1))) return nullptr;
    at_ += length;
    return MakeNumber(token.value + part);
  };
  if (!IsInteger(token)) return MakeNumber(token.value);
  if (AtCommand("frac") && at_ + 6 < end_ && tokens_[at_ + 1].Is("{") &&
      IsInteger(tokens_[at_ + 2]) && tokens_[at_ + 3].Is("}") && tokens_[at_ + 4].Is("{") &&
      IsInteger(tokens_[at_ + 5]) && tokens_[at_ + 6].Is("}")) {
    NodePtr node = mixed(tokens_[at_ + 2], tokens_[at_ + 5], 7);
    return node ? std::move(node) : Fail("an improper fraction after an integer");
  }
  if (at_ + 2 < end_ && IsInteger(tokens_[at_]) && tokens_[at_].space && tokens_[at_ + 1].Is("/") &&
      IsInteger(tokens_[at_ + 2])) {
    NodePtr node = mixed(tokens_[at_], tokens_[at_ + 2], 3);
    return node ? std::move(node) : Fail("an improper fraction after an integer");
  }
  return MakeNumber(token.value);
}

NodePtr ExpressionParser::Primary() {
  if (at_ >= end_) return Fail("it ends too early");
  const Token& token = tokens_[at_];
  switch (token.kind) {
    case Token::Kind::kNumber:
      return Number();
    case Token::Kind::kSymbol: {
      ++at_;
      const bool function = token.text == "f" || token.text == "g" || token.text == "h" ||
                            token.text == "F" || token.text == "G" || token.text == "P";
      if (function && At("(") && !tokens_[at_].space) {
        NodePtr argument = Bracketed(")");
        return argument ? MakeNode(Kind::kCall, Children(std::move(argument)), "f:" + token.text)
                        : nullptr;
      }
      return MakeSymbol(token.text);
    }
    case Token::Kind::kCommand:
      return Command();
    case Token::Kind::kText:
      return Fail("words '" + token.text + "' inside an expression");
    case Token::Kind::kSign:
      break;
  }
  if (token.Is("(")) return Bracketed(")");
  if (token.Is("[")) return Bracketed("]");
  if (token.Is("{")) return Group();
  if (token.Is("|") && bars_ == 0) {
    ++at_;
    ++bars_;
    NodePtr inside = Sum();
    --bars_;
    if (!inside) return nullptr;
    if (!At("|")) return Fail("a bar never closes");
    ++at_;
    return MakeNode(Kind::kCall, Children(std::move(inside)), "abs");
  }
  return Fail("'" + token.text + "' is not expected there");
}

NodePtr ExpressionParser::Command() {
  if (depth_ + commands_ > kMostDepth) return Fail("nested too deeply");
  ++commands_;
  NodePtr node = OpenCommand();
  --commands_;
  return node;
}

NodePtr ExpressionParser::OpenCommand() {
  const std::string name = tokens_[at_++].text;
  if (name == "infty") return MakeNode(Kind::kInfinity, {});
  if (name == "frac" || name == "binom") {
    NodePtr top = Group();
    NodePtr bottom = top ? Group() : nullptr;
    if (!bottom) return nullptr;
    return MakeNode(name == "frac" ? Kind::kDivide : Kind::kBinomial,
                    Children(std::move(top), std::move(bottom)));
  }
  if (name == "sqrt") {
    Rational order = 2;
    if (At("[")) {
      if (at_ + 2 >= end_ || !IsInteger(tokens_[at_ + 1]) || !tokens_[at_ + 2].Is("]")) {
        return Fail("the order of a root is no integer");
      }
      order = tokens_[at_ + 1].value;
      at_ += 3;
    }
    NodePtr inside = Primary();
    if (!inside) return nullptr;
    NodePtr root = MakeNode(Kind::kRoot, Children(std::move(inside)));
    root->value = order;
    return root;
  }
  if (name == "lfloor" || name == "lceil") {
    NodePtr inside = Sum();
    const char* close = name == "lfloor" ? "rfloor" : "rceil";
    if (!inside) return nullptr;
    if (!AtCommand(close)) return Fail("a bracket never closes");
    ++at_;
    return MakeNode(Kind::kCall, Children(std::move(inside)), name.substr(1));
  }
  if (name == "floor" || name == "ceil" || name == "abs") {
    if (!At("(")) return Fail(name + " without ( )");
    NodePtr inside = Bracketed(")");
    return inside ? MakeNode(Kind::kCall, Children(std::move(inside)), name) : nullptr;
  }
  if (IsCall(tokens_[at_ - 1])) return Function(name);
  return Fail("\\" + name + " is not known");
}

// sin^2 2x, \log_{2} 8, ln(x).
NodePtr ExpressionParser::Function(const std::string& name) {
  NodePtr power, base;
  if (At("_")) {
    ++at_;
    if (name != "log") return Fail("an index of \\" + name);
    base = Primary();
    if (!base) return nullptr;
  }
  if (At("^")) {
    ++at_;
    if (At("-") || (At("{") && at_ + 1 < end_ && tokens_[at_ + 1].Is("-"))) {
      return Fail("\\" + name + "^{-1} may be an inverse or a reciprocal");
    }
    power = Exponent();
    if (!power) return nullptr;
  }
  ++functions_;
  NodePtr argument = FunctionArgument();
  --functions_;
  if (!argument) return nullptr;
  if (At("/") || At("^") || At("!")) return Fail("where the argument of \\" + name + " ends");
  NodePtr call;
  if (name == "log" || name == "lg") {
    if (!base) base = MakeNumber(10);
    call = MakeNode(Kind::kLogBase, Children(std::move(base), std::move(argument)));
  } else {
    call = MakeNode(Kind::kCall, Children(std::move(argument)), name);
  }
  return power ? MakeNode(Kind::kPower, Children(std::move(call), std::move(power)))
               : std::move(call);
}

// A bracket, or a product up to the next operator or function.
NodePtr ExpressionParser::FunctionArgument() {
  if (At("(") || At("[")) return Bracketed(At("(") ? ")" : "]");
  if (At("{")) {
    NodePtr group = Group();
    return group;
  }
  NodePtr product = Power();
  while (product && StartsFactor() && !IsCall(tokens_[at_])) {
    NodePtr factor = Power();
    if (!factor) return nullptr;
    product = MakeNode(Kind::kMultiply, Children(std::move(product), std::move(factor)));
  }
  return product;
}

}  // namespace hadal::eval::internal
