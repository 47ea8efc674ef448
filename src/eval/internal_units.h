// Units of measurement: "cm^2", "miles per hour", "dollars", "%", and nouns that are counted.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "eval/internal_exact.h"

namespace hadal::eval::internal {

// factor * product of dimension^power. "5 cents" is 5 * (1/100 dollar).
struct Unit {
  std::map<std::string, int> dimensions;
  Rational factor = 1;
  bool none() const { return dimensions.empty(); }
};

bool IsUnitWord(std::string_view word);
// words: lower case, as "cm ^ 2", "square feet", "miles per hour"; nullopt for what is none, such
// as number words.
std::optional<Unit> ParseUnit(std::string_view words);

}  // namespace hadal::eval::internal
