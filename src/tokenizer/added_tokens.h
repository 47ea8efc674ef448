// Tokens that are found in text as they are written, before any splitting or merging.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer.h"

namespace hadal::internal {

struct AddedToken {
  std::string text;
  TokenId id = -1;
  bool special = false;
  bool single_word = false, lstrip = false, rstrip = false;
  bool normalized = false;  // looked for in normalised text
};

inline constexpr size_t kMaxAddedTokenBytes = 512;

// Text of the form <...> or [...]: such a token steers the model even where its file does not call
// it special (DeepSeek's <｜User｜> and <think>), so user text may not spell it.
bool LooksLikeMarker(std::string_view text);

class AddedTokenFinder {
 public:
  struct Match {
    size_t begin, end;  // with the white space that lstrip and rstrip take
    const AddedToken* token;
  };
  // May this token be recognised at bytes [begin, end)?
  using Allow = std::function<bool(const AddedToken& token, size_t begin, size_t end)>;

  void Add(std::string_view spelled, const AddedToken* token);
  bool empty() const { return tokens_.empty(); }
  // The allowed matches, leftmost first, the longest at each place, disjoint.
  std::vector<Match> FindAll(std::string_view text, const Allow& allow) const;

 private:
  const AddedToken* LongestAt(std::string_view text, size_t at, const Allow& allow,
                              size_t* end) const;
  MergeTable edges_;                                 // (node, byte) -> node
  std::vector<const AddedToken*> ends_ = {nullptr};  // per node
  std::vector<const AddedToken*> tokens_;
  bool first_[256] = {};
};

}  // namespace hadal::internal
