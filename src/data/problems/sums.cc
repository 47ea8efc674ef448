// Chains of sums, mixed arithmetic with parentheses, long multiplication.
#include <array>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/steps.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

void AskValue(Draft& d, const Text& expression) {
  d.prompt << d.Say("Compute ", "计算 ") << expression << d.Say(".", "。");
}

int64_t PickDigits(Draft& d, int digits) {
  return d.Pick(1, kPowersOf10[d.Pick(digits > 1 ? digits - 1 : 1, digits)] - 1);
}

// ---- chain ----

struct ChainLevel {
  int terms, digits, negatives;
};
constexpr ChainLevel kChainLevels[kLevels] = {{2, 2, 0}, {3, 2, 0}, {3, 3, 0}, {4, 3, 1},
                                              {4, 4, 1}, {5, 5, 1}, {6, 6, 1}, {8, 8, 1}};

std::vector<Knob> ChainKnobs(int level) {
  const auto& l = kChainLevels[level - 1];
  return {{"terms", l.terms}, {"digits", l.digits}, {"negatives", l.negatives}};
}

void MakeChain(Draft& d) {
  const auto& l = kChainLevels[d.level - 1];
  std::array<int64_t, 8> terms;
  int64_t total = terms[0] = PickDigits(d, l.digits);
  Text expression;
  expression << total;
  for (int i = 1; i < l.terms; ++i) {
    int64_t term = PickDigits(d, l.digits);
    if (d.Chance(50) && (l.negatives || term <= total)) term = -term;
    expression << (term < 0 ? " - " : " + ") << (term < 0 ? -term : term);
    total += term;
    terms[static_cast<size_t>(i)] = term;
  }
  d.canonical << expression;
  AskValue(d, expression);
  int64_t running = terms[0];
  for (int i = 1; i < l.terms; ++i) {
    running = WriteSignedAdd(d.thought, running, terms[static_cast<size_t>(i)]);
    d.thought.EndLine();
  }
  d.gold << total;
}

// ---- mixed ----

struct MixedLevel {
  int terms, digits, depth;
  int64_t largest;
  int division;
};
constexpr MixedLevel kMixedLevels[kLevels] = {
    {3, 1, 0, 99, 0},   {3, 1, 1, 150, 0},   {3, 2, 1, 500, 1},    {4, 2, 1, 999, 1},
    {4, 2, 2, 9999, 1}, {5, 3, 2, 99999, 1}, {6, 3, 3, 999999, 1}, {7, 4, 3, 99999999, 1}};

std::vector<Knob> MixedKnobs(int level) {
  const auto& l = kMixedLevels[level - 1];
  return {{"terms", l.terms},
          {"digits", l.digits},
          {"depth", l.depth},
          {"largest", l.largest},
          {"division", l.division}};
}

struct Node {
  char op = 0;  // 0: a number
  int left = -1, right = -1;
  int64_t value = 0;
};

class Mixed {
 public:
  Mixed(Draft& d, const MixedLevel& l) : d_(d), l_(l) {
    do {
      used_ = 0;
      root_ = Build(l.terms);
    } while (Depth(root_) > l.depth);
  }

  int64_t value() const { return nodes_[Index(root_)].value; }
  void Print(Text& text) const { Print(text, root_); }

  // Works out the first operation whose two sides are numbers; false when one number is left.
  bool Reduce(Text& text) {
    if (nodes_[Index(root_)].op == 0) return false;
    Node& node = nodes_[Index(Innermost(root_))];
    const int64_t a = nodes_[Index(node.left)].value, b = nodes_[Index(node.right)].value;
    if (node.op == '+') WriteAdd(text, a, b);
    if (node.op == '-') WriteSubtract(text, a, b);
    if (node.op == '*') WriteMultiply(text, a, b);
    if (node.op == '/') {
      WriteDivide(text, a, b);
      text << a << '/' << b << '=' << a / b;
    }
    text.EndLine();
    node.op = 0;
    return nodes_[Index(root_)].op != 0;
  }

 private:
  static size_t Index(int i) { return static_cast<size_t>(i); }

  int Add(const Node& node) {
    nodes_[Index(used_)] = node;
    return used_++;
  }

  int Build(int terms) {
    if (terms == 1) return Add({0, -1, -1, PickDigits(d_, l_.digits)});
    const int left_terms = static_cast<int>(d_.Pick(1, terms - 1));
    int left = Build(left_terms), right = Build(terms - left_terms);
    int64_t a = nodes_[Index(left)].value, b = nodes_[Index(right)].value;
    char op = "+-**//"[d_.Pick(0, l_.division ? 5 : 3)];
    if (op == '/') {
      const int64_t limit = (kPowersOf10[l_.digits] - 1) / (b > 0 ? b : 1);
      if (left_terms == 1 && b > 1 && limit >= 2) {
        a = nodes_[Index(left)].value = b * d_.Pick(2, limit);
      } else if (b <= 1 || a % b != 0) {
        op = '+';
      }
    }
    if (op == '*' && (a > l_.largest / (b > 0 ? b : 1))) op = '-';
    if (op == '-' && a < b) std::swap(left, right), std::swap(a, b);
    const int64_t value = op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : a / b;
    return Add({op, left, right, value});
  }

  static int Rank(char op) { return op == 0 ? 3 : op == '*' || op == '/' ? 2 : 1; }

  bool Parenthesised(const Node& parent, int child) const {
    const int rank = Rank(nodes_[Index(child)].op), outer = Rank(parent.op);
    return rank < outer || (rank == outer && child == parent.right);
  }

  int Depth(int at) const {
    const Node& node = nodes_[Index(at)];
    if (node.op == 0) return 0;
    const int left = Depth(node.left) + Parenthesised(node, node.left);
    const int right = Depth(node.right) + Parenthesised(node, node.right);
    return left > right ? left : right;
  }

  void Print(Text& text, int at) const {
    const Node& node = nodes_[Index(at)];
    if (node.op == 0) {
      text << node.value;
      return;
    }
    PrintChild(text, node, node.left);
    text << node.op;
    PrintChild(text, node, node.right);
  }

  void PrintChild(Text& text, const Node& parent, int child) const {
    const bool parens = Parenthesised(parent, child);
    if (parens) text << '(';
    Print(text, child);
    if (parens) text << ')';
  }

  int Innermost(int at) const {
    const Node& node = nodes_[Index(at)];
    if (nodes_[Index(node.left)].op != 0) return Innermost(node.left);
    if (nodes_[Index(node.right)].op != 0) return Innermost(node.right);
    return at;
  }

  Draft& d_;
  const MixedLevel& l_;
  std::array<Node, 16> nodes_;
  int used_ = 0, root_ = 0;
};

void MakeMixed(Draft& d) {
  Mixed mixed(d, kMixedLevels[d.level - 1]);
  Text expression;
  mixed.Print(expression);
  d.canonical << expression;
  AskValue(d, expression);
  d.gold << mixed.value();
  while (mixed.Reduce(d.thought)) {
    mixed.Print(d.thought);
    d.thought.EndLine();
  }
}

// ---- multiply ----

struct MultiplyLevel {
  int factors, digits, last_digits;
};
constexpr MultiplyLevel kMultiplyLevels[kLevels] = {{2, 2, 1}, {2, 3, 1}, {2, 2, 2}, {2, 3, 2},
                                                    {2, 3, 3}, {2, 4, 4}, {3, 4, 4}, {4, 4, 4}};

std::vector<Knob> MultiplyKnobs(int level) {
  const auto& l = kMultiplyLevels[level - 1];
  // The products of single digits that the written method takes.
  const int work = l.digits * l.last_digits * (l.factors - 1) * l.factors / 2;
  return {{"factors", l.factors}, {"digits", l.digits + l.last_digits}, {"work", work}};
}

void MakeMultiply(Draft& d) {
  const auto& l = kMultiplyLevels[d.level - 1];
  std::array<int64_t, 4> factors;
  Text expression;
  for (int i = 0; i < l.factors; ++i) {
    const int digits = i + 1 < l.factors ? l.digits : l.last_digits;
    const int64_t low = digits == 1 ? 2 : kPowersOf10[digits - 1];
    factors[static_cast<size_t>(i)] = d.Pick(low, kPowersOf10[digits] - 1);
  }
  // Either order of two factors is the same instance.
  const bool swapped = l.factors == 2 && d.Chance(50);
  if (l.factors == 2 && factors[0] < factors[1]) std::swap(factors[0], factors[1]);
  int64_t total = 1;
  for (int i = 0; i < l.factors; ++i) {
    const int64_t factor = factors[static_cast<size_t>(i)];
    d.canonical << (i > 0 ? "*" : "") << factor;
    expression << (i > 0 ? " * " : "") << factors[static_cast<size_t>(swapped ? 1 - i : i)];
    total *= factor;
  }
  AskValue(d, expression);
  int64_t running = factors[0];
  for (int i = 1; i < l.factors; ++i) {
    running = WriteMultiply(d.thought, running, factors[static_cast<size_t>(i)]);
    d.thought.EndLine();
  }
  d.gold << total;
}

}  // namespace

Verdict VerifyInteger(const Problem& problem, std::string_view answer) {
  const auto gold = ParseInteger(problem.gold);
  if (!gold) return Verdict::kError;
  const auto value = ParseInteger(answer);
  return value && *value == *gold ? Verdict::kRight : Verdict::kWrong;
}

const FamilyEntry kChainFamily = {"chain", MakeChain, VerifyInteger, ChainKnobs};
const FamilyEntry kMixedFamily = {"mixed", MakeMixed, VerifyInteger, MixedKnobs};
const FamilyEntry kMultiplyFamily = {"multiply", MakeMultiply, VerifyInteger, MultiplyKnobs};

}  // namespace hadal::problems
