// Text to token ids and back. One class for byte-level BPE (tokenizer.json or GGUF "gpt2") and
// SentencePiece-style BPE (GGUF "llama"). Immutable after construction, safe to share.
//
// Broken UTF-8. Any bytes may be encoded. Splitting sees each broken sequence (the longest start of
// a character, at least one byte) as U+FFFD, but cuts the bytes as they are. A byte-level model
// writes them by its byte tokens, so Decode gives them back; a byte without a token becomes U+FFFD
// where the vocabulary can spell that. Of valid text, a byte without a token becomes
// tokenizer.json's unknown token, or nothing, as in the reference; a GGUF's unknown token is not
// used there. A SentencePiece-style model writes a character without a token by its <0xHH> tokens,
// or as unknown.
//
// Markers. Control tokens, and user-defined tokens spelled <...> or [...], steer the model: text
// becomes one only in EncodeWithSpecials and in the control ranges of EncodePrompt. Elsewhere their
// spelling is plain text, and merges that would make one are left out. Other user-defined tokens
// are found in any text, the leftmost first, the longest at each place.
//
// Caches. Texts from 8 KB on remember what their short pieces became, per call and up to 3 MB;
// ids never depend on it. Cost is linear in the length of text, or n log n in its longest piece.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hadal {

using TokenId = int32_t;

// What GGUF metadata says of a tokenizer, in neutral form (this module knows no file formats).
struct TokenizerSpec {
  enum class Model { kByteBpe, kSpm };
  // GGUF's token types: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
  Model model = Model::kByteBpe;
  std::string pre;  // "deepseek-llm", "deepseek-coder", "deepseek-v3", "deepseek-r1-qwen", "qwen2",
                    // "llama-bpe", "llama3", "gpt-2", "smollm", "default", ...
  std::vector<std::string> tokens;
  std::vector<int32_t> types;  // empty or one a token
  std::vector<float> scores;   // SPM
  std::vector<std::string> merges;
  std::optional<TokenId> bos, eos, unknown, pad;
  bool add_bos = false, add_eos = false, add_space_prefix = true;
};

class Tokenizer {
 public:
  static Result<Tokenizer> FromSpec(TokenizerSpec spec);
  // json: tokenizer.json; config_json: tokenizer_config.json or empty (bos, eos, add_bos_token).
  static Result<Tokenizer> FromJson(std::string_view json, std::string_view config_json = {});
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  int64_t vocab_size() const;
  std::optional<TokenId> bos() const;
  std::optional<TokenId> eos() const;
  bool add_bos() const;
  bool IsSpecial(TokenId id) const;                           // control tokens: not shown to people
  std::optional<TokenId> Find(std::string_view token) const;  // by its text, specials included
  // The token's stored text (special tokens verbatim, others byte-decoded). Empty if out of range.
  std::string_view Piece(TokenId id) const;

  // Plain text: special tokens inside it are text. No BOS or EOS is added.
  std::vector<TokenId> Encode(std::string_view text) const;

  // A rendered prompt: `control` are the byte ranges [begin, end) of text, sorted and disjoint,
  // inside which special tokens are recognised; a special token must lie wholly in one range.
  // Everything else is text. BOS is added first when add_bos() and the result does not start with
  // it already, so it is never doubled.
  using Range = std::pair<size_t, size_t>;
  std::vector<TokenId> EncodePrompt(std::string_view text, std::span<const Range> control) const;
  // The whole text may hold control tokens (what Hugging Face's encode does); no BOS is added.
  std::vector<TokenId> EncodeWithSpecials(std::string_view text) const;

  std::string Decode(std::span<const TokenId> ids, bool skip_special = false) const;

  // The tokenizer in neutral form, to be written into a GGUF. `pre` is the nearest known name.
  TokenizerSpec ToSpec() const;

  struct Impl;

 private:
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Turns a stream of ids into text that never ends inside a UTF-8 character: bytes of an unfinished
// character are held back; bytes that can never become one turn into U+FFFD.
// (All of Push + Flush equals Decode of all ids with invalid bytes replaced.)
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  std::string Push(TokenId id);
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool first_ = true;
  std::string held_;
};

}  // namespace hadal
