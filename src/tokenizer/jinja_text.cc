#include "tokenizer/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace hadal::internal::jinja {

bool ValidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t c = 0;
    const auto size = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                                       static_cast<utf8proc_ssize_t>(text.size() - at), &c);
    if (size <= 0) return false;
    at += static_cast<size_t>(size);
  }
  return true;
}

char32_t NextCodePoint(std::string_view text, size_t* at) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) & 0x3Fu : 0u;
  };
  const unsigned char lead = static_cast<unsigned char>(text[*at]);
  const size_t i = *at;
  if (lead < 0x80) {
    *at += 1;
    return lead;
  }
  if (lead < 0xE0) {
    *at = std::min(i + 2, text.size());
    return (lead & 0x1Fu) << 6 | byte(i + 1);
  }
  if (lead < 0xF0) {
    *at = std::min(i + 3, text.size());
    return (lead & 0x0Fu) << 12 | byte(i + 1) << 6 | byte(i + 2);
  }
  *at = std::min(i + 4, text.size());
  return (lead & 0x07u) << 18 | byte(i + 1) << 12 | byte(i + 2) << 6 | byte(i + 3);
}

void AppendCodePoint(std::string* out, char32_t c) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
    return;
  }
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  out->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

size_t CodePoints(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

size_t ByteOffset(std::string_view text, size_t code_points) {
  size_t at = 0;
  while (code_points > 0 && at < text.size()) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
    --code_points;
  }
  return at;
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t SpaceAtStart(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    size_t next = at;
    if (!IsSpace(NextCodePoint(text, &next))) break;
    at = next;
  }
  return at;
}

size_t SpaceAtEnd(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    size_t at = begin;
    if (!IsSpace(NextCodePoint(text, &at))) break;
    end = begin;
  }
  return text.size() - end;
}

namespace {

using Category = utf8proc_category_t;

Category CategoryOf(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool IsUpper(char32_t c) {
  return c < 0x80 ? c >= 'A' && c <= 'Z' : utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0;
}

bool IsLower(char32_t c) {
  return c < 0x80 ? c >= 'a' && c <= 'z' : utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0;
}

bool IsAlpha(char32_t c) {
  const Category category = CategoryOf(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsCased(char32_t c) {
  return IsUpper(c) || IsLower(c) || CategoryOf(c) == UTF8PROC_CATEGORY_LT;
}

bool IsDigit(char32_t c) { return CategoryOf(c) == UTF8PROC_CATEGORY_ND; }

bool IsNumeric(char32_t c) {
  const Category category = CategoryOf(c);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

// Upper case that is more than one character (Unicode SpecialCasing), the ones in living use.
struct Expansion {
  char32_t from;
  const char* upper;
  const char* title;
};
constexpr Expansion kExpansions[] = {
    {0xDF, "SS", "Ss"},
    {0x149, "\u02BCN", "\u02BCN"},
    {0x1F0, "J\u030C", "J\u030C"},
    {0xFB00, "FF", "Ff"},
    {0xFB01, "FI", "Fi"},
    {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"},
    {0xFB04, "FFL", "Ffl"},
    {0xFB05, "ST", "St"},
    {0xFB06, "ST", "St"},
    {0x587, "\u0535\u0552", "\u0535\u0582"},
};

void AppendUpper(std::string* out, char32_t c, bool title) {
  for (const Expansion& e : kExpansions) {
    if (e.from != c) continue;
    out->append(title ? e.title : e.upper);
    return;
  }
  const auto code = static_cast<utf8proc_int32_t>(c);
  AppendCodePoint(out,
                  static_cast<char32_t>(title ? utf8proc_totitle(code) : utf8proc_toupper(code)));
}

// A capital sigma that ends a word becomes the final form.
bool FinalSigma(std::string_view text, size_t begin, size_t end) {
  bool before = false;
  for (size_t at = 0; at < begin;) {
    const char32_t c = NextCodePoint(text, &at);
    if (c != 0x27 && c != 0xAD && CategoryOf(c) != UTF8PROC_CATEGORY_MN) before = IsCased(c);
  }
  if (!before || end >= text.size()) return before;
  return !IsCased(NextCodePoint(text, &end));
}

void AppendLower(std::string* out, std::string_view text, size_t begin, size_t end, char32_t c) {
  if (c == 0x130) {
    out->append("i\u0307");
  } else if (c == 0x3A3) {
    // Only the word before matters; 64 bytes hold any.
    const size_t from = begin > 64 ? ByteOffset(text.substr(0, begin), 0) + begin - 64 : 0;
    size_t start = from;
    while (start < begin && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) ++start;
    out->append(FinalSigma(text.substr(start), begin - start, end - start) ? "\u03C2" : "\u03C3");
  } else {
    AppendCodePoint(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
}

}  // namespace

std::string ChangeCase(std::string_view text, Case how) {
  std::string out;
  out.reserve(text.size());
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = NextCodePoint(text, &at);
    bool upper = how == Case::kUpper;
    bool title = false;
    if (how == Case::kTitle) {
      upper = title = !in_word;
      in_word = IsCased(c);
    } else if (how == Case::kCapital) {
      upper = title = begin == 0;
    } else if (how == Case::kSwap) {
      upper = IsLower(c);
    }
    if (upper) {
      AppendUpper(&out, c, title);
    } else {
      AppendLower(&out, text, begin, at, c);
    }
  }
  return out;
}

namespace {

bool CaseIs(std::string_view text, std::string_view property) {
  bool seen = false, in_word = false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = NextCodePoint(text, &at);
    const bool upper = IsUpper(c) || CategoryOf(c) == UTF8PROC_CATEGORY_LT;
    const bool lower = IsLower(c);
    if (property == "lower" && upper) return false;
    if (property == "upper" && (lower || CategoryOf(c) == UTF8PROC_CATEGORY_LT)) return false;
    if (property == "title" && ((upper && in_word) || (lower && !in_word))) return false;
    seen |= upper || lower;
    in_word = upper || lower;
  }
  return seen;
}

}  // namespace

bool TextIs(std::string_view text, std::string_view property) {
  if (property == "lower" || property == "upper" || property == "title") {
    return CaseIs(text, property);
  }
  if (property == "ascii") {
    return std::all_of(text.begin(), text.end(), [](char c) { return !(c & 0x80); });
  }
  if (text.empty()) return false;
  bool first = true;
  for (size_t at = 0; at < text.size(); first = false) {
    const char32_t c = NextCodePoint(text, &at);
    bool yes = false;
    if (property == "space") yes = IsSpace(c);
    if (property == "alpha") yes = IsAlpha(c);
    if (property == "digit" || property == "decimal") yes = IsDigit(c);
    if (property == "numeric") yes = IsNumeric(c);
    if (property == "alnum") yes = IsAlpha(c) || IsNumeric(c);
    if (property == "identifier") yes = c == '_' || IsAlpha(c) || (!first && IsDigit(c));
    if (!yes) return false;
  }
  return true;
}

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char digits[64];
  const auto end =
      std::to_chars(digits, digits + sizeof digits, value, std::chars_format::scientific);
  const std::string_view text(digits, static_cast<size_t>(end.ptr - digits));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent >= -4 && exponent < 16) {
    char fixed[64];
    const auto fixed_end =
        std::to_chars(fixed, fixed + sizeof fixed, value, std::chars_format::fixed);
    std::string out(fixed, static_cast<size_t>(fixed_end.ptr - fixed));
    if (out.find('.') == std::string::npos) out += ".0";
    return out;
  }
  std::string out(text.substr(0, e));
  char tail[16];
  std::snprintf(tail, sizeof tail, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
  return out + tail;
}

namespace {

// int() and float() allow single underscores between digits and white space around.
std::optional<std::string> PlainNumber(std::string_view text) {
  text.remove_prefix(SpaceAtStart(text));
  text.remove_suffix(SpaceAtEnd(text));
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out.push_back(text[i]);
      continue;
    }
    const bool inside = i > 0 && i + 1 < text.size() &&
                        std::isalnum(static_cast<unsigned char>(text[i - 1])) &&
                        std::isalnum(static_cast<unsigned char>(text[i + 1]));
    if (!inside) return std::nullopt;
  }
  if (out.empty()) return std::nullopt;
  return out;
}

}  // namespace

std::optional<int64_t> ParseInt(std::string_view text, int base) {
  const auto plain = PlainNumber(text);
  if (!plain || base == 1 || base < 0 || base > 36) return std::nullopt;
  std::string_view rest = *plain;
  const bool negative = rest[0] == '-';
  if (rest[0] == '-' || rest[0] == '+') rest.remove_prefix(1);
  if (rest.size() > 1 && rest[0] == '0') {
    const char mark = static_cast<char>(rest[1] | 0x20);
    const int named = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (named && (base == 0 || base == named)) {
      rest.remove_prefix(2);
      base = named;
    } else if (base == 0 && rest.find_first_not_of('0') != rest.npos) {
      return std::nullopt;
    }
  }
  if (base == 0) base = 10;
  const std::string digits = (negative ? "-" : "") + std::string(rest);
  if (rest.empty() || rest[0] == '-' || rest[0] == '+') return std::nullopt;
  int64_t value = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (end.ec != std::errc() || end.ptr != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<double> ParseFloat(std::string_view text) {
  const auto plain = PlainNumber(text);
  if (!plain) return std::nullopt;
  std::string_view rest = *plain;
  const bool negative = rest[0] == '-';
  if (rest[0] == '-' || rest[0] == '+') rest.remove_prefix(1);
  if (rest.empty() || rest[0] == '-' || rest[0] == '+') return std::nullopt;
  double value = 0;
  const auto end = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (end.ptr != rest.data() + rest.size() || end.ec == std::errc::invalid_argument) {
    return std::nullopt;
  }
  if (rest.find('(') != rest.npos) return std::nullopt;  // "nan(1)" is C's, not Python's
  if (end.ec == std::errc::result_out_of_range)
    value = std::strtod(plain->c_str() + (rest.data() - plain->data()), nullptr);
  return negative ? -value : value;
}

namespace {

bool Printable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  switch (CategoryOf(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

void AppendEscaped(std::string* out, char32_t c) {
  char text[16];
  if (c < 0x100) {
    std::snprintf(text, sizeof text, "\\x%02x", static_cast<unsigned>(c));
  } else if (c < 0x10000) {
    std::snprintf(text, sizeof text, "\\u%04x", static_cast<unsigned>(c));
  } else {
    std::snprintf(text, sizeof text, "\\U%08x", static_cast<unsigned>(c));
  }
  out->append(text);
}

}  // namespace

std::string Quote(std::string_view text) {
  const bool single = text.find('\'') == text.npos || text.find('"') != text.npos;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const char32_t c = NextCodePoint(text, &at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (Printable(c)) {
      AppendCodePoint(&out, c);
    } else {
      AppendEscaped(&out, c);
    }
  }
  return out + quote;
}

std::string Brief(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size() && out.size() < 160;) {
    const char32_t c = NextCodePoint(text, &at);
    AppendCodePoint(&out, c < 0x20 || c == 0x7F ? U' ' : c);
    if (out.size() >= 160 && at < text.size()) out += "...";
  }
  return out;
}

}  // namespace hadal::internal::jinja
