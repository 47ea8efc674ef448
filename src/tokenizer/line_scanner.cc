// Sequences that cut at every line break first: lines of ASCII in one pass.
#include <array>

#include "tokenizer/pretokenizer.h"

namespace hadal::internal {
namespace {

enum AsciiClass : uint8_t { kOther = 0, kWhite = 1, kAlpha = 2, kPunctuation = 4, kNumeral = 8 };

std::array<uint8_t, 128> MakeClasses(const LineRules& rules) {
  std::array<uint8_t, 128> out{};
  const uint8_t* classes = CharClasses();
  for (size_t c = 0; c < out.size(); ++c) {
    const uint8_t bits = classes[c];
    const bool punct = (bits & kPunct) || (rules.symbols_are_punctuation && (bits & kSymbol));
    out[c] = (bits & kSpace)    ? kWhite
             : (bits & kLetter) ? kAlpha
             : punct            ? kPunctuation
             : (bits & kNumber) ? kNumeral
                                : kOther;
  }
  return out;
}

class LineScanner {
 public:
  LineScanner(const LineRules& rules, std::vector<std::string_view>* out)
      : rules_(rules), classes_(MakeClasses(rules)), out_(out) {}

  void Ascii(const char* p, const char* end) const {
    const char* gap = p;
    while (p < end) {
      const char* q = p;
      uint8_t c = ClassOf(*p);
      if (c == kWhite && p + 1 < end) {
        const uint8_t next = ClassOf(p[1]);
        if (next & (kAlpha | kPunctuation)) {
          c = next;
          ++q;
        }
      }
      if (!(c & (kAlpha | kPunctuation))) {
        ++p;
        continue;
      }
      do ++q;
      while (q < end && ClassOf(*q) == c);
      if (gap < p) Gap(gap, p);
      Emit(p, q);
      gap = p = q;
    }
    if (gap < end) Gap(gap, end);
  }

  // The end of the shortest stretch from p on after which a cut is sure, whatever stands there:
  // behind an ASCII letter and before ASCII white space.
  const char* Stretch(const char* p, const char* end, bool* ascii) const {
    *ascii = true;
    bool letter = false;
    for (; p < end; ++p) {
      const auto byte = static_cast<unsigned char>(*p);
      if (byte >= 0x80) {
        *ascii = letter = false;
        continue;
      }
      const uint8_t c = classes_[byte];
      if (letter && c == kWhite) break;
      letter = c == kAlpha;
    }
    return p;
  }

  void Emit(const char* begin, const char* end) const {
    out_->emplace_back(begin, static_cast<size_t>(end - begin));
  }

 private:
  uint8_t ClassOf(char c) const { return classes_[static_cast<unsigned char>(c)]; }

  // Text that no letters or punctuation match: white space, numerals, the rest.
  void Gap(const char* p, const char* end) const {
    const char* tail = end;
    if (rules_.cut_trailing_space) {
      while (tail > p && ClassOf(tail[-1]) == kWhite) --tail;
    }
    const char* begin = p;
    while (p < tail) {
      if (ClassOf(*p) != kNumeral) {
        ++p;
        continue;
      }
      if (begin < p) Emit(begin, p);
      begin = p++;
      while (!rules_.single_digits && p < tail && ClassOf(*p) == kNumeral) ++p;
      Emit(begin, p);
      begin = p;
    }
    if (begin < tail) Emit(begin, tail);
    if (tail < end) Emit(tail, end);
  }

  const LineRules& rules_;
  const std::array<uint8_t, 128> classes_;
  std::vector<std::string_view>* out_;
};

}  // namespace

void ScanLines(const LineRules& rules, std::string_view text, const SplitOther& other,
               std::vector<std::string_view>* out) {
  const LineScanner scanner(rules, out);
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    const char* q = p;
    unsigned char any = 0;
    for (; q < end && *q != '\n' && *q != '\r'; ++q) any |= static_cast<unsigned char>(*q);
    if (any < 0x80) {
      scanner.Ascii(p, q);
    } else {
      while (p < q) {
        bool ascii = true;
        const char* stop = scanner.Stretch(p, q, &ascii);
        if (ascii) {
          scanner.Ascii(p, stop);
        } else {
          other({p, static_cast<size_t>(stop - p)}, out);
        }
        p = stop;
      }
    }
    if (q < end) {
      scanner.Emit(q, q + 1);
      ++q;
    }
    p = q;
  }
}

}  // namespace hadal::internal
