// Running programs: registers with loops, a stack, one-dimensional automata.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/steps.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

struct ProgramLevel {
  int instructions, registers, nesting;
  int kinds;  // 1: registers, 2: and stack, 3: and automaton
  int width, steps;
  int64_t largest;
};
constexpr ProgramLevel kProgramLevels[kLevels] = {
    {3, 2, 0, 1, 5, 1, 30},     {4, 2, 0, 2, 5, 1, 50},     {5, 2, 0, 3, 5, 1, 99},
    {5, 3, 1, 3, 6, 2, 99},     {8, 3, 1, 3, 8, 2, 999},    {12, 4, 1, 3, 10, 3, 9999},
    {20, 4, 2, 3, 12, 5, 9999}, {40, 4, 2, 3, 12, 8, 99999}};

std::vector<Knob> ProgramKnobs(int level) {
  const auto& l = kProgramLevels[level - 1];
  return {{"instructions", l.instructions},
          {"registers", l.registers},
          {"nesting", l.nesting},
          {"kinds", l.kinds},
          {"width", l.width},
          {"steps", l.steps}};
}

// Two digits and less are added by heart, more in columns.
int64_t WriteSmall(Text& text, int64_t a, char op, int64_t b) {
  if (op == '*') {
    const int64_t size = a < 0 ? -a : a;
    if (size >= 100) WriteMultiply(text, size, b);
    if (size < 100 || a < 0) text << a << "*" << b << "=" << a * b << ' ';
    return a * b;
  }
  const int64_t result = op == '+' ? a + b : a - b;
  const int64_t signed_b = op == '+' ? b : -b;
  if (a > -100 && a < 100 && b > -100 && b < 100 && b >= 0) {
    text << a << op << b << '=' << result << ' ';
  } else {
    WriteSignedAdd(text, a, signed_b);
  }
  return result;
}

// ---- registers ----

struct Instruction {
  char op = '=';    // = + - *, r: repeat `value` times, e: end of a repeat
  char target = 0;  // register letters
  char source = 0;  // 0: the number `value`
  int64_t value = 0;
};

void WriteInstruction(Text& text, const Instruction& i, bool spaced) {
  const std::string_view gap = spaced ? " " : "";
  text << i.target << gap << '=' << gap;
  if (i.op != '=') text << i.target << gap << i.op << gap;
  if (i.source != 0) {
    text << i.source;
  } else {
    text << i.value;
  }
}

class Registers {
 public:
  Registers(Draft& d, const ProgramLevel& l) : d_(d), l_(l) {
    for (int i = 0; i < l.registers; ++i) {
      code_.push_back({'=', static_cast<char>('a' + i), 0, d.Pick(1, 9)});
      initial_.push_back(code_.back().value);
    }
    int left = l.instructions;
    while (left > 0) left -= Block(l.nesting, left);
  }

  const std::vector<Instruction>& code() const { return code_; }

  // Runs the code and writes every step; false where a number grows past the level's bound.
  bool Run(Text& text, std::vector<int64_t>& values) {
    values = initial_;
    WriteState(text, values);
    return RunRange(text, values, values.size(), code_.size());
  }

 private:
  // One instruction, or a loop of a few; how many instructions were written.
  int Block(int nesting, int left) {
    if (nesting > 0 && left >= 3 && d_.Chance(40)) {
      code_.push_back({'r', 0, 0, d_.Pick(2, 3)});
      const int inside = static_cast<int>(d_.Pick(1, std::min(left - 2, 3)));
      int done = 0;
      while (done < inside) done += Block(nesting - 1, inside - done);
      code_.push_back({'e', 0, 0, 0});
      return done + 2;
    }
    Instruction i;
    i.op = "++--*="[d_.Pick(0, 5)];
    i.target = PickRegister();
    if (i.op == '*') {
      i.value = d_.Pick(2, 3);
    } else if (d_.Chance(50)) {
      do i.source = PickRegister();
      while (i.source == i.target);
    } else {
      i.value = d_.Pick(1, 9);
    }
    code_.push_back(i);
    return 1;
  }

  char PickRegister() { return static_cast<char>('a' + d_.Pick(0, l_.registers - 1)); }

  bool RunRange(Text& text, std::vector<int64_t>& values, size_t first, size_t last) {
    for (size_t at = first; at < last; ++at) {
      const Instruction& i = code_[at];
      if (i.op == 'r') {
        const size_t end = EndOf(at);
        for (int64_t round = 1; round <= i.value; ++round) {
          text << "round " << round;
          text.EndLine();
          if (!RunRange(text, values, at + 1, end)) return false;
        }
        at = end;
        continue;
      }
      int64_t& target = values[static_cast<size_t>(i.target - 'a')];
      const int64_t operand = i.source != 0 ? values[static_cast<size_t>(i.source - 'a')] : i.value;
      WriteInstruction(text, i, false);
      text << ": ";
      if (i.op == '=') {
        target = operand;
      } else if (operand < 0) {
        // Minus a negative number is plus its size.
        target = WriteSmall(text, target, i.op == '+' ? '-' : '+', -operand);
      } else {
        target = WriteSmall(text, target, i.op, operand);
      }
      WriteState(text, values);
      if (target > l_.largest || target < -l_.largest) return false;
    }
    return true;
  }

  static void WriteState(Text& text, const std::vector<int64_t>& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      text << static_cast<char>('a' + i) << ' ' << values[i] << ' ';
    }
    text.EndLine();
  }

  size_t EndOf(size_t at) const {
    int depth = 0;
    for (;; ++at) {
      depth += code_[at].op == 'r';
      depth -= code_[at].op == 'e';
      if (depth == 0) return at;
    }
  }

  Draft& d_;
  const ProgramLevel& l_;
  std::vector<Instruction> code_;
  std::vector<int64_t> initial_;
};

void WriteList(Text& text, const std::vector<int64_t>& values) {
  for (size_t i = 0; i < values.size(); ++i) text << (i > 0 ? ", " : "") << values[i];
}

void MakeRegisters(Draft& d, const ProgramLevel& l) {
  for (;;) {
    Registers program(d, l);
    Text trace;
    std::vector<int64_t> values;
    const size_t longest = d.level <= 4 ? 300 : 9000;
    if (!program.Run(trace, values) || trace.str().size() > longest) continue;
    d.canonical << "registers " << l.registers;
    d.prompt << d.Say("Run this program:\n", "运行这个程序:\n");
    int depth = 0;
    for (const auto& i : program.code()) {
      d.canonical << ' ';
      if (i.op == 'e') --depth;
      d.prompt << std::string(static_cast<size_t>(2 * depth), ' ');
      if (i.op == 'r') {
        d.canonical << "repeat" << i.value;
        d.prompt << "repeat " << i.value << '\n';
        ++depth;
      } else if (i.op == 'e') {
        d.canonical << "end";
        d.prompt << "end\n";
      } else {
        WriteInstruction(d.canonical, i, false);
        WriteInstruction(d.prompt, i, true);
        d.prompt << '\n';
      }
    }
    const char last = static_cast<char>('a' + l.registers - 1);
    d.prompt << d.Say("Give a to ", "依次写出 a 到 ") << last
             << d.Say(" at its end, with commas.", " 最后的值, 用逗号分开。");
    d.thought << trace;
    WriteList(d.gold, values);
    d.thought << d.gold;
    return;
  }
}

// ---- stack ----

void MakeStack(Draft& d, const ProgramLevel& l) {
  std::vector<int64_t> stack;
  d.prompt << d.Say("Run on an empty stack:", "从空栈开始运行:");
  d.canonical << "stack";
  for (int i = 0; i < l.instructions + 2; ++i) {
    const auto size = stack.size();
    if (size < 2 || (size < 5 && d.Chance(35))) {
      const int64_t value = d.Pick(1, 9);
      d.prompt << (i > 0 ? ", push " : " push ") << value;
      d.canonical << ' ' << value;
      stack.push_back(value);
    } else {
      const int64_t right = stack.back(), left = stack[size - 2];
      size_t op = static_cast<size_t>(d.Pick(0, 2));
      if (op == 1 && left < right) op = 0;
      if (op == 2 && left * right > l.largest) op = left >= right ? 1 : 0;
      constexpr std::array<std::string_view, 3> kNames = {"add", "sub", "mul"};
      d.prompt << ", " << kNames[op];
      d.canonical << ' ' << kNames[op];
      stack.pop_back();
      if (op == 2) {
        stack.back() = WriteMultiply(d.thought, left, right);
        d.thought.EndLine();
      } else {
        stack.back() = WriteSmall(d.thought, left, "+-"[op], right);
      }
    }
    for (const int64_t value : stack) d.thought << value << ' ';
    d.thought.EndLine();
  }
  d.prompt << d.Say(". Give the stack from bottom to top, with commas.",
                    "。从底到顶写出栈, 用逗号分开。");
  WriteList(d.gold, stack);
}

// ---- automaton ----

void MakeAutomaton(Draft& d, const ProgramLevel& l) {
  const int rule = static_cast<int>(d.Pick(1, 254));
  std::string cells;
  do {
    cells.clear();
    for (int i = 0; i < l.width; ++i) cells += static_cast<char>('0' + d.Pick(0, 1));
  } while (cells.find('1') == std::string::npos);
  d.canonical << "automaton " << rule << ' ' << l.steps << ' ' << cells;
  d.prompt << d.Say("A cell and its two neighbours give the new cell: ",
                    "一格和左右两格决定新的一格: ");
  for (int i = 7; i >= 0; --i) {
    d.prompt << (i >> 2 & 1) << (i >> 1 & 1) << (i & 1) << ':' << (rule >> i & 1)
             << (i > 0 ? " " : "");
  }
  d.prompt << d.Say(". Outside is 0. Row ", "。外面是 0。行 ") << cells
           << d.Say(". Give the row after ", "。写出第 ") << l.steps
           << d.Say(l.steps == 1 ? " step." : " steps.", " 步后的行。");
  for (int step = 0; step < l.steps; ++step) {
    const std::string padded = '0' + cells + '0';
    for (size_t i = 0; i < cells.size(); ++i) {
      const int index = (padded[i] - '0') * 4 + (padded[i + 1] - '0') * 2 + (padded[i + 2] - '0');
      cells[i] = static_cast<char>('0' + (rule >> index & 1));
      d.thought << padded.substr(i, 3) << ':' << cells[i] << ' ';
    }
    d.thought.EndLine();
    d.thought << cells;
    d.thought.EndLine();
  }
  d.gold << cells;
}

void MakeProgram(Draft& d) {
  const auto& l = kProgramLevels[d.level - 1];
  switch (d.Pick(1, l.kinds)) {
    case 1:
      return MakeRegisters(d, l);
    case 2:
      return MakeStack(d, l);
    default:
      return MakeAutomaton(d, l);
  }
}

Verdict VerifyProgram(const Problem& problem, std::string_view answer) {
  if (problem.canonical.starts_with("automaton")) {
    if (problem.gold.empty()) return Verdict::kError;
    return Trim(answer) == problem.gold ? Verdict::kRight : Verdict::kWrong;
  }
  const auto gold = ParseIntegers(problem.gold);
  if (!gold) return Verdict::kError;
  return ParseIntegers(answer) == gold ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace

const FamilyEntry kProgramFamily = {"program", MakeProgram, VerifyProgram, ProgramKnobs};

}  // namespace hadal::problems
