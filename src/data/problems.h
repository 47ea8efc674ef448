// Procedural reasoning problems: sixteen families, eight levels each, in English and Chinese, with
// exact verifiers and worked traces. An item is a function of (seed, index, family, level) alone,
// made with integers and Philox only, so it has the same bytes on every machine; the language
// changes the words and never the instance.
//
//   ProblemStream stream({.family = Family::kCountdown, .level = 2, .split = Split::kTrain});
//   Problem p = stream.Next();
//   train on p.prompt -> <think>p.thought</think>p.answer, or on DocumentText(p)
//   Grade(p, model_output)  or  Verify(p, ExtractAnswer(model_output).answer)
//
// Traces of levels 1 to 4 are short (prompt, thought and answer fit 512 tokens of a small
// vocabulary whose digits are single tokens), in steps of single digits, with failing branches
// where the family is a search. Every "a+b=c" in a trace is true, and a trace ends with the gold
// answer. Within a level the most common answer is right for less than a quarter of the items.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hadal {

enum class Family : uint8_t {
  kChain,      // sums and differences                       answer: an integer
  kMixed,      // + - * / with parentheses                   an integer
  kMultiply,   // long multiplication                        an integer
  kModular,    // (a*b+c) mod m, a^e mod m                   an integer in [0, m)
  kDivisors,   // gcd, lcm                                   an integer
  kFactor,     // prime factorisation                        2*2*3, factors in any order
  kFraction,   // simplify, add, subtract, multiply          a/b in lowest terms, or an integer
  kBase,       // base conversion, bit operations, popcount  digits of the asked base
  kEquation,   // linear to cubic with integer roots         every root once: 2, -3
  kCountdown,  // reach a target with given numbers          an expression
  kSort,       // order, median, k-th                        3, 5, 9 or one value
  kText,       // reverse, shift, count, rewrite letters     the exact letters
  kLogic,      // circuits and truth tables                  a vector of bits: 0110
  kGrid,       // shortest path                              moves URDL, or "impossible"
  kPuzzle,     // jugs, Hanoi, sliding tiles                 moves, any legal way
  kProgram,    // register and stack code, automata          3, 5 or a row of bits
};
inline constexpr int kFamilies = 16;
inline constexpr int kLevels = 8;  // levels are 1 to 8; 5 to 8 grow past a small context

enum class Language : uint8_t { kEnglish, kChinese };

// What makes a level hard; no knob falls from one level to the next and at least one rises.
struct Knob {
  std::string_view name;
  int64_t value = 0;
};
std::vector<Knob> KnobsOf(Family family, int level);

struct Problem {
  Family family = Family::kChain;
  int level = 1;
  Language language = Language::kEnglish;
  uint64_t seed = 0, index = 0;
  std::string prompt;     // the question, with the form of answer it wants
  std::string thought;    // worked steps, to stand between <think> and </think>; no markers inside
  std::string answer;     // one sentence that ends with \boxed{gold}
  std::string gold;       // a right answer; others may be as right: ask Verify
  std::string canonical;  // the instance itself, the same in every language and order of wording
};

// "chain", "mixed", ... in the order of Family.
std::vector<std::string> FamilyNames();
std::string_view FamilyName(Family family);
std::optional<Family> FamilyFromName(std::string_view name);

// level in [1, kLevels] (a CHECK).
Problem MakeProblem(uint64_t seed, uint64_t index, Family family, int level, Language language);

enum class Verdict : uint8_t {
  kRight,
  kWrong,  // also every malformed, oversized or overflowing answer
  kError,  // the problem itself cannot be read: its family, canonical or gold is damaged
};

// Judges the answer alone (what ExtractAnswer found): parsed to a typed value, exact, by simulation
// where several answers are right. Any bytes are safe. Reads family, canonical and gold only.
Verdict Verify(const Problem& problem, std::string_view answer);

struct Extraction {
  bool found = false;
  std::string answer;  // inside of the box, trimmed
  std::string trace;   // how it was found or why not: "box 2 of 2 at byte 17 after </think>"
};

// The last well-formed \boxed{...} (braces balanced, at most 8192 bytes) after the last </think>,
// or in all of the text when it has no marker. A <think> that never ends has no answer.
Extraction ExtractAnswer(std::string_view text);

// Verify on what ExtractAnswer finds; kWrong where it finds nothing.
Verdict Grade(const Problem& problem, std::string_view text);

// Prompt, thought and answer as one document for pretraining, markers left out.
std::string DocumentText(const Problem& problem);
// One JSON line: {"messages":[{"role":"user","content":prompt},
//   {"role":"assistant","reasoning_content":thought,"content":answer}]}, without a newline.
std::string ConversationJson(const Problem& problem);

// The split is a function of the instance: 8 parts of 10 train, 1 validation, 1 test. No instance
// is in two, whatever its seed, level or language.
enum class Split : uint8_t { kTrain, kValidation, kTest };
Split SplitOf(std::string_view canonical);

// The items of one split, in order of index; endless.
struct ProblemStreamOptions {
  uint64_t seed = 0;
  Family family = Family::kChain;
  int level = 1;
  Language language = Language::kEnglish;
  Split split = Split::kTrain;
};

class ProblemStream {
 public:
  explicit ProblemStream(const ProblemStreamOptions& options, uint64_t first_index = 0)
      : options_(options), index_(first_index) {}

  Problem Next();
  const ProblemStreamOptions& options() const { return options_; }
  // The index where Next begins to look: a stream opened at it goes on from here.
  uint64_t index() const { return index_; }

 private:
  ProblemStreamOptions options_;
  uint64_t index_;
};

}  // namespace hadal
