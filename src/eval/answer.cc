#include "eval/answer.h"

#include <cmath>

#include "eval/internal_answer.h"

namespace hadal::eval {
namespace {

using hadal::Verdict;
using internal::Algebra;
using internal::Fraction;
using internal::Rational;
using internal::Value;
using Type = Value::Type;

constexpr size_t kMostBytes = 2000;

class Comparison {
 public:
  bool Equal(const Value& gold, const Value& answer) {
    for (const Value& claim : answer.claims) {
      if (!Equal(answer, claim, false)) return false;
    }
    undecided_ = false;
    return Equal(gold, answer, true);
  }
  bool undecided() const { return undecided_; }  // the gold answer is beyond exact arithmetic

 private:
  // labels: "x = 5" equals 5, but not "y = 5".
  bool Equal(const Value& gold, const Value& answer, bool labels) {
    if (labels && !gold.label.empty() && !answer.label.empty() && gold.label != answer.label) {
      return false;
    }
    if (gold.type != answer.type) return Converted(gold, answer);
    switch (gold.type) {
      case Type::kExpression:
        return Expressions(gold, answer);
      case Type::kSequence:
        return gold.open == answer.open && gold.close == answer.close && InOrder(gold, answer);
      case Type::kMatrix:
        return gold.rows == answer.rows && InOrder(gold, answer);
      case Type::kList:
      case Type::kSet:
      case Type::kUnion:
        return AnyOrder(gold, answer);
      case Type::kEquation:
        return algebra_.Proportional(Difference(gold), Difference(answer));
      case Type::kBase:
        return gold.base == answer.base && gold.text == answer.text;
      case Type::kText:
        return gold.text == answer.text;
    }
    return false;
  }

  bool Converted(const Value& gold, const Value& answer) {
    const auto listed = [](const Value& v) { return v.type == Type::kList; };
    const auto set = [](const Value& v) { return v.type == Type::kSet; };
    if ((listed(gold) && set(answer)) || (set(gold) && listed(answer))) {
      return AnyOrder(gold, answer);
    }
    // The digits of a base may stand without it.
    if (gold.type == Type::kBase && answer.type == Type::kExpression && answer.unit.none() &&
        answer.node->kind == internal::Node::Kind::kNumber) {
      return answer.node->value.Text() == gold.text;
    }
    if (gold.type == Type::kExpression && answer.type == Type::kBase && answer.base == 10) {
      return gold.node->kind == internal::Node::Kind::kNumber &&
             gold.node->value.Text() == answer.text;
    }
    // "y = 2x + 3" and "2x - y + 3 = 0"; never "x = 5" and "2x = 10".
    if (gold.type == Type::kExpression && answer.type == Type::kEquation) {
      return LabelledEquation(gold, answer);
    }
    return false;
  }

  bool LabelledEquation(const Value& gold, const Value& equation) {
    const std::string label = gold.label.substr(std::min<size_t>(1, gold.label.size()));
    if (label.empty() || label.find_first_of("( ") != std::string::npos || !gold.unit.none()) {
      return false;
    }
    const Fraction right = internal::Exact(algebra_, *gold.node, gold.minus);
    if (right.AsRational() || right.bad()) return false;
    const Fraction left{internal::Poly::Atom(label), internal::Poly::Constant(1)};
    bool symbols = false;
    for (const auto& [monomial, factor] : right.num.terms) {
      for (const auto& [name, exponent] : monomial) symbols |= name[0] != '#';
    }
    return symbols && algebra_.Proportional(algebra_.Subtract(left, right), Difference(equation));
  }

  Fraction Difference(const Value& equation) {
    return algebra_.Subtract(internal::Exact(algebra_, *equation.node, false),
                             internal::Exact(algebra_, *equation.right, false));
  }

  bool InOrder(const Value& gold, const Value& answer) {
    if (gold.items.size() != answer.items.size()) return false;
    for (size_t i = 0; i < gold.items.size(); ++i) {
      if (!Equal(gold.items[i], answer.items[i], true)) return false;
    }
    return true;
  }

  // Each item of one is exactly one item of the other. Equality is transitive, so the first match
  // will do.
  bool AnyOrder(const Value& gold, const Value& answer) {
    if (gold.items.size() != answer.items.size()) return false;
    std::vector<bool> used(answer.items.size());
    for (const Value& item : gold.items) {
      size_t i = 0;
      while (i < used.size() && (used[i] || !Equal(item, answer.items[i], true))) ++i;
      if (i == used.size()) return false;
      used[i] = true;
    }
    return true;
  }

  bool Expressions(const Value& gold, const Value& answer) {
    const auto open = [](const Value& v) { return !v.expanded && internal::HasPlusMinus(*v.node); };
    if (open(gold) || open(answer)) {  // inside a tuple both signs stay open
      return Scaled(gold, answer, false, false) && Scaled(gold, answer, true, true);
    }
    return Scaled(gold, answer, gold.minus, answer.minus);
  }

  bool Scaled(const Value& gold, const Value& answer, bool gold_minus, bool answer_minus) {
    bool gold_negative = false, answer_negative = false;
    const bool gold_infinite = internal::IsInfinite(*gold.node, &gold_negative);
    const bool answer_infinite = internal::IsInfinite(*answer.node, &answer_negative);
    if (gold_infinite || answer_infinite) {
      return gold_infinite && answer_infinite && gold_negative == answer_negative;
    }
    const auto percent = [](const Value& v) { return v.unit.dimensions.contains("percent"); };
    if (gold.unit.none() || answer.unit.none()) {
      if (Same(gold, 1, gold_minus, answer, 1, answer_minus)) return true;
      // 50 % is also 1/2.
      const Rational hundredth = Rational::Of(1, 100);
      return percent(gold) != percent(answer) &&
             Same(gold, percent(gold) ? hundredth : 1, gold_minus, answer,
                  percent(answer) ? hundredth : 1, answer_minus);
    }
    if (gold.unit.dimensions != answer.unit.dimensions) return false;
    return Same(gold, gold.unit.factor, gold_minus, answer, answer.unit.factor, answer_minus);
  }

  // Proved exactly, and seen in numbers.
  bool Same(const Value& gold, const Rational& gold_factor, bool gold_minus, const Value& answer,
            const Rational& answer_factor, bool answer_minus) {
    const auto times = [&](const Rational& factor, const Fraction& value) {
      return algebra_.Multiply({internal::Poly::Constant(factor), internal::Poly::Constant(1)},
                               value);
    };
    const Fraction a = times(gold_factor, internal::Exact(algebra_, *gold.node, gold_minus));
    undecided_ |= a.bad();
    const Fraction b = times(answer_factor, internal::Exact(algebra_, *answer.node, answer_minus));
    if (!algebra_.Equal(a, b)) return false;
    bool seen = false;
    for (int sample = 0; sample < 3; ++sample) {
      const auto x = internal::Numeric(*gold.node, gold_minus, sample) *
                     (static_cast<double>(gold_factor.num) / static_cast<double>(gold_factor.den));
      const auto y =
          internal::Numeric(*answer.node, answer_minus, sample) *
          (static_cast<double>(answer_factor.num) / static_cast<double>(answer_factor.den));
      const double size = std::abs(x) + std::abs(y);
      if (!std::isfinite(size)) continue;
      if (std::abs(x - y) > 1e-7 * std::max(1.0, size)) return false;
      seen = true;
    }
    return seen;
  }

  Algebra algebra_;
  bool undecided_ = false;
};

std::string KeyOf(const Value& value, const std::string& compact) {
  if (value.type != Type::kExpression || internal::HasPlusMinus(*value.node)) return compact;
  Algebra algebra;
  const Fraction exact = internal::Exact(algebra, *value.node, false);
  return exact.bad() ? compact : exact.Text();
}

// "(C)", "C", "\text{(C)}", "C.": the letter, else 0.
char Choice(std::string_view clean, bool parenthesised) {
  std::string text(clean);
  for (const char* style : {"\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "\\textrm{"}) {
    const std::string_view name = style;
    if (text.starts_with(name) && text.ends_with('}')) {
      text = text.substr(name.size(), text.size() - name.size() - 1);
    }
  }
  std::erase(text, ' ');
  const bool bracket = text.starts_with('(') && text.ends_with(')');
  if (bracket) text = text.substr(1, text.size() - 2);
  if (text.ends_with(')') || text.ends_with('.')) text.pop_back();
  if (text.size() != 1 || text[0] < 'A' || text[0] > 'Z') return 0;
  return bracket || !parenthesised ? text[0] : '\0';
}

AnswerCheck Compare(const std::string& gold, const std::string& answer) {
  const auto gold_tokens = internal::Tokenize(gold);
  const auto answer_tokens = internal::Tokenize(answer);
  AnswerCheck check{Verdict::kWrong, answer, {}};
  const std::string compact = answer_tokens ? internal::CompactText(*answer_tokens) : answer;
  check.key = compact;
  if (gold == answer ||
      (gold_tokens && answer_tokens && internal::CompactText(*gold_tokens) == compact)) {
    check.verdict = Verdict::kRight;
    check.reason = "same text";
  }
  if (answer_tokens) {
    if (const auto value = internal::ParseAnswer(*answer_tokens); value.ok()) {
      check.key = KeyOf(*value, compact);
    }
  }
  if (check.verdict == Verdict::kRight) return check;
  if (const char choice = Choice(gold, true)) {
    check.verdict = Choice(answer, false) == choice ? Verdict::kRight : Verdict::kWrong;
    check.reason = "choice";
    return check;
  }
  if (const std::string words = internal::WordsOf(gold, false); !words.empty()) {
    check.verdict = internal::WordsOf(answer, true) == words ? Verdict::kRight : Verdict::kWrong;
    check.reason = "words";
    return check;
  }
  if (!gold_tokens) return {Verdict::kError, compact, "gold: not an answer's signs"};
  const auto gold_value = internal::ParseAnswer(*gold_tokens);
  if (!gold_value.ok()) {
    // A gold answer in plain words.
    const std::string words = internal::WordsOf(gold, true);
    if (words.empty()) return {Verdict::kError, compact, "gold: " + gold_value.error().message};
    check.verdict = internal::WordsOf(answer, true) == words ? Verdict::kRight : Verdict::kWrong;
    check.reason = "words";
    return check;
  }
  if (gold_value->type == Type::kText) {
    check.verdict = internal::WordsOf(answer, true) == internal::WordsOf(gold, true) &&
                            !internal::WordsOf(gold, true).empty()
                        ? Verdict::kRight
                        : Verdict::kWrong;
    check.reason = "words";
    return check;
  }
  if (!answer_tokens) {
    check.reason = "answer: not an answer's signs";
    return check;
  }
  const auto answer_value = internal::ParseAnswer(*answer_tokens);
  if (!answer_value.ok()) {
    check.reason = "answer: " + answer_value.error().message;
    return check;
  }
  Comparison comparison;
  const bool equal = comparison.Equal(*gold_value, *answer_value);
  const bool undecided = !equal && comparison.undecided();
  check.verdict = equal ? Verdict::kRight : undecided ? Verdict::kError : Verdict::kWrong;
  check.reason = equal ? "equal" : undecided ? "gold: beyond exact arithmetic" : "different";
  return check;
}

}  // namespace

AnswerCheck CheckAnswer(std::string_view gold, std::string_view answer) {
  if (gold.size() > kMostBytes) return {Verdict::kError, {}, "gold: too long"};
  if (answer.size() > kMostBytes) return {Verdict::kWrong, {}, "answer: too long"};
  const std::string clean_gold = internal::CleanAnswer(gold);
  const std::string clean_answer = internal::CleanAnswer(answer);
  if (clean_gold.empty()) return {Verdict::kError, {}, "gold: empty"};
  if (clean_answer.empty()) return {Verdict::kWrong, {}, "answer: empty"};
  return Compare(clean_gold, clean_answer);
}

}  // namespace hadal::eval
