#include "data/words.h"

#include <array>

#include "tokenizer/unicode.h"

namespace hadal::internal {
namespace {

// 0: between words; else the byte as it is hashed. Bytes of longer characters are looked at one by
// one below.
constexpr std::array<uint8_t, 256> kFolded = [] {
  std::array<uint8_t, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[static_cast<size_t>(c)] = static_cast<uint8_t>(c);
  for (int c = 'a'; c <= 'z'; ++c) {
    table[static_cast<size_t>(c)] = table[static_cast<size_t>(c - 32)] = static_cast<uint8_t>(c);
  }
  return table;
}();

uint64_t AddByte(uint64_t hash, uint8_t byte) { return (hash ^ byte) * 0x9E3779B97F4A7C15ull; }

}  // namespace

bool IsIdeograph(char32_t code) {
  return (code >= 0x4E00 && code <= 0x9FFF) ||
         (code >= 0x3041 && code <= 0x30FF && code != 0x30FB) ||
         (code >= 0x3400 && code <= 0x4DBF) || (code >= 0xF900 && code <= 0xFAFF) ||
         (code >= 0x20000 && code <= 0x3FFFF) || code == 0x3005 || code == 0x3007;
}

void SplitWords(std::string_view text, std::vector<Word>* words) {
  words->clear();
  text = text.substr(0, UINT32_MAX);
  const uint8_t* classes = CharClasses();
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const char* start = nullptr;  // of the open word
  uint64_t hash = 0;
  const auto at = [&](const char* p) { return static_cast<uint32_t>(p - begin); };
  const auto close = [&](const char* p) {
    if (start != nullptr) words->push_back({Mix64(hash), at(start), at(p) - at(start), false});
    start = nullptr;
    hash = 0;
  };
  for (const char* p = begin; p < end;) {
    const auto byte = static_cast<uint8_t>(*p);
    if (byte < 0x80) {
      const uint8_t folded = kFolded[byte];
      if (folded == 0) {
        close(p);
      } else {
        if (start == nullptr) start = p;
        hash = AddByte(hash, folded);
      }
      ++p;
      continue;
    }
    const Utf8Char c = DecodeUtf8Slow(p, end);
    if (IsIdeograph(c.code)) {
      close(p);
      words->push_back({Mix64(c.code + 0x1000000), at(p), c.size, true});
    } else if ((classes[c.code] & (kLetter | kMark | kNumber)) != 0) {
      if (start == nullptr) start = p;
      for (uint32_t i = 0; i < c.size; ++i) hash = AddByte(hash, static_cast<uint8_t>(p[i]));
    } else {
      close(p);
    }
    p += c.size;
  }
  close(end);
}

}  // namespace hadal::internal
