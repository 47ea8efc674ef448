#include "data/problems/oracle_for_test.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <map>
#include <numeric>
#include <set>
#include <vector>

namespace hadal {
namespace {

std::vector<std::string> Words(std::string_view text, char separator = ' ') {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text) {
    if (c != separator) {
      word += c;
      continue;
    }
    words.push_back(word);
    word.clear();
  }
  words.push_back(word);
  return words;
}

std::vector<std::string> CommaList(std::string_view text) {
  auto parts = Words(text, ',');
  for (auto& part : parts) {
    if (part.starts_with(' ')) part.erase(0, 1);
  }
  return parts;
}

// What stands between the two texts.
std::string Between(const std::string& text, const std::string& before, const std::string& after) {
  const size_t first = text.find(before) + before.size();
  return text.substr(first, text.find(after, first) - first);
}

int64_t ToInt(const std::string& text) { return std::stoll(text); }

bool SameValue(const std::optional<WideRational>& value, const std::string& gold) {
  const auto wanted = EvaluateForTest(gold);
  return value && wanted && value->num * wanted->den == wanted->num * value->den;
}

bool Modular(const Problem& p) {
  const auto words = Words(p.canonical);  // "a^e mod m"
  const int64_t m = ToInt(words[2]);
  int64_t value = 0;
  if (const size_t at = words[0].find('^'); at != std::string::npos) {
    value = 1;
    for (int64_t i = ToInt(words[0].substr(at + 1)); i > 0; --i) {
      value = value * ToInt(words[0].substr(0, at)) % m;
    }
  } else {
    value = static_cast<int64_t>(EvaluateForTest(words[0])->num) % m;
  }
  return p.gold == std::to_string(value);
}

bool Divisors(const Problem& p) {
  const auto words = Words(p.canonical);
  int64_t value = ToInt(words[1]);
  for (size_t i = 2; i < words.size(); ++i) {
    value = words[0] == "gcd" ? std::gcd(value, ToInt(words[i])) : std::lcm(value, ToInt(words[i]));
  }
  return p.gold == std::to_string(value);
}

bool Factor(const Problem& p) {
  int64_t rest = ToInt(p.canonical);
  std::string wanted;
  for (int64_t f = 2; rest > 1; ++f) {
    for (; rest % f == 0; rest /= f) wanted += (wanted.empty() ? "" : "*") + std::to_string(f);
  }
  return p.gold == wanted;
}

bool Fraction(const Problem& p) {
  std::string formula = p.canonical;
  // "a/b * c/d": quotients first, so that a space binds less than the stroke.
  std::string grouped;
  for (const auto& word : Words(formula)) {
    size_t open = word.find_first_not_of('('), close = word.find_last_not_of(')') + 1;
    if (word.find('/') == std::string::npos) {
      grouped += word;
    } else {
      grouped +=
          word.substr(0, open) + '(' + word.substr(open, close - open) + ')' + word.substr(close);
    }
  }
  const auto gold = Words(p.gold, '/');
  const int64_t den = gold.size() > 1 ? ToInt(gold[1]) : 1;
  return SameValue(EvaluateForTest(grouped), p.gold) && std::gcd(ToInt(gold[0]), den) == 1;
}

int64_t Bits(const std::string& text, size_t& at) {
  int64_t value = 0;
  if (text[at] == '(') {
    value = Bits(text, ++at);
    ++at;
  } else {
    for (; at < text.size() && (text[at] == '0' || text[at] == '1'); ++at) {
      value = value * 2 + text[at] - '0';
    }
  }
  while (at < text.size() && text[at] == ' ') {
    const size_t end = text.find(' ', at + 1);
    const std::string op = text.substr(at + 1, end - at - 1);
    at = end + 1;
    int64_t right = 0;
    for (; at < text.size() && (text[at] == '0' || text[at] == '1'); ++at) {
      right = right * 2 + text[at] - '0';
    }
    value = op == "AND" ? value & right : op == "OR" ? value | right : value ^ right;
  }
  return value;
}

bool Base(const Problem& p) {
  const auto words = Words(p.canonical);
  if (words[0] == "ones") {
    return p.gold == std::to_string(std::popcount(static_cast<uint64_t>(ToInt(words[1]))));
  }
  int64_t value = 0;
  int base = 2;
  if (words[0] == "bits") {
    size_t at = 0;
    value = Bits(p.canonical.substr(5), at);
  } else {
    base = static_cast<int>(ToInt(words[1]));
    value = ToInt(words[2]);
  }
  char buffer[64];
  std::string digits(buffer, std::to_chars(buffer, buffer + 64, value, base).ptr);
  for (char& c : digits) c = c >= 'a' ? static_cast<char>(c - 32) : c;
  if (words[0] != "from") return p.gold == digits;
  return p.gold == words[2] && Between(p.prompt, "number ", " in") == digits;
}

bool Equation(const Problem& p) {
  // Both sides with x replaced, for every x that could be a root. x^k becomes a product.
  const std::string equation = Between(p.prompt, "Solve ", p.canonical[0] == 'l' ? " for" : ". ");
  std::set<int64_t> roots;
  for (int64_t x = -40; x <= 40; ++x) {
    const std::string number = "(" + std::to_string(x) + ")";
    std::string formula;
    for (size_t i = 0; i < equation.size(); ++i) {
      if (equation[i] == '^') {
        for (int k = equation[++i] - '0'; k > 1; --k) formula += "*" + number;
      } else if (equation[i] == 'x') {
        formula += number;
      } else {
        formula += equation[i];
      }
    }
    if (RelationHolds(formula)) roots.insert(x);
  }
  std::set<int64_t> gold;
  for (const auto& root : CommaList(p.gold)) gold.insert(ToInt(root));
  return gold == roots;
}

bool Countdown(const Problem& p) {
  auto words = Words(p.canonical);
  std::multiset<std::string> wanted(words.begin() + 1, words.end()), used;
  std::string number;
  for (const char c : p.gold + ' ') {
    if (c >= '0' && c <= '9') {
      number += c;
    } else if (!number.empty()) {
      used.insert(number);
      number.clear();
    }
  }
  return wanted == used && SameValue(EvaluateForTest(p.gold), words[0]);
}

bool Sort(const Problem& p) {
  size_t first = p.prompt.rfind(": ");
  first = first == std::string::npos ? p.prompt.find(" of ") + 4 : first + 2;
  auto entries = CommaList(p.prompt.substr(first, p.prompt.size() - 1 - first));
  const bool numbers = entries[0][0] <= '9';
  // Bubble sort by value or by dictionary.
  const auto less = [&](const std::string& a, const std::string& b) {
    return numbers ? std::stod(a) < std::stod(b) : a < b;
  };
  for (size_t i = 0; i < entries.size(); ++i) {
    for (size_t k = 0; k + 1 < entries.size(); ++k) {
      if (less(entries[k + 1], entries[k])) std::swap(entries[k], entries[k + 1]);
    }
  }
  const auto words = Words(p.canonical);
  if (words[0] == "place") return p.gold == entries[static_cast<size_t>(ToInt(words[1]) - 1)];
  if (words[0] == "down") std::reverse(entries.begin(), entries.end());
  std::string all;
  for (const auto& entry : entries) all += (all.empty() ? "" : ", ") + entry;
  return p.gold == all;
}

bool TextFamily(const Problem& p) {
  const auto words = Words(p.canonical);
  std::string letters = words.back(), gold = p.gold;
  gold.erase(std::remove(gold.begin(), gold.end(), ' '), gold.end());
  if (words[0] == "count") {
    return gold == std::to_string(std::count(letters.begin(), letters.end(), words[1][0]));
  }
  if (words[0] == "reverse") {
    std::reverse(letters.begin(), letters.end());
  } else if (words[0] == "shift") {
    for (int64_t i = ToInt(words[1]); i > 0; --i) {
      for (char& c : letters) c = c == 'z' ? 'a' : static_cast<char>(c + 1);
    }
  } else {
    const auto rules = Words(words[1], ',');
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t r = 0; r < rules.size() && !changed; ++r) {
        for (size_t at = 0; at + 2 <= letters.size() && !changed; ++at) {
          if (letters.compare(at, 2, rules[r], 0, 2) != 0) continue;
          letters = letters.substr(0, at) + rules[r].substr(3) + letters.substr(at + 2);
          changed = true;
        }
      }
    }
  }
  return gold == letters;
}

// "(a and b) xor (not c)" by its words.
class Sentence {
 public:
  Sentence(std::string_view text, const std::map<char, int>& signals)
      : text_(text), signals_(signals) {}

  int Value() {
    int value = Part();
    while (true) {
      if (Eat(" and ")) {
        value &= Part();
      } else if (Eat(" or ")) {
        value |= Part();
      } else if (Eat(" xor ")) {
        value ^= Part();
      } else {
        return value;
      }
    }
  }

 private:
  bool Eat(std::string_view word) {
    if (!text_.starts_with(word)) return false;
    text_.remove_prefix(word.size());
    return true;
  }

  int Part() {
    if (Eat("not ")) return 1 - Part();
    if (Eat("(")) {
      const int value = Value();
      Eat(")");
      return value;
    }
    const char name = text_.empty() ? '?' : text_[0];
    if (!text_.empty()) text_.remove_prefix(1);
    return signals_.at(name);
  }

  std::string_view text_;
  const std::map<char, int>& signals_;
};

bool Logic(const Problem& p) {
  std::map<char, int> signals;
  std::string bits;
  if (p.canonical.starts_with("table")) {
    const std::string formula = Between(p.prompt, "table of ", ", its");
    const int variables = p.canonical[6] - '0';
    for (int row = 0; row < 1 << variables; ++row) {
      for (int i = 0; i < variables; ++i) {
        signals[static_cast<char>('a' + i)] = row / (1 << (variables - 1 - i)) % 2;
      }
      bits += static_cast<char>('0' + Sentence(formula, signals).Value());
    }
    return p.gold == bits;
  }
  for (const auto& part : CommaList(p.prompt.substr(0, p.prompt.find(". ")))) {
    const std::string formula = part.substr(4);
    if (formula == "0" || formula == "1") {
      signals[part[0]] = formula[0] - '0';
    } else {
      signals[part[0]] = Sentence(formula, signals).Value();
      bits += static_cast<char>('0' + signals[part[0]]);
    }
  }
  return p.gold == bits;
}

bool Grid(const Problem& p) {
  const auto words = Words(p.canonical);
  const int64_t rows = ToInt(words[0]), columns = ToInt(words[1]);
  const int64_t start = ToInt(words[2]), goal = ToInt(words[3]);
  const std::string& cells = words[4];
  constexpr int64_t kFar = 1'000'000;
  std::vector<int64_t> distance(cells.size(), kFar);
  distance[static_cast<size_t>(start)] = 0;
  // Relaxed until nothing changes.
  for (bool changed = true; changed;) {
    changed = false;
    for (int64_t i = 0; i < rows * columns; ++i) {
      if (cells[static_cast<size_t>(i)] == '1') continue;
      for (const int64_t k : {i - 1, i + 1, i - columns, i + columns}) {
        if (k < 0 || k >= rows * columns ||
            (i / columns != k / columns && i % columns != k % columns))
          continue;
        if (cells[static_cast<size_t>(k)] == '1') continue;
        if (distance[static_cast<size_t>(k)] + 1 >= distance[static_cast<size_t>(i)]) continue;
        distance[static_cast<size_t>(i)] = distance[static_cast<size_t>(k)] + 1;
        changed = true;
      }
    }
  }
  const int64_t shortest = distance[static_cast<size_t>(goal)];
  if (shortest == kFar) return p.gold == "impossible";
  int64_t row = start / columns, column = start % columns;
  const auto moves = CommaList(p.gold);
  for (const auto& move : moves) {
    row += (move == "D") - (move == "U");
    column += (move == "R") - (move == "L");
    if (row < 0 || row >= rows || column < 0 || column >= columns) return false;
    if (cells[static_cast<size_t>(row * columns + column)] == '1') return false;
  }
  return row * columns + column == goal && static_cast<int64_t>(moves.size()) == shortest;
}

bool Puzzle(const Problem& p) {
  const auto words = Words(p.canonical);
  std::string state = words[words.size() - 2];
  for (const auto& move : CommaList(p.gold)) {
    if (words[0] == "jugs") {
      const size_t i = static_cast<size_t>(move[1] - '1');
      if (move[0] == 'F') {
        state[i] = words[1][i];
      } else if (move[0] == 'E') {
        state[i] = '0';
      } else {
        const size_t k = static_cast<size_t>(move[2] - '1');
        for (; state[i] > '0' && state[k] < words[1][k]; --state[i]) ++state[k];
      }
    } else if (words[0] == "hanoi") {
      const size_t disk = state.find(move[0]);
      if (disk == std::string::npos || state.find(move[1]) < disk) return false;
      state[disk] = move[1];
    } else {
      const size_t tile = state.find(move), hole = state.find('0');
      const size_t far = tile > hole ? tile - hole : hole - tile;
      if (far != 3 && (far != 1 || tile / 3 != hole / 3)) return false;
      std::swap(state[tile], state[hole]);
    }
  }
  const std::string& goal = words.back();
  if (words[0] == "jugs" && goal.size() == 1) return state.find(goal) != std::string::npos;
  return state == goal;
}

size_t RunLines(const std::vector<std::string>& lines, size_t at, std::map<char, int64_t>& values) {
  for (; at < lines.size(); ++at) {
    std::string line = lines[at];
    line.erase(0, line.find_first_not_of(' '));
    if (line == "end") return at;
    if (line.starts_with("repeat ")) {
      size_t end = at;
      for (int64_t i = ToInt(line.substr(7)); i > 0; --i) end = RunLines(lines, at + 1, values);
      at = end;
      continue;
    }
    const auto words = Words(line);
    const auto value = [&](const std::string& word) {
      return word[0] >= 'a' ? values[word[0]] : ToInt(word);
    };
    int64_t result = value(words[2]);
    if (words.size() > 3) {
      const int64_t right = value(words[4]);
      result = words[3] == "+" ? result + right : words[3] == "-" ? result - right : result * right;
    }
    values[line[0]] = result;
  }
  return at;
}

bool Program(const Problem& p) {
  std::string shown;
  const auto show = [&](int64_t value) {
    shown += (shown.empty() ? "" : ", ") + std::to_string(value);
  };
  if (p.canonical.starts_with("registers")) {
    std::map<char, int64_t> values;
    RunLines(Words(Between(p.prompt, "program:\n", "\nGive"), '\n'), 0, values);
    for (const auto& [name, value] : values) show(value);
  } else if (p.canonical.starts_with("stack")) {
    std::vector<int64_t> stack;
    const auto words = Words(p.canonical);
    for (size_t i = 1; i < words.size(); ++i) {
      if (words[i][0] <= '9') {
        stack.push_back(ToInt(words[i]));
        continue;
      }
      const int64_t right = stack.back();
      stack.pop_back();
      stack.back() = words[i] == "add"   ? stack.back() + right
                     : words[i] == "sub" ? stack.back() - right
                                         : stack.back() * right;
    }
    for (const int64_t value : stack) show(value);
  } else {
    const auto words = Words(p.canonical);
    shown = words[3];
    for (int64_t step = ToInt(words[2]); step > 0; --step) {
      const std::string before = '0' + shown + '0';
      for (size_t i = 0; i < shown.size(); ++i) {
        // The rule is read from the prompt's list.
        shown[i] = p.prompt[p.prompt.find(' ' + before.substr(i, 3) + ':') + 5];
      }
    }
  }
  return p.gold == shown;
}

}  // namespace

bool OracleAgrees(const Problem& p) {
  switch (p.family) {
    case Family::kChain:
    case Family::kMixed:
    case Family::kMultiply: {
      std::string formula = Between(p.prompt, "Compute ", ".");
      formula.erase(std::remove(formula.begin(), formula.end(), ' '), formula.end());
      return SameValue(EvaluateForTest(formula), p.gold);
    }
    case Family::kModular:
      return Modular(p);
    case Family::kDivisors:
      return Divisors(p);
    case Family::kFactor:
      return Factor(p);
    case Family::kFraction:
      return Fraction(p);
    case Family::kBase:
      return Base(p);
    case Family::kEquation:
      return Equation(p);
    case Family::kCountdown:
      return Countdown(p);
    case Family::kSort:
      return Sort(p);
    case Family::kText:
      return TextFamily(p);
    case Family::kLogic:
      return Logic(p);
    case Family::kGrid:
      return Grid(p);
    case Family::kPuzzle:
      return Puzzle(p);
    case Family::kProgram:
      return Program(p);
  }
  return false;
}

}  // namespace hadal
