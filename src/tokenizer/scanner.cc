// Hand-written equivalents of the splitting patterns in common use.
#include <algorithm>

#include "tokenizer/pretokenizer.h"

namespace hadal::internal {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepSeekV3Pattern =
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kTrailingSpacePattern = R"(\s+$)";

bool IsBreak(char c) { return c == '\r' || c == '\n'; }

bool IsHanOrKana(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
}

// Characters of the classes kStop end the text: an earlier split of the sequence cut there. With
// kHanStops so do Han characters and kana, whose class is kDigit alone then.
template <uint8_t kStop = 0, bool kHanStops = false>
class BasicCursor {
 public:
  explicit BasicCursor(std::string_view text)
      : begin_(text.data()), end_(text.data() + text.size()), classes_(CharClasses()) {}

  static constexpr uint8_t kStops = kStop;

  // Class bits and size of the character at p < end.
  uint8_t ClassAt(const char* p, uint32_t* size) const {
    const auto byte = static_cast<unsigned char>(*p);
    if (byte < 0x80) {
      *size = 1;
      return classes_[byte];
    }
    const Utf8Char c = DecodeUtf8Slow(p, end_);
    *size = c.size;
    if (kHanStops && IsHanOrKana(c.code)) return kDigit;
    return classes_[c.code];
  }
  // The end of the longest run at p of characters with any (want) or none (!want) of `mask`.
  const char* Run(const char* p, uint8_t mask, bool want = true) const {
    while (p < end_) {
      uint32_t size;
      if (((ClassAt(p, &size) & mask) != 0) != want) break;
      p += size;
    }
    return p;
  }
  const char* Breaks(const char* p) const {
    while (p < end_ && IsBreak(*p)) ++p;
    return p;
  }
  // White space at p: up to the last line break in the run if with_breaks; else all of it at the
  // end of the text; else all but the last character, which the next piece may take.
  const char* Spaces(const char* p, bool with_breaks) const {
    const char* q = p;
    const char* last = p;         // start of the last character
    const char* after = nullptr;  // behind the last line break
    bool stopped = false;
    while (q < end_) {
      uint32_t size;
      const uint8_t c = ClassAt(q, &size);
      if (!(c & kSpace)) {
        stopped = (c & kStop) != 0;
        break;
      }
      last = q;
      q += size;
      if (IsBreak(*last)) after = q;
    }
    if (with_breaks && after != nullptr) return after;
    if (q == end_ || stopped || last == p) return q;
    return last;
  }
  const char* begin() const { return begin_; }
  const char* end() const { return end_; }

 private:
  const char* begin_;
  const char* end_;
  const uint8_t* classes_;
};

using Cursor = BasicCursor<>;

// The end of 's 't 're 've 'm 'll 'd at p (where *p is an apostrophe), or null. Under any_case the
// long s (U+017F) folds to s.
const char* Contraction(const char* p, const char* end, bool any_case) {
  if (end - p < 2) return nullptr;
  const int fold = any_case ? 0x20 : 0;
  const int a = static_cast<unsigned char>(p[1]) | ((p[1] & 0x40) ? fold : 0);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
  if (any_case && end - p >= 3 && p[1] == '\xC5' && p[2] == '\xBF') return p + 3;
  if (end - p < 3) return nullptr;
  const int b = static_cast<unsigned char>(p[2]) | ((p[2] & 0x40) ? fold : 0);
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p + 3;
  return nullptr;
}

template <typename AnyCursor>
const char* NextGpt2(const AnyCursor& text, const char* p) {
  if (*p == '\'') {
    if (const char* q = Contraction(p, text.end(), /*any_case=*/false)) return q;
  }
  uint32_t size;
  uint8_t c = text.ClassAt(p, &size);
  const char* q = p;
  if (*p == ' ' && p + 1 < text.end()) {
    const uint8_t next = text.ClassAt(p + 1, &size);
    if (!(next & (kSpace | AnyCursor::kStops))) {
      c = next;
      q = p + 1;
    }
  }
  if (c & kLetter) return text.Run(q + size, kLetter);
  if (c & kNumber) return text.Run(q + size, kNumber);
  if (!(c & kSpace)) return text.Run(q + size, kSpace | kLetter | kNumber, /*want=*/false);
  return text.Spaces(p, /*with_breaks=*/false);
}

const char* NextLlama3(const Cursor& text, const char* p, int digits) {
  if (*p == '\'') {
    if (const char* q = Contraction(p, text.end(), /*any_case=*/true)) return q;
  }
  uint32_t size;
  const uint8_t c = text.ClassAt(p, &size);
  if (c & kLetter) return text.Run(p + size, kLetter);
  if (c & kNumber) {
    const char* q = p + size;
    for (int n = 1; n < digits && q < text.end() && (text.ClassAt(q, &size) & kNumber); ++n)
      q += size;
    return q;
  }
  const char* q = p + size;
  uint8_t next = 0;
  uint32_t next_size = 0;
  if (q < text.end()) next = text.ClassAt(q, &next_size);
  if (!IsBreak(*p) && (next & kLetter)) return text.Run(q + next_size, kLetter);
  constexpr uint8_t kTaken = kSpace | kLetter | kNumber;
  if (!(c & kSpace)) return text.Breaks(text.Run(q, kTaken, /*want=*/false));
  if (*p == ' ' && q < text.end() && !(next & kTaken)) {
    return text.Breaks(text.Run(q + next_size, kTaken, /*want=*/false));
  }
  return text.Spaces(p, /*with_breaks=*/true);
}

bool IsAsciiLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Null where no alternative matches.
template <typename AnyCursor>
const char* NextDeepSeekV3(const AnyCursor& text, const char* p) {
  uint32_t size;
  const uint8_t c = text.ClassAt(p, &size);
  const char* q = p + size;
  if (c & (kLetter | kMark)) return text.Run(q, kLetter | kMark);
  uint8_t next = 0;
  uint32_t next_size = 0;
  if (q < text.end()) next = text.ClassAt(q, &next_size);
  if (c & (kPunct | kSymbol)) {
    if (static_cast<unsigned char>(*p) < 0x80 && q < text.end() && IsAsciiLetter(*q)) {
      while (q < text.end() && IsAsciiLetter(*q)) ++q;
      return q;
    }
    return text.Breaks(text.Run(q, kPunct | kSymbol));
  }
  if (!IsBreak(*p) && (next & (kLetter | kMark))) return text.Run(q + next_size, kLetter | kMark);
  if (*p == ' ' && (next & (kPunct | kSymbol))) {
    return text.Breaks(text.Run(q + next_size, kPunct | kSymbol));
  }
  if (c & kSpace) return text.Spaces(p, /*with_breaks=*/true);
  return nullptr;
}

// \s+$ with $ at each line end.
void ScanTrailingSpace(std::string_view view, std::vector<std::string_view>* out) {
  const Cursor text(view);
  const char* gap = text.begin();
  for (const char* p = text.begin(); p < text.end();) {
    uint32_t size;
    if (!(text.ClassAt(p, &size) & kSpace)) {
      p += size;
      continue;
    }
    const char* q = text.Run(p, kSpace);
    const char* stop = q == text.end() ? q : nullptr;
    for (const char* r = q; stop == nullptr && r > p;) {
      if (*--r == '\n' && r > p) stop = r;
    }
    if (stop == nullptr) {
      p = q;
      continue;
    }
    if (gap < p) out->emplace_back(gap, p - gap);
    out->emplace_back(p, stop - p);
    gap = p = stop;
    if (stop != q) p = q;  // what is left of the run holds at most its first line break
  }
  if (gap < text.end()) out->emplace_back(gap, text.end() - gap);
}

}  // namespace

std::string_view ScannerPattern(Scanner scanner) {
  switch (scanner) {
    case Scanner::kGpt2:
      return kGpt2Pattern;
    case Scanner::kLlama3:
      return kLlama3Pattern;
    case Scanner::kQwen2:
      return kQwen2Pattern;
    case Scanner::kDeepSeekV3:
      return kDeepSeekV3Pattern;
    case Scanner::kTrailingSpace:
      return kTrailingSpacePattern;
  }
  return {};
}

std::optional<Scanner> ScannerOf(std::string_view pattern) {
  for (const Scanner s : {Scanner::kGpt2, Scanner::kLlama3, Scanner::kQwen2, Scanner::kDeepSeekV3,
                          Scanner::kTrailingSpace}) {
    if (pattern == ScannerPattern(s)) return s;
  }
  return std::nullopt;
}

void Scan(Scanner scanner, std::string_view view, std::vector<std::string_view>* out) {
  if (scanner == Scanner::kTrailingSpace) return ScanTrailingSpace(view, out);
  const Cursor text(view);
  const char* p = text.begin();
  const char* gap = p;
  while (p < text.end()) {
    const char* q = nullptr;
    switch (scanner) {
      case Scanner::kGpt2:
        q = NextGpt2(text, p);
        break;
      case Scanner::kLlama3:
        q = NextLlama3(text, p, 3);
        break;
      case Scanner::kQwen2:
        q = NextLlama3(text, p, 1);
        break;
      default:
        q = NextDeepSeekV3(text, p);
    }
    if (q == nullptr) {
      uint32_t size;
      text.ClassAt(p, &size);
      p += size;
      continue;
    }
    if (gap < p) out->emplace_back(gap, p - gap);
    out->emplace_back(p, q - p);
    gap = p = q;
  }
  if (gap < p) out->emplace_back(gap, p - gap);
}

// Every number alone, the text between as GPT-2 does.
void ScanSmolLm(std::string_view view, std::vector<std::string_view>* out) {
  const BasicCursor<kNumber> text(view);
  for (const char* p = text.begin(); p < text.end();) {
    uint32_t size;
    const char* q = (text.ClassAt(p, &size) & kNumber) ? p + size : NextGpt2(text, p);
    out->emplace_back(p, q - p);
    p = q;
  }
}

// Numbers in groups of three, runs of Han and kana cut once more on their own, the text between by
// the long pattern.
void ScanDeepSeekV3(std::string_view view, std::vector<std::string_view>* out) {
  const BasicCursor<kNumber | kDigit, /*kHanStops=*/true> text(view);
  const char* gap = text.begin();
  const auto flush = [&](const char* p) {
    if (gap < p) out->emplace_back(gap, p - gap);
    gap = p;
  };
  for (const char* p = gap; p < text.end();) {
    uint32_t size;
    const uint8_t c = text.ClassAt(p, &size);
    if (c & (kNumber | kDigit)) {
      flush(p);
      const char* q = p + size;
      if (c & kNumber) {
        for (int n = 1; n < 3 && q < text.end() && (text.ClassAt(q, &size) & kNumber); ++n) {
          q += size;
        }
        out->emplace_back(p, q - p);
      } else {
        while (q < text.end() && text.ClassAt(q, &size) == kDigit) q += size;
        Scan(Scanner::kDeepSeekV3, {p, static_cast<size_t>(q - p)}, out);
      }
      gap = p = q;
      continue;
    }
    const char* q = NextDeepSeekV3(text, p);
    if (q == nullptr) {
      p += size;
      continue;
    }
    flush(p);
    out->emplace_back(p, q - p);
    gap = p = q;
  }
  flush(text.end());
}

}  // namespace hadal::internal
