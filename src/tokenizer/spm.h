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

// True when a space mark is never preceded by anything but space marks inside a token: then no
// merge crosses such a place and text may be cut there.
bool SpaceMarkLeads(std::span<const std::string> tokens, std::span<const TokenId> normal);

// The pieces of text cut before each space mark that follows something else.
void CutBeforeSpaceMarks(std::string_view text, std::vector<std::string_view>* out);

}  // namespace hadal::internal
