// SentencePiece-style vocabularies: scores instead of merges.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "tokenizer/byte_bpe.h"

namespace hadal::internal {

// U+2581, which stands for a space in these vocabularies.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

// The byte of a token spelled <0xAB>, or -1.
int ByteOfName(std::string_view token);

// Adds the merges that scores imply: two neighbours join when their text is a token, the highest
// score first, then the leftmost. normal: the ids that text may become (already added to model).
Status AddScoreMerges(std::span<const std::string> tokens, std::span<const float> scores,
                      std::span<const TokenId> normal, BpeModel* model);

// Places that no merge crosses, where text may be cut into pieces that merge apart from each other.
class CutTable {
 public:
  // Every text that a merge makes.
  void AddMerged(std::string_view text);
  // The pieces of text cut between any two ASCII characters that stand side by side in no merged
  // text, and before runs of space marks when no merged text has one behind another character.
  void Cut(std::string_view text, std::vector<std::string_view>* out) const;

 private:
  bool Joins(uint8_t a, uint8_t b) const { return (joined_[a][b >> 6] >> (b & 63)) & 1; }
  bool marks_lead_ = true;
  uint64_t joined_[128][2] = {};
};

}  // namespace hadal::internal
