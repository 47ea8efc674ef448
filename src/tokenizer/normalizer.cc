#include "tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>

#include "tokenizer/unicode.h"

namespace hadal::internal {
namespace {

// Below this code point text is in composed form already.
constexpr char32_t kFirstNotComposed = 0x300;

bool IsComposedSurely(std::string_view text) {
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const Utf8Char c = DecodeUtf8(p, end);
    if (c.code >= kFirstNotComposed) return false;
    p += c.size;
  }
  return true;
}

// Decomposition with the canonical order of marks by stable sort: the library's own is quadratic in
// the length of a run of marks.
std::vector<utf8proc_int32_t> Decompose(std::string_view text, int options) {
  std::vector<utf8proc_int32_t> codes;
  const char* end = text.data() + text.size();
  utf8proc_int32_t buffer[64];
  for (const char* p = text.data(); p < end;) {
    const Utf8Char c = DecodeUtf8(p, end);
    p += c.size;
    int boundary = 0;
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code), buffer, 64,
                                static_cast<utf8proc_option_t>(options), &boundary);
    if (n < 0 || n > 64) {
      codes.push_back(static_cast<utf8proc_int32_t>(c.code));
    } else {
      codes.insert(codes.end(), buffer, buffer + n);
    }
  }
  const auto order = [](utf8proc_int32_t code) {
    return utf8proc_get_property(code)->combining_class;
  };
  for (size_t i = 0; i < codes.size();) {
    size_t j = i;
    while (j < codes.size() && order(codes[j]) != 0) ++j;
    if (j - i > 1) {
      std::stable_sort(codes.begin() + static_cast<ptrdiff_t>(i),
                       codes.begin() + static_cast<ptrdiff_t>(j),
                       [&](auto a, auto b) { return order(a) < order(b); });
    }
    i = std::max(j, i + 1);
  }
  return codes;
}

std::string NormalForm(std::string_view text, bool compose, bool compatible) {
  if (compose && !compatible && IsComposedSurely(text)) return std::string(text);
  const int decompose = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compatible ? UTF8PROC_COMPAT : 0);
  std::vector<utf8proc_int32_t> codes = Decompose(text, decompose);
  auto n = static_cast<utf8proc_ssize_t>(codes.size());
  if (compose && n > 0) {
    n = utf8proc_normalize_utf32(
        codes.data(), n, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  }
  std::string out;
  for (utf8proc_ssize_t i = 0; i < n; ++i) {
    AppendUtf8(static_cast<char32_t>(codes[static_cast<size_t>(i)]), &out);
  }
  return out;
}

// Applies `change` to each stretch of valid text, so that broken bytes survive.
template <typename Change>
std::string OnValidText(std::string_view text, const Change& change) {
  std::string out;
  const char* end = text.data() + text.size();
  const char* begin = text.data();
  for (const char* p = begin; p <= end;) {
    const bool at_end = p == end;
    Utf8Char c{0, 1, true};
    if (!at_end) c = DecodeUtf8(p, end);
    if (at_end || !c.valid) {
      if (p > begin) out += change(std::string_view(begin, static_cast<size_t>(p - begin)));
      if (at_end) break;
      out.append(p, c.size);
      begin = p + c.size;
    }
    p += c.size;
  }
  return out;
}

std::string Lowercase(std::string_view text) {
  std::string out;
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const Utf8Char c = DecodeUtf8(p, end);
    p += c.size;
    if (c.code == 0x130) {  // the one letter whose lower case is two characters
      out += "i\xCC\x87";
    } else {
      AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code))),
                 &out);
    }
  }
  return out;
}

std::string WithoutMarks(std::string_view text) {
  std::string out;
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const Utf8Char c = DecodeUtf8(p, end);
    if (!(CharClasses()[c.code] & kMark)) out.append(p, c.size);
    p += c.size;
  }
  return out;
}

std::string Strip(std::string_view text, bool left, bool right) {
  const uint8_t* classes = CharClasses();
  const char* first = nullptr;
  const char* last = nullptr;
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const Utf8Char c = DecodeUtf8(p, end);
    if (!(classes[c.code] & kSpace)) {
      if (first == nullptr) first = p;
      last = p + c.size;
    }
    p += c.size;
  }
  if (first == nullptr) return left || right ? std::string() : std::string(text);
  const char* begin = left ? first : text.data();
  return std::string(begin, static_cast<size_t>((right ? last : end) - begin));
}

std::string Replace(const Normalizer::Step& step, std::string_view text) {
  std::string out;
  size_t at = 0;
  if (step.regex) {
    for (const Span& m : step.regex->FindAll(text)) {
      out += text.substr(at, m.first - at);
      out += step.content;
      at = m.second;
    }
  } else if (!step.literal.empty()) {
    for (size_t hit = text.find(step.literal); hit != std::string_view::npos;
         hit = text.find(step.literal, at)) {
      out += text.substr(at, hit - at);
      out += step.content;
      at = hit + step.literal.size();
    }
  }
  out += text.substr(at);
  return out;
}

}  // namespace

std::string Normalizer::Apply(std::string_view text) const {
  std::string now(text);
  // Replacements of replacements could grow without bound; no real model comes near this.
  const size_t most = 64 * text.size() + 1024;
  for (const Step& step : steps_) {
    if (now.size() > most) break;
    using Kind = Step::Kind;
    switch (step.kind) {
      case Kind::kNfc:
      case Kind::kNfd:
      case Kind::kNfkc:
      case Kind::kNfkd: {
        const bool compose = step.kind == Kind::kNfc || step.kind == Kind::kNfkc;
        const bool compatible = step.kind == Kind::kNfkc || step.kind == Kind::kNfkd;
        now = OnValidText(now,
                          [&](std::string_view t) { return NormalForm(t, compose, compatible); });
        break;
      }
      case Kind::kLowercase:
        now = OnValidText(now, Lowercase);
        break;
      case Kind::kStripAccents:
        now = WithoutMarks(now);
        break;
      case Kind::kStrip:
        now = Strip(now, step.left, step.right);
        break;
      case Kind::kReplace:
        now = Replace(step, now);
        break;
      case Kind::kPrepend:
        if (!now.empty()) now.insert(0, step.literal);
        break;
    }
  }
  return now;
}

}  // namespace hadal::internal
