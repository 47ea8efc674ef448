// Packing documents into training sequences, and rearranging documents for fill-in-the-middle.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

// Where a document of a sequence comes from.
struct PieceSource {
  uint64_t shard = 0;        // Shard::checksum()
  int64_t document = 0;      // of the shard
  int64_t first_target = 0;  // targets in the pieces of the document before this one
  bool operator==(const PieceSource&) const = default;
};

// At most sequence_length tokens of whole documents (or pieces of long ones). A document attends to
// itself only and its positions start at 0.
struct PackedSequence {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> loss;  // one a token; 1: the token is a target, to be predicted from
                              // those before it in its document; 0 at every document's first
  std::vector<int32_t> document_first;    // where documents start, rising; the first entry is 0
  std::vector<PieceSource> sources = {};  // of each document; empty when they come from no shard
};

// Best-fit decreasing: lengths (each in [1, capacity]) go, longest first, into the fullest bin with
// room, equals in order of index. Returns bins of indices; bins in order of their smallest index,
// indices rising within a bin. O(n log n).
std::vector<std::vector<int32_t>> BestFit(std::span<const int32_t> lengths, int32_t capacity);

// A permutation of [0, n) that costs no memory: a Feistel cipher on the next power of four with
// cycle walking. `key` names the permutation.
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t key);
  uint64_t operator()(uint64_t i) const;  // i < n

 private:
  uint64_t n_, key_;
  int half_bits_;
};

// Fill-in-the-middle, prefix-suffix-middle order:
//   begin prefix hole suffix end middle       (DeepSeek-V3 report, 4.1; DeepSeek-Coder)
struct FimTokens {
  TokenId begin, hole, end;
};
// By the names <｜fim▁begin｜>, <｜fim▁hole｜>, <｜fim▁end｜>; nullopt when one is missing.
std::optional<FimTokens> FindFimTokens(const Tokenizer& tokenizer);

struct FimOptions {
  double rate = 0;  // share of documents rearranged
  uint64_t seed = 0;
};
// The text's ids, rearranged with probability `rate`: two cuts between characters, uniform. The
// choice depends on (seed, text) alone. No BOS or EOS is added.
std::vector<TokenId> EncodeWithFim(const Tokenizer& tokenizer, std::string_view text,
                                   const FimTokens& tokens, const FimOptions& options);

}  // namespace hadal
