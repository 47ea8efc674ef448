// The words of a text as the statistics see them: runs of letters and digits, without letter case
// (of ASCII); every Chinese or Japanese character is a word.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace hadal::internal {

struct Word {
  uint64_t hash;
  uint32_t begin, size;  // bytes of the text
  bool ideograph;
};

// Texts over 4 GiB are cut there. Linear.
void SplitWords(std::string_view text, std::vector<Word>* words);

inline uint64_t Mix64(uint64_t x) {  // the finaliser of SplitMix64
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

bool IsIdeograph(char32_t code);  // Han, kana, and their extensions; no punctuation

}  // namespace hadal::internal
