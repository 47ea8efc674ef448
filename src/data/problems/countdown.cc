// Countdown: an expression over the given numbers, each once, that reaches the target.
//
// The trace with three numbers left tries every pair and operation in a fixed order, so a reader
// who follows the order always arrives. Of the last two numbers the larger, h, decides what can
// still reach the target: below it a sum or product, at or above it a difference or quotient.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

struct CountdownLevel {
  int numbers;
  int64_t largest, target;
  int operations;
};
constexpr CountdownLevel kCountdownLevels[kLevels] = {
    {3, 9, 30, 2},   {3, 10, 60, 3},  {3, 12, 99, 4},  {3, 15, 150, 4},
    {4, 25, 200, 4}, {4, 50, 500, 4}, {5, 75, 999, 4}, {6, 100, 999, 4}};

std::vector<Knob> CountdownKnobs(int level) {
  const auto& l = kCountdownLevels[level - 1];
  return {{"numbers", l.numbers},
          {"largest", l.largest},
          {"target", l.target},
          {"operations", l.operations}};
}

struct Item {
  int64_t value = 0;
  std::string text;
  bool compound = false;
};

std::optional<int64_t> Apply(int64_t a, char op, int64_t b) {
  if (op == '+') return a + b;
  if (op == '-') return a >= b ? std::optional(a - b) : std::nullopt;
  if (op == '*') return a * b;
  if (b > 0 && a % b == 0) return a / b;
  return std::nullopt;
}

std::string Wrapped(const Item& item) { return item.compound ? '(' + item.text + ')' : item.text; }

Item Joined(const Item& a, char op, const Item& b) {
  return {Apply(a.value, op, b.value).value_or(0), Wrapped(a) + op + Wrapped(b), true};
}

void SortDown(std::vector<Item>& items) {
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.value > b.value; });
}

void WriteValues(Text& text, const std::vector<Item>& items) {
  for (const auto& item : items) text << item.value << ' ';
}

// Two numbers left.
std::optional<Item> WriteLast(Text& text, const Item& a, const Item& b, int64_t target) {
  const Item& high = a.value >= b.value ? a : b;
  const Item& low = a.value >= b.value ? b : a;
  const std::string_view ops = high.value < target ? "+*" : "-/";
  for (const char op : ops) {
    const auto value = Apply(high.value, op, low.value);
    if (!value) continue;
    text << high.value << op << low.value;
    if (*value > target) {
      text << '>' << target << ' ';
    } else {
      text << '=' << *value << ' ';
    }
    if (*value == target) {
      text << "yes";
      text.EndLine();
      return Joined(high, op, low);
    }
  }
  return std::nullopt;
}

// Three numbers, largest first: every pair, every operation, in order.
std::optional<Item> WriteSearch(Text& text, const std::vector<Item>& items, int64_t target) {
  constexpr std::array<std::array<size_t, 3>, 3> kPairs = {{{0, 1, 2}, {0, 2, 1}, {1, 2, 0}}};
  for (const auto& [i, j, k] : kPairs) {
    for (const char op : std::string_view("+-*/")) {
      const auto value = Apply(items[i].value, op, items[j].value);
      if (!value || (op == '/' && items[j].value == 1)) continue;  // as times 1
      text << items[i].value << op << items[j].value << '=' << *value << ": ";
      const Item joined = Joined(items[i], op, items[j]);
      if (auto found = WriteLast(text, joined, items[k], target)) return found;
      text.EndLine();
    }
  }
  return std::nullopt;
}

struct Step {
  size_t left, right;
  char op;
};

struct Instance {
  std::vector<int64_t> numbers;
  std::vector<Step> steps;  // positions in the list sorted down before the step
  int64_t target = 0;
};

// Replaces two items by their result.
void Join(std::vector<Item>& items, const Step& step) {
  Item joined = Joined(items[step.left], step.op, items[step.right]);
  items.erase(items.begin() + static_cast<ptrdiff_t>(std::max(step.left, step.right)));
  items.erase(items.begin() + static_cast<ptrdiff_t>(std::min(step.left, step.right)));
  items.push_back(std::move(joined));
  SortDown(items);
}

std::vector<Item> ItemsOf(const std::vector<int64_t>& numbers) {
  std::vector<Item> items;
  for (const int64_t number : numbers) items.push_back({number, std::to_string(number), false});
  SortDown(items);
  return items;
}

// A random step that leads to a number in [1, bound], or nothing.
std::optional<Step> PickStep(Draft& d, const std::vector<Item>& items, int operations,
                             int64_t bound) {
  const int64_t count = static_cast<int64_t>(items.size());
  Step step{static_cast<size_t>(d.Pick(0, count - 1)), static_cast<size_t>(d.Pick(0, count - 2)),
            "+-*/"[d.Pick(0, operations - 1)]};
  if (step.right >= step.left) ++step.right;
  if (step.left > step.right) std::swap(step.left, step.right);  // the larger number first
  const auto value = Apply(items[step.left].value, step.op, items[step.right].value);
  if (!value || *value < 1 || *value > bound) return std::nullopt;
  return step;
}

Instance PickInstance(Draft& d, const CountdownLevel& l) {
  for (;;) {
    Instance instance;
    for (int i = 0; i < l.numbers; ++i) instance.numbers.push_back(d.Pick(1, l.largest));
    auto items = ItemsOf(instance.numbers);
    while (items.size() > 1) {
      const auto step = PickStep(d, items, l.operations, 2 * l.target);
      if (!step) break;
      instance.steps.push_back(*step);
      Join(items, *step);
    }
    if (items.size() > 1 || items[0].value < 5 || items[0].value > l.target) continue;
    instance.target = items[0].value;
    return instance;
  }
}

std::string WriteTrace(Draft& d, const Instance& instance) {
  auto items = ItemsOf(instance.numbers);
  Text& text = d.thought;
  WriteValues(text, items);
  text << "-> " << instance.target;
  text.EndLine();
  for (const Step& step : instance.steps) {
    if (items.size() == 3) break;
    // At times a wrong branch first, searched to its end.
    const auto wrong = PickStep(d, items, 4, 999);
    if (wrong && items.size() == 4 && d.Chance(60)) {
      auto branch = items;
      Join(branch, *wrong);
      text << items[wrong->left].value << wrong->op << items[wrong->right].value << '='
           << *Apply(items[wrong->left].value, wrong->op, items[wrong->right].value) << " left ";
      WriteValues(text, branch);
      text.EndLine();
      if (auto found = WriteSearch(text, branch, instance.target)) return found->text;
      text << "back ";
      WriteValues(text, items);
      text.EndLine();
    }
    text << items[step.left].value << step.op << items[step.right].value << '='
         << *Apply(items[step.left].value, step.op, items[step.right].value) << " left ";
    Join(items, step);
    WriteValues(text, items);
    text.EndLine();
  }
  return WriteSearch(text, items, instance.target).value_or(Item{}).text;
}

void MakeCountdown(Draft& d) {
  const auto& l = kCountdownLevels[d.level - 1];
  const Instance instance = PickInstance(d, l);
  auto sorted = instance.numbers;
  std::sort(sorted.begin(), sorted.end());
  d.canonical << instance.target;
  for (const int64_t number : sorted) d.canonical << ' ' << number;
  d.prompt << d.Say("Use each of ", "用 ");
  for (size_t i = 0; i < instance.numbers.size(); ++i) {
    d.prompt << (i > 0 ? ", " : "") << instance.numbers[i];
  }
  d.prompt << d.Say(" exactly once with + - * / and parentheses to make ",
                    " 每个数恰好一次, 用 + - * / 和括号得到 ")
           << instance.target << d.Say(".", "。");
  d.gold << WriteTrace(d, instance);
  d.thought << instance.target << '=' << d.gold;
}

Verdict VerifyCountdown(const Problem& problem, std::string_view answer) {
  Fields fields(problem.canonical);
  const int64_t target = fields.Integer(0, 1'000'000);
  std::vector<int64_t> numbers;
  while (fields.ok() && !fields.AtEnd()) numbers.push_back(fields.Integer(0, 1'000'000));
  if (!fields.ok() || numbers.size() < 2 || numbers.size() > 16) return Verdict::kError;
  auto expression = ParseExpression(answer);
  if (!expression || expression->value != Rational{target, 1}) return Verdict::kWrong;
  std::sort(numbers.begin(), numbers.end());
  std::sort(expression->literals.begin(), expression->literals.end());
  return expression->literals == numbers ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace

const FamilyEntry kCountdownFamily = {"countdown", MakeCountdown, VerifyCountdown, CountdownKnobs};

}  // namespace hadal::problems
