// Cuts text into the pieces inside which a byte-pair encoder merges.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace hadal::internal {

// Pieces of a text; they point into it, or into `storage` where a step changed the text.
struct Pieces {
  std::vector<std::string_view> list;
  std::deque<std::string> storage;
};

// What a split does with its matches, as tokenizer.json names them.
enum class Behavior : uint8_t {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous
};

// Well-known patterns with a hand-written scanner.
enum class Scanner : uint8_t {
  kGpt2,
  kLlama3,      // digits in groups of three
  kQwen2,       // digits alone
  kDeepSeekV3,  // the last of its three splits; leaves gaps
  kTrailingSpace,
};
std::string_view ScannerPattern(Scanner scanner);
std::optional<Scanner> ScannerOf(std::string_view pattern);
// Appends the pieces of text (gaps are pieces too).
void Scan(Scanner scanner, std::string_view text, std::vector<std::string_view>* out);

// Whole sequences of isolating splits in one pass, equal to their steps one after another.
enum class Sequence : uint8_t { kNone, kSmolLm, kDeepSeekV3, kDeepSeekLlm, kDeepSeekCoder };
void ScanSmolLm(std::string_view text, std::vector<std::string_view>* out);
void ScanDeepSeekV3(std::string_view text, std::vector<std::string_view>* out);

// Sequences of: every line break alone, \s?letters, \s?punctuation, what concerns no ASCII,
// numbers.
struct LineRules {
  bool symbols_are_punctuation = false;
  bool single_digits = false;
  bool cut_trailing_space = false;  // white space behind other characters, both in neither class
};
using SplitOther = std::function<void(std::string_view, std::vector<std::string_view>*)>;
// `other` splits the stretches that hold more than ASCII.
void ScanLines(const LineRules& rules, std::string_view text, const SplitOther& other,
               std::vector<std::string_view>* out);

// A pattern of the form [\s]?[class]+ (optional space, one class, count 1, + or {1,n}).
struct RunPattern {
  enum class Lead : uint8_t { kNone, kBlank, kAnySpace } lead = Lead::kNone;
  std::shared_ptr<const CharSet> set;
  uint32_t most = 0;  // longest run, 0: no limit
};
std::optional<RunPattern> ParseRunPattern(std::string_view pattern);
std::vector<Span> FindRuns(const RunPattern& run, std::string_view text);

class PreTokenizer {
 public:
  struct Step {
    enum class Kind : uint8_t {
      kScanner,
      kRun,
      kRegex,
      kLiteral,
      kByteLevel,
      kMetaspace,
      kPunctuation
    } kind;
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;
    Scanner scanner = Scanner::kGpt2;
    RunPattern run = {};
    std::optional<Regex> regex = {};
    std::string literal = {};       // kLiteral; the replacement character of kMetaspace
    bool add_prefix_space = false;  // kByteLevel
    enum class Prepend : uint8_t { kNever, kFirst, kAlways } prepend = Prepend::kNever;
    bool split = true;  // kMetaspace
  };

  PreTokenizer() = default;  // no split at all

  // A GGUF's tokenizer.ggml.pre. Unknown names are an error that lists some known ones.
  static Result<PreTokenizer> FromName(std::string_view name);
  static bool MergesIgnored(std::string_view name);
  // The parts from which tokenizer.json is read.
  Status AddSplit(std::string_view pattern, Behavior behavior, bool invert);
  void AddLiteral(std::string_view text, Behavior behavior, bool invert);
  void AddByteLevel(bool add_prefix_space, bool use_regex);
  void AddStep(Step step);

  bool empty() const { return steps_.empty(); }
  bool byte_level() const { return byte_level_; }
  void set_byte_level() { byte_level_ = true; }
  // at_start: text begins the whole input (Metaspace's "first").
  void Split(std::string_view text, bool at_start, Pieces* pieces) const;
  // The same, always step by step.
  void SplitInSteps(std::string_view text, bool at_start, Pieces* pieces) const;
  // The GGUF name whose splits these are, "default" when there is none.
  std::string NearestName() const;
  const std::vector<std::string>& patterns() const { return patterns_; }

 private:
  // Sets sequence_ by patterns_.
  void Recognise();
  std::vector<Step> steps_;
  Sequence sequence_ = Sequence::kNone;
  std::vector<std::string> patterns_;  // of the splits, to recognise known sequences
  bool byte_level_ = false;
};

}  // namespace hadal::internal
