// UTF-8 decoding and character classes, as the pre-tokenizers' patterns see them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::internal {

inline constexpr char32_t kReplacement = 0xFFFD;
inline constexpr char32_t kCodePoints = 0x110000;

enum CharClass : uint8_t {
  kLetter = 1,   // \p{L}
  kMark = 2,     // \p{M}
  kNumber = 4,   // \p{N}
  kPunct = 8,    // \p{P}
  kSymbol = 16,  // \p{S}
  kSpace = 32,   // \s: White_Space
  kWord = 64,    // \w
  kDigit = 128,  // \d: Nd
};

// The class bits of every code point, kCodePoints bytes, built at the first call.
const uint8_t* CharClasses();

struct Utf8Char {
  char32_t code;  // kReplacement when the bytes are no character
  uint32_t size;  // bytes taken; of broken text the longest start of a character, at least 1
  bool valid;
};

// The character at p; p < end.
Utf8Char DecodeUtf8Slow(const char* p, const char* end);
inline Utf8Char DecodeUtf8(const char* p, const char* end) {
  const auto byte = static_cast<unsigned char>(*p);
  if (byte < 0x80) return {byte, 1, true};
  return DecodeUtf8Slow(p, end);
}

void AppendUtf8(char32_t code, std::string* out);
bool IsValidUtf8(std::string_view text);
// Every broken sequence replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view text);
// How many bytes at the end of text are the start of a character that more bytes could complete.
size_t IncompleteUtf8Suffix(std::string_view text);

// The printable stand-in of each byte in the vocabulary files of byte-level models, and back
// (-1: not a stand-in). Source: the GPT-2 encoder's bytes_to_unicode.
char32_t ByteToStandIn(uint8_t byte);
int StandInToByte(char32_t code);

// A set of code points as a bit map.
class CharSet {
 public:
  CharSet() : bits_(kCodePoints / 64) {}
  void Add(char32_t code) { bits_[code >> 6] |= uint64_t{1} << (code & 63); }
  void AddRange(char32_t first, char32_t last);
  void AddClasses(uint8_t classes, bool negated);
  void Invert();
  bool Has(char32_t code) const { return (bits_[code >> 6] >> (code & 63)) & 1; }

 private:
  std::vector<uint64_t> bits_;
};

}  // namespace hadal::internal
