// Text changes before splitting: Unicode normal forms and simple replacements.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/regex.h"

namespace hadal::internal {

class Normalizer {
 public:
  struct Step {
    enum class Kind : uint8_t {
      kNfc,
      kNfd,
      kNfkc,
      kNfkd,
      kLowercase,
      kStripAccents,
      kStrip,
      kReplace,
      kPrepend
    } kind;
    std::optional<Regex> regex = {};  // kReplace: the pattern, else `literal`
    std::string literal = {};         // kReplace: what; kPrepend: the prefix
    std::string content = {};         // kReplace: by what
    bool left = true, right = true;   // kStrip
  };

  void AddStep(Step step) { steps_.push_back(std::move(step)); }
  bool empty() const { return steps_.empty(); }
  const std::vector<Step>& steps() const { return steps_; }
  // Broken UTF-8 passes through unchanged.
  std::string Apply(std::string_view text) const;

 private:
  std::vector<Step> steps_;
};

}  // namespace hadal::internal
