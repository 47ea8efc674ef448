// What the families share: a draft to write an item into, and the table entry of a family.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "data/problems.h"

namespace hadal::problems {

// A string that integers and text are appended to, quickly and without locales.
class Text {
 public:
  Text& operator<<(std::string_view s) {
    text_ += s;
    return *this;
  }
  Text& operator<<(const char* s) { return *this << std::string_view(s); }
  Text& operator<<(const Text& other) { return *this << std::string_view(other.text_); }
  Text& operator<<(char c) {
    text_ += c;
    return *this;
  }
  template <std::integral T>
  Text& operator<<(T value) {
    char buffer[24];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
    text_.append(buffer, end.ptr);
    return *this;
  }
  // The last byte becomes a newline where it is a space; otherwise a newline is added.
  void EndLine() {
    if (!text_.empty() && text_.back() == ' ') text_.pop_back();
    if (!text_.empty() && text_.back() != '\n') text_ += '\n';
  }
  std::string& str() { return text_; }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

// The item being made. A maker draws the instance before it looks at the language, so the same
// index is the same instance in both.
struct Draft {
  Rng rng;
  int level;
  Language language;
  Text prompt, thought, gold, canonical;

  int64_t Pick(int64_t low, int64_t high) {  // uniform in [low, high]
    return low + static_cast<int64_t>(rng.Below(static_cast<uint64_t>(high - low + 1)));
  }
  bool Chance(int percent) { return Pick(0, 99) < percent; }
  std::string_view Say(std::string_view english, std::string_view chinese) const {
    return language == Language::kChinese ? chinese : english;
  }
};

struct FamilyEntry {
  std::string_view name;
  void (*make)(Draft& draft);
  Verdict (*verify)(const Problem& problem, std::string_view answer);
  std::vector<Knob> (*knobs)(int level);
};

extern const FamilyEntry kChainFamily, kMixedFamily, kMultiplyFamily;     // sums.cc
extern const FamilyEntry kModularFamily, kDivisorsFamily, kFactorFamily;  // numbers.cc
extern const FamilyEntry kFractionFamily, kBaseFamily;                    // notation.cc
extern const FamilyEntry kEquationFamily;                                 // equation.cc
extern const FamilyEntry kCountdownFamily;                                // countdown.cc
extern const FamilyEntry kSortFamily, kTextFamily;                        // lists.cc
extern const FamilyEntry kLogicFamily;                                    // logic.cc
extern const FamilyEntry kGridFamily;                                     // grid.cc
extern const FamilyEntry kPuzzleFamily;                                   // puzzle.cc
extern const FamilyEntry kProgramFamily;                                  // program.cc

// Right when the answer is the same integer as the gold one.
Verdict VerifyInteger(const Problem& problem, std::string_view answer);

}  // namespace hadal::problems
