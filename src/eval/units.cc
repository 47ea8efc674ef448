#include <algorithm>
#include <array>
#include <sstream>

#include "eval/internal_units.h"

namespace hadal::eval::internal {
namespace {

struct Entry {
  std::string_view word, dimension;
  int64_t num = 1, den = 1;
};

// Metric lengths in metres, imperial ones in inches: the two are never converted.
constexpr std::array kUnits = std::to_array<Entry>({
    {"m", "metre"},
    {"meter", "metre"},
    {"metre", "metre"},
    {"km", "metre", 1000},
    {"kilometer", "metre", 1000},
    {"kilometre", "metre", 1000},
    {"cm", "metre", 1, 100},
    {"centimeter", "metre", 1, 100},
    {"centimetre", "metre", 1, 100},
    {"mm", "metre", 1, 1000},
    {"millimeter", "metre", 1, 1000},
    {"millimetre", "metre", 1, 1000},
    {"in", "inch"},
    {"inch", "inch"},
    {"inche", "inch"},
    {"ft", "inch", 12},
    {"foot", "inch", 12},
    {"feet", "inch", 12},
    {"yd", "inch", 36},
    {"yard", "inch", 36},
    {"mi", "inch", 63360},
    {"mile", "inch", 63360},
    {"g", "gram"},
    {"gram", "gram"},
    {"kg", "gram", 1000},
    {"kilogram", "gram", 1000},
    {"mg", "gram", 1, 1000},
    {"milligram", "gram", 1, 1000},
    {"lb", "ounce", 16},
    {"pound", "ounce", 16},
    {"oz", "ounce"},
    {"ounce", "ounce"},
    {"s", "second"},
    {"sec", "second"},
    {"second", "second"},
    {"min", "second", 60},
    {"minute", "second", 60},
    {"h", "second", 3600},
    {"hr", "second", 3600},
    {"hour", "second", 3600},
    {"day", "second", 86400},
    {"week", "second", 604800},
    {"month", "month"},
    {"year", "month", 12},
    {"yr", "month", 12},
    {"dollar", "dollar"},
    {"usd", "dollar"},
    {"cent", "dollar", 1, 100},
    {"degree", "degree"},
    {"deg", "degree"},
    {"radian", "radian"},
    {"rad", "radian"},
    {"percent", "percent"},
    {"%", "percent"},
    {"l", "litre"},
    {"liter", "litre"},
    {"litre", "litre"},
    {"ml", "litre", 1, 1000},
    {"milliliter", "litre", 1, 1000},
    {"millilitre", "litre", 1, 1000},
    {"gallon", "gallon"},
    {"quart", "gallon", 1, 4},
    {"pint", "gallon", 1, 8},
    {"cup", "gallon", 1, 16},
    {"unit", "unit"},
    {"people", "people"},
    {"person", "people"},
    {"children", "children"},
    {"child", "children"},
    {"men", "men"},
    {"women", "women"},
});

// Words that change the number before them, or are not units at all.
constexpr std::array kNever = std::to_array<std::string_view>({
    "ten",      "tens",    "hundred",    "hundreds", "thousand",  "thousands", "million",
    "millions", "billion", "billions",   "trillion", "dozen",     "dozens",    "half",
    "halves",   "thirds",  "quarters",   "times",    "percents",  "squares",   "roots",
    "bases",    "less",    "plus",       "minus",    "factors",   "powers",    "multiples",
    "pairs",    "scores",  "modulus",    "doubles",  "negatives", "inverses",  "digits",
    "tenths",   "gross",   "plus minus",
});

const Entry* Find(std::string_view word) {
  for (const Entry& entry : kUnits) {
    if (entry.word == word) return &entry;
  }
  if (word.size() > 2 && word.ends_with('s')) {
    const std::string_view singular = word.substr(0, word.size() - 1);
    if (singular.size() < 2) return nullptr;
    for (const Entry& entry : kUnits) {
      if (entry.word == singular) return &entry;
    }
  }
  return nullptr;
}

// "apples": a plural that nothing above knows counts things.
bool IsCountNoun(std::string_view word) {
  if (word.size() < 4 || !word.ends_with('s') || word.ends_with("ths") || word.ends_with("ss")) {
    return false;
  }
  if (std::find(kNever.begin(), kNever.end(), word) != kNever.end()) return false;
  return std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

}  // namespace

bool IsUnitWord(std::string_view word) { return word == "mph" || Find(word) != nullptr; }

std::optional<Unit> ParseUnit(std::string_view words) {
  std::string spaced;
  for (const char c : words) {
    const bool sign = c == '^' || c == '/';
    spaced += sign ? std::string{' ', c, ' '} : std::string(1, c);
  }
  std::istringstream in(spaced);
  Unit unit;
  int sign = 1, prefix = 1;
  std::string word, last;
  int last_power = 0;
  Rational last_factor = 1;
  // Raises what the last word added from power 1 to `power`.
  const auto raise = [&](int power) {
    unit.dimensions[last] += last_power * (power - 1);
    unit.factor = unit.factor * Power(last_factor, last_power * (power - 1));
  };
  while (in >> word) {
    if (word == "mph") word = "miles per hour";
    if (word == "per" || word == "/") {
      if (sign < 0) return std::nullopt;
      sign = -1;
    } else if (word == "square" || word == "sq" || word == "cubic") {
      prefix = word == "cubic" ? 3 : 2;
    } else if (word == "squared" || word == "cubed") {
      if (last.empty()) return std::nullopt;
      raise(word == "cubed" ? 3 : 2);
      last.clear();
    } else if (word == "^") {
      int power = 0;
      if (last.empty() || !(in >> power) || power < 1 || power > 9) return std::nullopt;
      raise(power);
      last.clear();
    } else if (word == "miles per hour") {
      unit.dimensions["inch"] += 1;
      unit.dimensions["second"] -= 1;
      unit.factor = unit.factor * Rational::Of(63360, 3600);
      last.clear();
    } else {
      const Entry* entry = Find(word);
      if (entry == nullptr && !IsCountNoun(word)) return std::nullopt;
      last = entry ? std::string(entry->dimension) : word;
      last_factor = entry ? Rational::Of(entry->num, entry->den) : Rational(1);
      last_power = sign * prefix;
      unit.dimensions[last] += last_power;
      unit.factor = unit.factor * Power(last_factor, last_power);
      prefix = 1;
    }
  }
  if (prefix != 1 || unit.factor.bad()) return std::nullopt;
  std::erase_if(unit.dimensions, [](const auto& d) { return d.second == 0; });
  if (unit.dimensions.empty()) return std::nullopt;
  return unit;
}

}  // namespace hadal::eval::internal
