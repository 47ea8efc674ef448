// Circuits of gates and truth tables. The answer is a vector of bits, so that a guess is rarely
// right.
#include <string>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

struct LogicLevel {
  int variables, gates, depth, tables;
};
constexpr LogicLevel kLogicLevels[kLevels] = {{2, 5, 1, 0},  {3, 6, 1, 0}, {3, 7, 1, 0},
                                              {4, 8, 1, 0},  {4, 8, 2, 1}, {4, 10, 3, 1},
                                              {5, 12, 4, 1}, {6, 16, 5, 1}};

std::vector<Knob> LogicKnobs(int level) {
  const auto& l = kLogicLevels[level - 1];
  return {{"variables", l.variables}, {"gates", l.gates}, {"depth", l.depth}, {"tables", l.tables}};
}

// A formula in reverse Polish order: 'a'.. are signals, & | ^ take two, ! takes one.
using Formula = std::string;

Formula PickFormula(Draft& d, int signals, int depth) {
  if (depth == 0) return Formula(1, static_cast<char>('a' + d.Pick(0, signals - 1)));
  const char op = "&|^!"[d.Pick(0, 3)];
  Formula formula = PickFormula(d, signals, depth - 1);
  if (op != '!') {
    const int other = depth == 1 ? 0 : static_cast<int>(d.Pick(0, 1));
    Formula right = PickFormula(d, signals, other);
    if (right == formula) right = Formula(1, formula[0] == 'a' ? 'b' : 'a');
    formula += right;
  }
  return formula + op;
}

std::string_view WordOf(char op) { return op == '&' ? " and " : op == '|' ? " or " : " xor "; }

// In words or in signs, every inner operation in parentheses.
std::string Infix(const Formula& formula, bool in_words) {
  std::vector<std::string> stack;
  for (const char c : formula) {
    if (c >= 'a' && c <= 'z') {
      stack.emplace_back(1, c);
    } else if (c == '!') {
      stack.back() = (in_words ? "(not " : "(!") + stack.back() + ")";
    } else {
      std::string right = std::move(stack.back());
      stack.pop_back();
      const std::string op = in_words ? std::string(WordOf(c)) : std::string(1, c);
      stack.back() = "(" + stack.back() + op + right + ")";
    }
  }
  std::string& all = stack.back();
  return all.starts_with('(') ? all.substr(1, all.size() - 2) : all;
}

// The value, each operation written: "1&0=0 !0=1".
int WriteValue(Text& text, const Formula& formula, const std::vector<int>& signals) {
  std::vector<int> stack;
  for (const char c : formula) {
    if (c >= 'a' && c <= 'z') {
      stack.push_back(signals[static_cast<size_t>(c - 'a')]);
      continue;
    }
    const int right = stack.back();
    if (c == '!') {
      stack.back() = 1 - right;
      text << '!' << right << '=' << stack.back() << ' ';
      continue;
    }
    stack.pop_back();
    const int left = stack.back();
    stack.back() = c == '&' ? left & right : c == '|' ? left | right : left ^ right;
    text << left << c << right << '=' << stack.back() << ' ';
  }
  return stack.back();
}

void MakeCircuit(Draft& d, const LogicLevel& l) {
  std::vector<int> signals;
  d.canonical << "circuit ";
  for (int i = 0; i < l.variables; ++i) {
    signals.push_back(static_cast<int>(d.Pick(0, 1)));
    d.canonical << signals.back();
    d.prompt << (i > 0 ? ", " : "") << static_cast<char>('a' + i) << " = " << signals.back();
  }
  for (int i = 0; i < l.gates; ++i) {
    const char name = static_cast<char>('a' + l.variables + i);
    const int depth = static_cast<int>(d.Pick(l.depth > 1 ? l.depth - 1 : 1, l.depth));
    const Formula formula = PickFormula(d, static_cast<int>(signals.size()), depth);
    d.canonical << ' ' << formula;
    d.prompt << ", " << name << " = " << Infix(formula, true);
    d.thought << name << ": " << Infix(formula, false) << ' ';
    signals.push_back(WriteValue(d.thought, formula, signals));
    d.gold << signals.back();
    d.thought << d.gold;  // the bits so far
    d.thought.EndLine();
  }
  const char first = static_cast<char>('a' + l.variables);
  const char last = static_cast<char>('a' + l.variables + l.gates - 1);
  d.prompt << d.Say(". Give the bits of ", "。依次写出 ") << first << d.Say(" to ", " 到 ") << last
           << d.Say(" in one row.", " 的值, 写成一行。");
}

void MakeTable(Draft& d, const LogicLevel& l) {
  const int variables = l.variables < 4 ? l.variables : 4;
  const Formula formula = PickFormula(d, variables, l.depth + 1);
  d.canonical << "table " << variables << ' ' << formula;
  const char last = static_cast<char>('a' + variables - 1);
  d.prompt << d.Say("Give the truth table of ", "写出真值表: ") << Infix(formula, true)
           << d.Say(", its bits in one row, for a to ", ", 各值写成一行, a 到 ") << last
           << d.Say(" from all 0 to all 1, ", " 从全 0 到全 1, ") << last
           << d.Say(" changing fastest.", " 变化最快。");
  for (int row = 0; row < 1 << variables; ++row) {
    std::vector<int> signals;
    for (int i = variables - 1; i >= 0; --i) {
      signals.push_back(row >> i & 1);
      d.thought << signals.back();
    }
    d.thought << ": ";
    d.gold << WriteValue(d.thought, formula, signals);
    d.thought.EndLine();
  }
}

void MakeLogic(Draft& d) {
  const auto& l = kLogicLevels[d.level - 1];
  if (l.tables && d.Chance(50)) {
    MakeTable(d, l);
  } else {
    MakeCircuit(d, l);
  }
  d.thought << d.gold;
}

Verdict VerifyLogic(const Problem& problem, std::string_view answer) {
  if (problem.gold.empty() || problem.gold.find_first_not_of("01") != std::string::npos) {
    return Verdict::kError;
  }
  return Trim(answer) == problem.gold ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace

const FamilyEntry kLogicFamily = {"logic", MakeLogic, VerifyLogic, LogicKnobs};

}  // namespace hadal::problems
