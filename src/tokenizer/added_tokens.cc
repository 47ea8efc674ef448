#include "tokenizer/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>

#include "tokenizer/unicode.h"

namespace hadal::internal {
namespace {

// The character that ends at `at`, or 0 at the start of text.
char32_t CharBefore(std::string_view text, size_t at, size_t* begin) {
  if (at == 0) return 0;
  size_t b = at - 1;
  while (b > 0 && at - b < 4 && (static_cast<unsigned char>(text[b]) & 0xC0) == 0x80) --b;
  const Utf8Char c = DecodeUtf8(text.data() + b, text.data() + at);
  *begin = c.valid && c.size == at - b ? b : at - 1;
  return c.valid && c.size == at - b ? c.code : kReplacement;
}

// A word character as the reference sees it beside a single_word token: letters, marks, decimal and
// letter numbers, connectors, joiners. (Its regular expressions have another idea, see kWord.)
bool IsWord(char32_t code) {
  const uint8_t bits = CharClasses()[code];
  if (bits & (kLetter | kMark | kDigit)) return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  return category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC || code == 0x200C ||
         code == 0x200D || (code >= 0x24B6 && code <= 0x24E9) ||
         (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
         (code >= 0x1F170 && code <= 0x1F189);
}

bool Has(char32_t code, uint8_t mask) { return (CharClasses()[code] & mask) != 0; }

}  // namespace

bool LooksLikeMarker(std::string_view text) {
  return text.size() >= 3 && ((text.front() == '<' && text.back() == '>') ||
                              (text.front() == '[' && text.back() == ']'));
}

void AddedTokenFinder::Add(std::string_view spelled, const AddedToken* token) {
  if (spelled.empty()) return;
  TokenId node = 0;
  for (const char c : spelled) {
    const TokenId byte = static_cast<unsigned char>(c);
    TokenId next = edges_.Find(node, byte).id;
    if (next < 0) {
      next = static_cast<TokenId>(ends_.size());
      ends_.push_back(nullptr);
      edges_.Insert(node, byte, {0, next});
    }
    node = next;
  }
  if (ends_[static_cast<size_t>(node)] != nullptr) return;
  ends_[static_cast<size_t>(node)] = token;
  first_[static_cast<unsigned char>(spelled[0])] = true;
  tokens_.push_back(token);
}

const AddedToken* AddedTokenFinder::LongestAt(std::string_view text, size_t at, const Allow& allow,
                                              size_t* end) const {
  const AddedToken* best = nullptr;
  TokenId node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    node = edges_.Find(node, static_cast<unsigned char>(text[i])).id;
    if (node < 0) break;
    const AddedToken* token = ends_[static_cast<size_t>(node)];
    if (token != nullptr && allow(*token, at, i + 1)) {
      best = token;
      *end = i + 1;
    }
  }
  return best;
}

std::vector<AddedTokenFinder::Match> AddedTokenFinder::FindAll(std::string_view text,
                                                               const Allow& allow) const {
  std::vector<Match> matches;
  if (tokens_.empty()) return matches;
  size_t taken = 0;  // end of the last match
  for (size_t at = 0; at < text.size();) {
    if (!first_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    size_t end = 0;
    const AddedToken* token = LongestAt(text, at, allow, &end);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    at = end;
    if (token->single_word) {
      size_t unused = 0;
      const bool before = begin > 0 && IsWord(CharBefore(text, begin, &unused));
      const bool after = end < text.size() &&
                         IsWord(DecodeUtf8(text.data() + end, text.data() + text.size()).code);
      if (before || after) continue;
    }
    while (token->lstrip && begin > taken) {
      size_t previous = begin;
      if (!Has(CharBefore(text, begin, &previous), kSpace)) break;
      begin = std::max(previous, taken);
    }
    while (token->rstrip && end < text.size()) {
      const Utf8Char c = DecodeUtf8(text.data() + end, text.data() + text.size());
      if (!Has(c.code, kSpace)) break;
      end += c.size;
    }
    matches.push_back({begin, end, token});
    at = taken = end;
  }
  return matches;
}

}  // namespace hadal::internal
