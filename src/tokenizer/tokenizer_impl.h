// What a Tokenizer holds, and how its makers fill it.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/byte_bpe.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/spm.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

struct Tokenizer::Impl {
  // GGUF's token types, in TokenizerSpec::types.
  enum Type : uint8_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUser = 4,
    kUnused = 5,
    kByte = 6
  };
  using Allow = internal::AddedTokenFinder::Allow;

  TokenizerSpec::Model model = TokenizerSpec::Model::kByteBpe;
  std::vector<std::string> pieces;  // as shown, by id
  std::vector<std::string> names;   // as stored in the file, by id, where that differs from pieces
  std::vector<uint8_t> types;
  std::vector<bool> verbatim;  // byte-level: the name is the text itself, no stand-ins
  std::vector<float> scores;
  std::vector<std::pair<TokenId, TokenId>> merges;  // in order of rank
  std::optional<TokenId> bos, eos, unknown, pad;
  bool add_bos = false, add_eos = false, add_space_prefix = false;
  bool strip_first_space = false;  // of decoded text
  std::string pre_name;

  internal::StringTable by_text;  // names and pieces, without those of byte-level text tokens
  std::optional<internal::CutTable> cuts;
  internal::Normalizer normalizer;
  internal::PreTokenizer pre;
  std::optional<internal::BpeModel> bpe;
  std::deque<internal::AddedToken> added;
  internal::AddedTokenFinder in_text;        // looked for in the text as given
  internal::AddedTokenFinder in_normalized;  // looked for after normalisation

  static std::unique_ptr<Impl> Release(Tokenizer* tokenizer) { return std::move(tokenizer->impl_); }
  static Tokenizer Wrap(std::unique_ptr<Impl> impl) { return Tokenizer(std::move(impl)); }

  bool IsControl(TokenId id) const {
    const uint8_t type = types[static_cast<size_t>(id)];
    return type == kControl || type == kUnknown;
  }
  // Fills the finders and by_text from the other members; the last step of construction.
  void Index();

  enum class Mode : uint8_t { kPlain, kPrompt, kAll };
  void EncodeText(std::string_view text, Mode mode, const Allow& in_range,
                  std::vector<TokenId>* out) const;
  void EncodeGap(std::string_view gap, bool at_start, Mode mode, std::vector<TokenId>* out) const;
  void EncodePlain(std::string_view text, bool at_start, std::vector<TokenId>* out) const;
};

namespace internal {

inline constexpr size_t kMaxVocabulary = size_t{1} << 22;

// The token's bytes from its stand-in characters; false when a character is no stand-in.
bool FromStandIns(std::string_view name, std::string* bytes);
bool AppendFromStandIns(std::string_view name, std::string* bytes);
std::string ToStandIns(std::string_view bytes);

// Where merges are read from.
struct MergeRule {
  std::string_view left, right;
};
// Adds merges by name to impl (names looked up in `ids`); those that would make a control token
// from text are left out.
Status AddMerges(const std::vector<MergeRule>& rules, const StringTable& ids,
                 Tokenizer::Impl* impl);
// The tokens that text may become are added to impl->bpe; bytes are taken from pieces (byte-level)
// or names.
std::vector<TokenId> AddTextTokens(Tokenizer::Impl* impl);

}  // namespace internal
}  // namespace hadal
