#include "train/figures.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

namespace hadal {
namespace {

constexpr const char* kNone = "–";

// The characters of a number that is no number, empty for the others.
std::string Special(double value) {
  if (std::isnan(value)) return kNone;
  if (std::isinf(value)) return value > 0 ? "∞" : "-∞";
  return {};
}

// 999.95 and above would round to a fourth digit: the caller has moved to the next unit by then.
std::string ThreeDigits(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}

}  // namespace

std::string HumanCount(double value) {
  if (std::string special = Special(value); !special.empty()) return special;
  if (std::abs(value) < 999.5 && value == std::floor(value)) return fmt::format("{:.0f}", value);
  const char* const units[] = {"", " k", " M", " G", " T", " P", " E"};
  size_t unit = 0;
  while (std::abs(value) >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  if (std::abs(value) >= 999.5) return fmt::format("{:.2e}", value * 1e18);
  return ThreeDigits(value) + units[unit];
}

std::string HumanTime(double seconds) {
  if (std::isnan(seconds) || seconds < 0) return kNone;
  if (std::isinf(seconds)) return "∞";
  if (seconds < 0.9995) return fmt::format("{:.0f} ms", seconds * 1000);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  if (seconds >= 1e12) return fmt::format("{:.2e} d", seconds / 86400);
  const auto s = static_cast<int64_t>(std::llround(seconds));
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  if (s < 48 * 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

std::string HumanMoney(double amount, const std::string& currency) {
  if (std::string special = Special(amount); !special.empty()) return special;
  const double size = std::abs(amount);
  std::string text;
  if (size >= 999'500) {
    text = fmt::format("{:.3f}M", amount / 1e6);
  } else if (size >= 9'995) {
    text = fmt::format("{:.1f}K", amount / 1e3);
  } else if (size >= 0.0995 || size == 0) {
    text = fmt::format("{:.2f}", amount);
  } else {
    text = fmt::format("{:.2g}", amount);
  }
  return currency == "USD" ? "$" + text : text + " " + currency;
}

std::string HumanNumber(double value, int digits) {
  if (std::string special = Special(value); !special.empty()) return special;
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-4 || size >= 1e7)) return fmt::format("{:.{}e}", value, digits - 1);
  return fmt::format("{:.{}g}", value, digits);
}

std::string HumanShare(double share) {
  if (std::string special = Special(share); !special.empty()) return special;
  if (std::abs(share) >= 1e4) return HumanNumber(100 * share, 3) + " %";
  return fmt::format("{:.1f} %", 100 * share);
}

std::string Grouped(int64_t value) {
  const std::string digits = std::to_string(value);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-') out += ' ';
    out += digits[i];
  }
  return out;
}

}  // namespace hadal
