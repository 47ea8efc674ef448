#include <algorithm>
#include <string>

#include "data/problems/oracle_for_test.h"

namespace hadal {
namespace {

// Precedence climbing over ranks: | ^ & then + - then * / then ! and signs.
class Evaluator {
 public:
  explicit Evaluator(std::string_view text) : text_(text) {}

  std::optional<WideRational> All() {
    const WideRational value = Level(0);
    if (at_ != text_.size()) bad_ = true;
    return bad_ ? std::nullopt : std::optional(value);
  }

 private:
  static int Rank(char op) {
    switch (op) {
      case '|':
        return 1;
      case '^':
        return 2;
      case '&':
        return 3;
      case '+':
      case '-':
        return 4;
      case '*':
      case '/':
        return 5;
      default:
        return 0;
    }
  }

  WideRational Apply(char op, WideRational a, WideRational b) {
    if (op == '+') return {a.num * b.den + b.num * a.den, a.den * b.den};
    if (op == '-') return {a.num * b.den - b.num * a.den, a.den * b.den};
    if (op == '*') return {a.num * b.num, a.den * b.den};
    if (op == '/') {
      if (b.num == 0) bad_ = true;
      return {a.num * b.den, a.den * b.num};
    }
    const auto x = static_cast<int64_t>(a.num), y = static_cast<int64_t>(b.num);
    return {op == '&' ? x & y : op == '|' ? x | y : x ^ y, 1};
  }

  WideRational Level(int rank) {
    WideRational value = Atom();
    while (at_ < text_.size() && Rank(text_[at_]) > rank) {
      const char op = text_[at_++];
      value = Apply(op, value, Level(Rank(op)));
    }
    return value;
  }

  WideRational Atom() {
    if (at_ >= text_.size()) return bad_ = true, WideRational{};
    if (text_[at_] == '-') {
      ++at_;
      WideRational value = Atom();
      value.num = -value.num;
      return value;
    }
    if (text_[at_] == '!') {
      ++at_;
      return {Atom().num == 0 ? 1 : 0, 1};
    }
    if (text_[at_] == '(') {
      ++at_;
      const WideRational value = Level(0);
      if (at_ >= text_.size() || text_[at_++] != ')') bad_ = true;
      return value;
    }
    WideRational value;
    const size_t first = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value.num = value.num * 10 + (text_[at_] - '0');
    }
    if (at_ == first) bad_ = true;
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
  bool bad_ = false;
};

// A word of arithmetic: letters would make it a name or a label.
bool IsRelation(const std::string& word) {
  bool relation = false;
  for (const char c : word) {
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return false;
    if (c == '.' || c == ',' || c == ':') return false;
    relation |= c == '=' || c == '<' || c == '>';
  }
  return relation && word != "->";
}

}  // namespace

std::optional<WideRational> EvaluateForTest(std::string_view text) { return Evaluator(text).All(); }

bool RelationHolds(const std::string& word) {
  size_t first = 0;
  std::optional<WideRational> left;
  char relation = '=';
  while (first <= word.size()) {
    const size_t end = std::min(word.find_first_of("=<>", first), word.size());
    const auto right = EvaluateForTest(std::string_view(word).substr(first, end - first));
    if (!right) return false;
    if (left) {
      const __int128 difference =
          (left->num * right->den - right->num * left->den) * (left->den > 0 ? 1 : -1);
      if (relation == '=' ? difference != 0 : relation == '<' ? difference >= 0 : difference <= 0) {
        return false;
      }
    }
    if (end == word.size()) return true;
    relation = word[end];
    left = right;
    first = end + 1;
  }
  return false;
}

StepCheck CheckSteps(std::string_view thought) {
  StepCheck check;
  std::string word;
  for (const char c : std::string(thought) + ' ') {
    if (c != ' ' && c != '\n') {
      word += c;
      continue;
    }
    if (word.ends_with(':')) word.pop_back();
    if (IsRelation(word)) {
      ++check.checked;
      if (check.wrong.empty() && !RelationHolds(word)) check.wrong = word;
    }
    word.clear();
  }
  return check;
}

}  // namespace hadal
