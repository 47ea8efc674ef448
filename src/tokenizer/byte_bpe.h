// Byte-pair encoding of one piece of text: over bytes (byte-level models) or over characters with
// fall back to bytes (SentencePiece-style models).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer.h"

namespace hadal::internal {

class BpeModel {
 public:
  struct Options {
    bool byte_level = true;
    bool ignore_merges = false;  // a piece that is a token is that token, whatever its merges
    bool fuse_unknown = false;   // neighbouring unknown characters give one token
    std::optional<TokenId> unknown;
  };
  BpeModel(Options options, TokenId vocab_size);

  // A token that text may become. First of equal texts wins.
  void AddToken(std::string_view bytes, TokenId id) { pieces_.Insert(bytes, id); }
  // The token that stands for one byte when a character has none.
  void SetFallback(uint8_t byte, TokenId id) { fallback_[byte] = id; }
  void ReserveMerges(size_t count) { merges_.Reserve(count); }
  // A pair that becomes `merged`. Lower ranks merge first, equal ranks from the left. The first
  // of equal pairs wins (false: it was there).
  bool AddMerge(TokenId left, TokenId right, uint32_t rank, TokenId merged) {
    return merges_.Insert(left, right, {rank, merged});
  }
  // A character that is no token but starts merges (SentencePiece): an id past the vocabulary.
  TokenId AddVirtual(std::string_view character);
  // Call last.
  void Finish();

  // May neighbouring characters become one unknown token?
  bool FusesUnknown() const;
  size_t token_count() const { return pieces_.size(); }  // different texts
  TokenId Find(std::string_view bytes) const { return pieces_.Find(bytes); }
  // Appends the ids of one piece. A byte-level byte without a token is written as U+FFFD when it is
  // broken UTF-8 and that can be expressed, else as the unknown token, else dropped. O(n log n).
  void Encode(std::string_view piece, std::vector<TokenId>* out) const;

 private:
  void InitialSymbols(std::string_view piece, std::vector<TokenId>* symbols) const;
  void AppendUnmatched(std::string_view character, std::vector<TokenId>* symbols) const;
  void MergeShort(TokenId* symbols, size_t* count) const;
  void MergeLong(std::vector<TokenId>* symbols) const;
  void EncodeByMerges(std::string_view piece, std::vector<TokenId>* out) const;
  bool IsStable(std::string_view piece, TokenId id) const;

  Options options_;
  TokenId vocab_size_;
  StringTable pieces_;
  MergeTable merges_;
  std::array<TokenId, 256> bytes_;     // single-byte tokens of a byte-level model
  std::array<TokenId, 256> fallback_;  // -1: none
  std::vector<TokenId> broken_;        // U+FFFD in a byte-level vocabulary
  std::vector<std::string> virtuals_;  // characters of the ids from vocab_size_ on
  // Of each token: 0 not known yet, 1 its own merges lead to it, 2 they do not.
  std::unique_ptr<std::atomic<uint8_t>[]> stable_;
};

}  // namespace hadal::internal
