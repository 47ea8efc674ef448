#include "tokenizer/unicode.h"

#include <array>
#include <memory>

namespace hadal::internal {
namespace {

constexpr uint32_t kRuns[] = {
#include "tokenizer/unicode_table.inc"
};

std::unique_ptr<uint8_t[]> BuildClasses() {
  auto table = std::make_unique<uint8_t[]>(kCodePoints);
  const size_t runs = sizeof(kRuns) / sizeof(kRuns[0]);
  for (size_t i = 0; i < runs; ++i) {
    const uint32_t begin = kRuns[i] >> 8;
    const uint32_t end = i + 1 < runs ? kRuns[i + 1] >> 8 : uint32_t{kCodePoints};
    for (uint32_t c = begin; c < end; ++c) table[c] = static_cast<uint8_t>(kRuns[i]);
  }
  return table;
}

struct StandIns {
  std::array<char32_t, 256> of_byte{};
  std::array<int16_t, 512> to_byte{};
};

StandIns BuildStandIns() {
  StandIns s;
  s.to_byte.fill(-1);
  char32_t next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    s.of_byte[b] = printable ? static_cast<char32_t>(b) : next++;
    s.to_byte[s.of_byte[b]] = static_cast<int16_t>(b);
  }
  return s;
}

const StandIns& TheStandIns() {
  static const StandIns stand_ins = BuildStandIns();
  return stand_ins;
}

bool IsTail(unsigned char byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

const uint8_t* CharClasses() {
  static const std::unique_ptr<uint8_t[]> table = BuildClasses();
  return table.get();
}

Utf8Char DecodeUtf8Slow(const char* p, const char* end) {
  const auto* s = reinterpret_cast<const unsigned char*>(p);
  const size_t left = static_cast<size_t>(end - p);
  const unsigned char b0 = s[0];
  if (b0 < 0x80) return {b0, 1, true};
  if (b0 < 0xC2 || b0 > 0xF4) return {kReplacement, 1, false};
  // The second byte's range excludes overlong forms, surrogates and codes past U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  if (b0 == 0xE0) low = 0xA0;
  if (b0 == 0xED) high = 0x9F;
  if (b0 == 0xF0) low = 0x90;
  if (b0 == 0xF4) high = 0x8F;
  if (left < 2 || s[1] < low || s[1] > high) return {kReplacement, 1, false};
  if (b0 < 0xE0) return {static_cast<char32_t>((b0 & 0x1F) << 6 | (s[1] & 0x3F)), 2, true};
  if (left < 3 || !IsTail(s[2])) return {kReplacement, 2, false};
  if (b0 < 0xF0) {
    return {static_cast<char32_t>((b0 & 0x0F) << 12 | (s[1] & 0x3F) << 6 | (s[2] & 0x3F)), 3, true};
  }
  if (left < 4 || !IsTail(s[3])) return {kReplacement, 3, false};
  return {static_cast<char32_t>((b0 & 0x07) << 18 | (s[1] & 0x3F) << 12 | (s[2] & 0x3F) << 6 |
                                (s[3] & 0x3F)),
          4, true};
}

void AppendUtf8(char32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0 | code >> 6));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | code >> 12));
    out->push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | code >> 18));
    out->push_back(static_cast<char>(0x80 | (code >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

bool IsValidUtf8(std::string_view text) {
  const char* p = text.data();
  const char* end = p + text.size();
  while (p < end) {
    const Utf8Char c = DecodeUtf8(p, end);
    if (!c.valid) return false;
    p += c.size;
  }
  return true;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const char* p = text.data();
  const char* end = p + text.size();
  while (p < end) {
    const Utf8Char c = DecodeUtf8(p, end);
    if (c.valid) {
      out.append(p, c.size);
    } else {
      out.append("\xEF\xBF\xBD");
    }
    p += c.size;
  }
  return out;
}

size_t IncompleteUtf8Suffix(std::string_view text) {
  const size_t longest = text.size() < 3 ? text.size() : 3;
  for (size_t n = 1; n <= longest; ++n) {
    const char* p = text.data() + text.size() - n;
    const auto byte = static_cast<unsigned char>(*p);
    if (IsTail(byte)) continue;
    const size_t wants = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    const Utf8Char c = DecodeUtf8(p, p + n);
    return !c.valid && byte >= 0xC2 && byte <= 0xF4 && wants > n && c.size == n ? n : 0;
  }
  return 0;
}

char32_t ByteToStandIn(uint8_t byte) { return TheStandIns().of_byte[byte]; }

int StandInToByte(char32_t code) { return code < 512 ? TheStandIns().to_byte[code] : -1; }

void CharSet::AddRange(char32_t first, char32_t last) {
  for (char32_t c = first; c <= last;) {
    const bool whole = (c & 63) == 0 && last - c >= 63;
    if (whole) {
      bits_[c >> 6] = ~uint64_t{0};
    } else {
      Add(c);
    }
    c += whole ? 64 : 1;
  }
}

void CharSet::AddClasses(uint8_t classes, bool negated) {
  const size_t runs = sizeof(kRuns) / sizeof(kRuns[0]);
  for (size_t i = 0; i < runs; ++i) {
    if (((kRuns[i] & classes) != 0) == negated) continue;
    const uint32_t end = i + 1 < runs ? kRuns[i + 1] >> 8 : uint32_t{kCodePoints};
    if (end > kRuns[i] >> 8) AddRange(kRuns[i] >> 8, end - 1);
  }
}

void CharSet::Invert() {
  for (uint64_t& word : bits_) word = ~word;
}

}  // namespace hadal::internal
