// Lists, intervals, sets, matrices, equations and inequalities around expressions.
#include <algorithm>
#include <functional>

#include "eval/internal_answer.h"

namespace hadal::eval::internal {
namespace {

using Kind = Node::Kind;
using Type = Value::Type;

constexpr size_t kMostItems = 64;
constexpr int kMostNesting = 12;

Error Unreadable(std::string what) { return {Code::kInvalid, std::move(what)}; }

bool Opens(const Token& t) {
  return t.Is("(") || t.Is("[") || t.Is("{") || t.Is("{{") || t.IsCommand("langle") ||
         t.IsCommand("lfloor") || t.IsCommand("lceil") ||
         (t.kind == Token::Kind::kCommand && t.text.starts_with("begin:"));
}
bool Closes(const Token& t) {
  return t.Is(")") || t.Is("]") || t.Is("}") || t.Is("}}") || t.IsCommand("rangle") ||
         t.IsCommand("rfloor") || t.IsCommand("rceil") ||
         (t.kind == Token::Kind::kCommand && t.text.starts_with("end:"));
}

enum class Order : uint8_t { kNone, kLess, kLessEqual, kGreater, kGreaterEqual };
Order OrderOf(const Token& t) {
  if (t.Is("<")) return Order::kLess;
  if (t.Is(">")) return Order::kGreater;
  if (t.IsCommand("le")) return Order::kLessEqual;
  if (t.IsCommand("ge")) return Order::kGreaterEqual;
  return Order::kNone;
}
bool IsLess(Order order) { return order == Order::kLess || order == Order::kLessEqual; }
bool IsClosed(Order order) { return order == Order::kLessEqual || order == Order::kGreaterEqual; }

bool Mentions(const Node& node, const std::string& symbol) {
  if (node.kind == Kind::kSymbol && (symbol.empty() ? node.name[0] != '#' : node.name == symbol)) {
    return true;
  }
  return std::any_of(node.children.begin(), node.children.end(),
                     [&](const auto& child) { return Mentions(*child, symbol); });
}

struct Span {
  size_t begin, end;
  size_t size() const { return end - begin; }
};

class Parser {
 public:
  explicit Parser(const std::vector<Token>& tokens) : tokens_(tokens) {}

  Result<Value> Run() {
    int depth = 0;
    for (const Token& t : tokens_) {
      depth += Opens(t) ? 1 : 0;
      depth -= Closes(t) ? 1 : 0;
      if (depth < 0) return Unreadable("a bracket closes that never opened");
    }
    if (depth != 0) return Unreadable("a bracket never closes");
    return List({0, tokens_.size()});
  }

 private:
  // The parts of a span between tokens outside of brackets for which `separates` holds.
  std::vector<Span> Split(Span span, const std::function<bool(const Token&)>& separates) const {
    std::vector<Span> parts;
    int depth = 0;
    size_t begin = span.begin;
    for (size_t i = span.begin; i < span.end; ++i) {
      if (Opens(tokens_[i])) ++depth;
      if (Closes(tokens_[i])) --depth;
      if (depth == 0 && separates(tokens_[i])) {
        parts.push_back({begin, i});
        begin = i + 1;
      }
    }
    parts.push_back({begin, span.end});
    return parts;
  }

  static void Expand(Value value, std::vector<Value>& items) {
    const bool two = value.type == Type::kExpression && HasPlusMinus(*value.node);
    if (two) {
      Value lower;
      lower.label = value.label;
      lower.node = Clone(*value.node);
      lower.unit = value.unit;
      value.expanded = lower.expanded = true;
      lower.minus = true;
      items.push_back(std::move(value));
      items.push_back(std::move(lower));
    } else {
      items.push_back(std::move(value));
    }
  }

  Result<Value> List(Span span) {
    bool any_or = false;
    const auto parts = Split(span, [&](const Token& t) {
      any_or |= t.IsCommand("or");
      return t.Is(",") || t.Is(";") || t.IsCommand("or") || t.IsCommand("and");
    });
    if (parts.size() > kMostItems) return Unreadable("too many items");
    std::vector<Value> items;
    for (const Span& part : parts) {
      if (part.size() == 0 && parts.size() > 1) continue;  // "3, 5, and 7"
      Expand(TRY(Relation(part)), items);
    }
    if (items.empty()) return Unreadable("nothing there");
    if (items.size() == 1) return std::move(items[0]);
    Value list;
    list.type = Type::kList;
    const bool intervals = std::all_of(items.begin(), items.end(), [](const Value& v) {
      return v.type == Type::kSequence && v.items.size() == 2;
    });
    if (any_or && intervals) list.type = Type::kUnion;
    list.items = std::move(items);
    return list;
  }

  // x = 5, f(x) = 2x, 2 < x <= 5, x \in [1, 2], 5.
  Result<Value> Relation(Span span) {
    if (span.size() == 0) return Unreadable("nothing there");
    const auto orders = Split(span, [](const Token& t) { return OrderOf(t) != Order::kNone; });
    if (orders.size() > 1) return Inequality(orders);
    const auto members = Split(span, [](const Token& t) { return t.IsCommand("in"); });
    if (members.size() == 2) {
      if (!IsLabel(members[0])) return Unreadable("what stands before \\in");
      Value value = TRY(Union(members[1]));
      value.label = LabelText(members[0]);
      return value;
    }
    if (members.size() > 2) return Unreadable("two \\in");
    const auto sides = Split(span, [](const Token& t) { return t.Is("="); });
    return sides.size() > 1 ? Equation(sides) : Union(span);
  }

  // One symbol, a function of symbols, or words.
  bool IsLabel(Span span) const {
    if (span.size() == 1) {
      return tokens_[span.begin].kind == Token::Kind::kText ||
             (tokens_[span.begin].kind == Token::Kind::kSymbol &&
              tokens_[span.begin].text[0] != '#');
    }
    if (span.size() == 4 && tokens_[span.begin].kind == Token::Kind::kSymbol) {
      return tokens_[span.begin + 1].Is("(") && tokens_[span.begin + 3].Is(")") &&
             tokens_[span.begin + 2].kind == Token::Kind::kSymbol;
    }
    return false;
  }
  std::string LabelText(Span span) const {
    return CompactText({tokens_.begin() + static_cast<ptrdiff_t>(span.begin),
                        tokens_.begin() + static_cast<ptrdiff_t>(span.end)});
  }
  static bool HasSymbols(const Value& value) {
    return value.type != Type::kExpression || Mentions(*value.node, "");
  }

  Result<Value> Equation(std::vector<Span> sides) {
    for (const Span& side : sides) {
      if (side.size() == 0) return Unreadable("a side of '=' is empty");
    }
    if (sides.size() == 2 && !IsLabel(sides[0]) && IsLabel(sides[1])) {
      std::swap(sides[0], sides[1]);  // 5 = x
    }
    std::string label;
    if (IsLabel(sides[0])) {
      label = LabelText(sides[0]);
      sides.erase(sides.begin());
    }
    std::vector<Value> values;
    for (const Span& side : sides) values.push_back(TRY(Union(side)));
    Value value = std::move(values.back());
    values.pop_back();
    if (values.empty()) {
      value.label = label;
      return value;
    }
    bool symbols = HasSymbols(value);
    for (const Value& other : values) symbols |= HasSymbols(other);
    if (symbols && label.empty() && values.size() == 1 && value.unit.none() &&
        values[0].unit.none() && value.type == Type::kExpression &&
        values[0].type == Type::kExpression) {
      Value equation;
      equation.type = Type::kEquation;
      equation.node = std::move(values[0].node);
      equation.right = std::move(value.node);
      return equation;
    }
    value.label = label;
    value.claims = std::move(values);
    return value;
  }

  static Value Infinite(bool negative) {
    Value value;
    value.node = MakeNode(Kind::kInfinity, {});
    if (negative) {
      std::vector<NodePtr> child;
      child.push_back(std::move(value.node));
      value.node = MakeNode(Kind::kNegate, std::move(child));
    }
    return value;
  }

  static Value Interval(Value low, Value high, bool low_closed, bool high_closed) {
    Value value;
    value.type = Type::kSequence;
    value.open.assign(1, low_closed ? '[' : '(');
    value.close.assign(1, high_closed ? ']' : ')');
    value.items.push_back(std::move(low));
    value.items.push_back(std::move(high));
    return value;
  }

  Result<Value> Inequality(const std::vector<Span>& sides) {
    std::vector<Order> order;
    for (size_t i = 0; i + 1 < sides.size(); ++i) order.push_back(OrderOf(tokens_[sides[i].end]));
    const auto symbol = [&](const Span& s) {
      return s.size() == 1 && tokens_[s.begin].kind == Token::Kind::kSymbol &&
             tokens_[s.begin].text[0] != '#';
    };
    if (sides.size() == 3 && symbol(sides[1]) && IsLess(order[0]) == IsLess(order[1])) {
      Value a = TRY(Expression(sides[0])), b = TRY(Expression(sides[2]));
      const bool up = IsLess(order[0]);
      const bool first = IsClosed(order[0]), second = IsClosed(order[1]);
      Value value = up ? Interval(std::move(a), std::move(b), first, second)
                       : Interval(std::move(b), std::move(a), second, first);
      value.label = LabelText(sides[1]);
      return value;
    }
    if (sides.size() != 2 || symbol(sides[0]) == symbol(sides[1])) {
      return Unreadable("an inequality that is not solved for one symbol");
    }
    const bool left = symbol(sides[0]);
    Value bound = TRY(Expression(left ? sides[1] : sides[0]));
    const std::string& name = tokens_[(left ? sides[0] : sides[1]).begin].text;
    if (Mentions(*bound.node, name)) return Unreadable("an inequality that is not solved");
    const bool below = IsLess(order[0]) == left;  // the symbol lies below the bound
    const bool closed = IsClosed(order[0]);
    Value value = below ? Interval(Infinite(true), std::move(bound), false, closed)
                        : Interval(std::move(bound), Infinite(false), closed, false);
    value.label = LabelText(left ? sides[0] : sides[1]);
    return value;
  }

  Result<Value> Union(Span span) {
    const auto parts = Split(span, [](const Token& t) { return t.IsCommand("cup"); });
    if (parts.size() == 1) return Element(span);
    if (parts.size() > kMostItems) return Unreadable("too many items");
    Value value;
    value.type = Type::kUnion;
    for (const Span& part : parts) value.items.push_back(TRY(Element(part)));
    return value;
  }

  // Whether one bracket encloses the whole span.
  bool Enclosed(Span span) const {
    if (span.size() < 2 || !Opens(tokens_[span.begin])) return false;
    int depth = 0;
    for (size_t i = span.begin; i < span.end; ++i) {
      if (Opens(tokens_[i])) ++depth;
      if (Closes(tokens_[i]) && --depth == 0) return i + 1 == span.end;
    }
    return false;
  }

  Result<Value> Element(Span span) {
    if (span.size() == 0) return Unreadable("nothing there");
    if (++nesting_ > kMostNesting) return Unreadable("nested too deeply");
    Result<Value> value = OpenElement(span);
    --nesting_;
    return value;
  }

  Result<Value> OpenElement(Span span) {
    const Token& first = tokens_[span.begin];
    if (span.size() == 1 && first.IsCommand("emptyset")) {
      Value value;
      value.type = Type::kSet;
      return value;
    }
    if (span.size() == 1 && first.kind == Token::Kind::kSymbol && first.text == "bbR") {
      return Interval(Infinite(true), Infinite(false), false, false);
    }
    if (Enclosed(span)) {
      const Span inside{span.begin + 1, span.end - 1};
      if (first.kind == Token::Kind::kCommand && first.text.starts_with("begin:")) {
        return Matrix(span, first.text.substr(6));
      }
      if (first.Is("{{")) return Set(inside);
      if (first.Is("{")) return Element(inside);
      const auto parts = Split(inside, [](const Token& t) { return t.Is(",") || t.Is(";"); });
      if (parts.size() > kMostItems) return Unreadable("too many items");
      if (parts.size() > 1 || first.IsCommand("langle")) {
        Value value;
        value.type = Type::kSequence;
        value.open = first.text;
        value.close = tokens_[span.end - 1].text;
        for (const Span& part : parts) value.items.push_back(TRY(Element(part)));
        return value;
      }
    }
    return Expression(span);
  }

  Result<Value> Set(Span inside) {
    Value value;
    value.type = Type::kSet;
    if (inside.size() == 0) return value;
    for (size_t i = inside.begin; i < inside.end; ++i) {
      if (tokens_[i].Is("|") || OrderOf(tokens_[i]) != Order::kNone) {
        return Unreadable("a set given by a condition");
      }
    }
    const auto parts = Split(inside, [](const Token& t) { return t.Is(",") || t.Is(";"); });
    if (parts.size() > kMostItems) return Unreadable("too many items");
    for (const Span& part : parts) Expand(TRY(Element(part)), value.items);
    return value;
  }

  Result<Value> Matrix(Span span, const std::string& kind) {
    if (!kind.ends_with("matrix") && kind != "array") return Unreadable("\\begin{" + kind + "}");
    if (kind == "vmatrix" || kind == "Vmatrix") return Unreadable("a determinant");
    Span inside{span.begin + 1, span.end - 1};
    if (kind == "array" && inside.size() > 0 && tokens_[inside.begin].Is("{")) {
      while (inside.begin < inside.end && !tokens_[inside.begin].Is("}")) ++inside.begin;
      if (inside.begin < inside.end) ++inside.begin;
    }
    Value value;
    value.type = Type::kMatrix;
    for (const Span& row : Split(inside, [](const Token& t) { return t.IsCommand("cr"); })) {
      if (row.size() == 0) continue;  // after the last \\.
      ++value.rows;
      for (const Span& cell : Split(row, [](const Token& t) { return t.Is("&"); })) {
        value.items.push_back(TRY(Element(cell)));
        if (value.items.size() > kMostItems) return Unreadable("too many entries");
      }
    }
    if (value.rows == 0 || value.items.size() % value.rows != 0) {
      return Unreadable("a matrix with rows of unequal length");
    }
    return value;
  }

  // 52_8, 52_{8}, "52 base 8".
  bool Base(Span span, Value* value) const {
    const auto at = [&](size_t i) -> const Token& { return tokens_[span.begin + i]; };
    const auto number = [&](size_t i) {
      return at(i).kind == Token::Kind::kNumber && at(i).text.find('.') == std::string::npos;
    };
    const Token* base = nullptr;
    if (span.size() == 3 && number(0) && at(1).Is("_") && number(2)) base = &at(2);
    if (span.size() == 5 && number(0) && at(1).Is("_") && at(2).Is("{") && number(3) &&
        at(4).Is("}")) {
      base = &at(3);
    }
    if (span.size() == 3 && number(0) && at(1).kind == Token::Kind::kText && number(2) &&
        (at(1).text == "base" || at(1).text == "in base")) {
      base = &at(2);
    }
    if (!base || base->value.bad() || base->value.num < 2 || base->value.num > 36) return false;
    for (const char c : at(0).text) {
      if (c - '0' >= base->value.num) return false;
    }
    value->type = Type::kBase;
    value->text = at(0).text;
    value->text.erase(0, std::min(value->text.find_first_not_of('0'), value->text.size() - 1));
    value->base = static_cast<int>(base->value.num);
    return true;
  }

  Result<Value> Expression(Span span) {
    Value value;
    if (span.size() == 0) return Unreadable("nothing there");
    if (Base(span, &value)) return value;
    if (span.size() == 1 && tokens_[span.begin].kind == Token::Kind::kText) {
      value.type = Type::kText;
      value.text = tokens_[span.begin].text;
      return value;
    }
    std::string words;
    if (tokens_[span.begin].Is("$")) {
      words = "dollar";
      ++span.begin;
    } else if (span.size() > 2 && tokens_[span.begin].Is("-") && tokens_[span.begin + 1].Is("$")) {
      return Unreadable("a sign before a currency");
    }
    Span unit = UnitSpan(span);
    if (unit.size() > 0 && !words.empty()) return Unreadable("two units");
    for (size_t i = unit.begin; i < unit.end; ++i) {
      const Token& t = tokens_[i];
      if (t.Is("{") || t.Is("}")) continue;
      if (t.IsCommand("circ")) {
        words = "degree";  // "^" before it is dropped
      } else if (t.Is("^") && i + 1 < unit.end &&
                 (tokens_[i + 1].IsCommand("circ") || tokens_[i + 1].Is("{"))) {
        if (i + 2 < unit.end && tokens_[i + 1].Is("{") && !tokens_[i + 2].IsCommand("circ")) {
          words += " ^";
        }
      } else {
        words += Concat({" ", t.text});
      }
    }
    if (!words.empty()) {
      auto parsed = ParseUnit(words);
      if (!parsed) return Unreadable("'" + words + "' after a number");
      value.unit = *std::move(parsed);
    }
    ExpressionParser parser(tokens_, span.begin, unit.begin);
    value.node = parser.Parse();
    if (!value.node) return Unreadable(parser.error());
    return value;
  }

  // What follows the number: from the first word, % or degree sign outside of brackets on.
  Span UnitSpan(Span span) const {
    int depth = 0;
    for (size_t i = span.begin; i < span.end; ++i) {
      const Token& t = tokens_[i];
      if (Opens(t)) ++depth;
      if (Closes(t)) --depth;
      if (depth > 0) continue;
      if (t.Is("^") && i + 1 < span.end) {
        const bool degree =
            tokens_[i + 1].IsCommand("circ") ||
            (i + 2 < span.end && tokens_[i + 1].Is("{") && tokens_[i + 2].IsCommand("circ"));
        // Degrees inside a function's argument belong to it: \sin 30^\circ.
        if (degree && !HasFunction({span.begin, i})) return {i, span.end};
      }
      if (t.kind == Token::Kind::kText || t.Is("%")) return {i, span.end};
    }
    return {span.end, span.end};
  }
  bool HasFunction(Span span) const {
    for (size_t i = span.begin; i < span.end; ++i) {
      const Token& t = tokens_[i];
      if (t.kind == Token::Kind::kCommand && t.text.size() == 3 && t.text != "and" &&
          t.text != "div") {
        return true;
      }
    }
    return false;
  }

  const std::vector<Token>& tokens_;
  int nesting_ = 0;
};

}  // namespace

Result<Value> ParseAnswer(const std::vector<Token>& tokens) { return Parser(tokens).Run(); }

}  // namespace hadal::eval::internal
