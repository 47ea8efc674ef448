// Finds stop strings in text that arrives in pieces, and says how much of it may be shown already.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal {

// An Aho-Corasick automaton and its state: time linear in the text, whatever the number of strings.
// Bytes are compared as they are. The match is the one that ends first, and of those the longest.
class StopMatcher {
 public:
  static constexpr size_t kMaxBytes = 1 << 20;  // of all strings together

  // Errors: an empty string, more than kMaxBytes in all.
  static Result<StopMatcher> Create(std::span<const std::string> strings);
  StopMatcher(StopMatcher&&) noexcept;
  StopMatcher& operator=(StopMatcher&&) noexcept;
  ~StopMatcher();

  // Takes the next piece. Appends to *safe (null: not wanted) what can be shown: everything before
  // a match, without the trailing bytes that may be the start of one. True once a match was found;
  // what comes after it is ignored.
  bool Feed(std::string_view text, std::string* safe);
  // No more text comes: appends what was held back, unless there was a match.
  void Finish(std::string* safe);

  bool matched() const { return match_begin_ >= 0; }
  int64_t match_begin() const { return match_begin_; }  // byte of all text fed, -1 without a match
  int64_t fed_bytes() const { return fed_; }

 private:
  struct Automaton;
  explicit StopMatcher(std::unique_ptr<const Automaton> automaton);

  std::unique_ptr<const Automaton> automaton_;
  uint32_t state_ = 0;
  int64_t fed_ = 0, match_begin_ = -1;
  std::string held_;  // the text that led to state_
};

}  // namespace hadal
