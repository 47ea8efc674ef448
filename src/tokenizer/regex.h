// The regular expressions of tokenizer.json (Oniguruma's syntax) on PCRE2, with bounded cost.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hadal::internal {

using Span = std::pair<size_t, size_t>;  // bytes [begin, end)

class Regex {
 public:
  // Differences of the two dialects are rewritten (\s, \w, \h, \uHHHH, nested classes, the m flag,
  // {n,m}+); what cannot be is an error naming the construct.
  static Result<Regex> Compile(std::string_view pattern);

  // The non-overlapping matches, in order. Broken UTF-8 is matched as U+FFFD. Cost is bounded: when
  // a pattern runs away on some text, the matches found by then are returned and the rest of the
  // text has none.
  std::vector<Span> FindAll(std::string_view text) const;

 private:
  struct Program;
  explicit Regex(std::shared_ptr<const Program> code) : program_(std::move(code)) {}
  std::vector<Span> FindAllValid(std::string_view text) const;
  std::shared_ptr<const Program> program_;
};

// The pattern in PCRE2's dialect; exposed for tests.
Result<std::string> TranslatePattern(std::string_view pattern);

}  // namespace hadal::internal
