#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode.h"

namespace hadal {

using internal::AddedToken;
using internal::LooksLikeMarker;

namespace internal {

bool AppendFromStandIns(std::string_view name, std::string* bytes) {
  const char* end = name.data() + name.size();
  for (const char* p = name.data(); p < end;) {
    if (*p > 0x20 && *p < 0x7F) {
      bytes->push_back(*p++);
      continue;
    }
    const Utf8Char c = DecodeUtf8(p, end);
    const int byte = c.valid ? StandInToByte(c.code) : -1;
    if (byte < 0) return false;
    bytes->push_back(static_cast<char>(byte));
    p += c.size;
  }
  return true;
}

bool FromStandIns(std::string_view name, std::string* bytes) {
  bytes->clear();
  return AppendFromStandIns(name, bytes);
}

std::string ToStandIns(std::string_view bytes) {
  std::string name;
  for (const char c : bytes) AppendUtf8(ByteToStandIn(static_cast<uint8_t>(c)), &name);
  return name;
}

Status AddMerges(const std::vector<MergeRule>& rules, const StringTable& ids,
                 Tokenizer::Impl* impl) {
  std::string whole;
  impl->bpe->ReserveMerges(rules.size());
  impl->merges.reserve(rules.size());
  for (size_t i = 0; i < rules.size(); ++i) {
    const auto& [left, right] = rules[i];
    whole.assign(left);
    whole += right;
    const TokenId a = ids.Find(left), b = ids.Find(right), c = ids.Find(whole);
    if (a < 0 || b < 0 || c < 0) {
      const std::string_view missing = a < 0 ? left : b < 0 ? right : std::string_view(whole);
      return Error{Code::kInvalid, "tokenizer: merge " + std::to_string(i) + " names the token \"" +
                                       std::string(missing.substr(0, 60)) +
                                       "\", which is not in the vocabulary"};
    }
    const auto type = impl->types[static_cast<size_t>(c)];
    if (impl->IsControl(c) || (type == Tokenizer::Impl::kUser && LooksLikeMarker(whole))) continue;
    if (impl->bpe->AddMerge(a, b, static_cast<uint32_t>(i), c)) impl->merges.emplace_back(a, b);
  }
  return {};
}

std::vector<TokenId> AddTextTokens(Tokenizer::Impl* impl) {
  using Impl = Tokenizer::Impl;
  std::vector<TokenId> normal;
  const bool byte_level = impl->model == TokenizerSpec::Model::kByteBpe;
  for (size_t i = 0; i < impl->types.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string& name = impl->names.empty() ? impl->pieces[i] : impl->names[i];
    if (impl->types[i] == Impl::kByte && !byte_level) {
      const int byte = ByteOfName(name);
      if (byte >= 0) impl->bpe->SetFallback(static_cast<uint8_t>(byte), id);
    } else if ((impl->types[i] == Impl::kNormal || impl->types[i] == Impl::kByte) &&
               !impl->pieces[i].empty() && !impl->verbatim[i]) {
      impl->bpe->AddToken(byte_level ? impl->pieces[i] : name, id);
      normal.push_back(id);
    }
  }
  return normal;
}

}  // namespace internal

void Tokenizer::Impl::Index() {
  for (const AddedToken& token : added) {
    const bool steers = token.special || LooksLikeMarker(token.text);
    if (!token.normalized || steers) in_text.Add(token.text, &token);
    if (token.normalized) {
      in_normalized.Add(normalizer.empty() ? token.text : normalizer.Apply(token.text), &token);
    }
    by_text.Insert(token.text, token.id);
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (!names[i].empty()) by_text.Insert(names[i], static_cast<TokenId>(i));
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].empty()) continue;
    const auto id = static_cast<TokenId>(i);
    if (model == TokenizerSpec::Model::kByteBpe) {
      // Text tokens are in the encoder's own table, the first of equal ones.
      if ((types[i] == kNormal || types[i] == kByte) && !verbatim[i]) continue;
      const TokenId known = bpe->Find(pieces[i]);
      if (known >= 0 && known < id) continue;
    }
    by_text.Insert(pieces[i], id);
  }
}

namespace {

// What short pieces of this text became, so that words that come again are looked up only. One per
// call: nothing is shared between threads.
class PieceCache {
 public:
  PieceCache(const internal::BpeModel& bpe, size_t text_size)
      : bpe_(bpe), slots_(std::clamp(std::bit_floor(text_size / 16), kFewest, kMost)) {}

  void Encode(std::string_view piece, std::vector<TokenId>* out) {
    if (piece.size() > sizeof(Slot::key)) return bpe_.Encode(piece, out);
    Slot& slot = slots_[internal::HashBytes(piece, seed_) & (slots_.size() - 1)];
    if (slot.size == piece.size() && internal::EqualBytes(slot.key, piece.data(), piece.size())) {
      for (size_t i = 0; i < slot.count; ++i) out->push_back(slot.ids[i]);
      return;
    }
    const size_t before = out->size();
    bpe_.Encode(piece, out);
    const size_t count = out->size() - before;
    if (count > std::size(slot.ids)) return;
    slot.size = static_cast<uint8_t>(piece.size());
    slot.count = static_cast<uint8_t>(count);
    std::memcpy(slot.key, piece.data(), piece.size());
    std::copy_n(out->begin() + static_cast<ptrdiff_t>(before), count, slot.ids);
  }

 private:
  static constexpr size_t kFewest = 512, kMost = 65536;
  struct Slot {
    uint8_t size = 0, count = 0;
    char key[22];
    TokenId ids[6];
  };
  const internal::BpeModel& bpe_;
  const uint64_t seed_ = internal::HashSeed();
  std::vector<Slot> slots_;  // a power of two
};

// From this many bytes on a text repeats itself enough to pay for a cache.
constexpr size_t kCacheFrom = 8192;

}  // namespace

void Tokenizer::Impl::EncodePlain(std::string_view text, bool at_start,
                                  std::vector<TokenId>* out) const {
  internal::Pieces pieces;
  pre.Split(text, at_start, &pieces);
  std::vector<std::string_view> cut;
  if (cuts) {
    cut.reserve(text.size() / 4 + 4);
    for (const std::string_view piece : pieces.list) cuts->Cut(piece, &cut);
  }
  const std::vector<std::string_view>& list = cuts ? cut : pieces.list;
  if (text.size() < kCacheFrom) {
    for (const std::string_view piece : list) bpe->Encode(piece, out);
    return;
  }
  PieceCache cache(*bpe, text.size());
  for (const std::string_view piece : list) cache.Encode(piece, out);
}

void Tokenizer::Impl::EncodeGap(std::string_view gap, bool at_start, Mode mode,
                                std::vector<TokenId>* out) const {
  std::string changed;
  if (!normalizer.empty()) {
    changed = normalizer.Apply(gap);
    gap = changed;
  }
  if (in_normalized.empty()) return EncodePlain(gap, at_start, out);
  const auto matches = in_normalized.FindAll(gap, [&](const AddedToken& token, size_t, size_t) {
    return mode == Mode::kAll || !(token.special || LooksLikeMarker(token.text));
  });
  size_t at = 0;
  for (const auto& m : matches) {
    if (m.begin > at) EncodePlain(gap.substr(at, m.begin - at), at_start && at == 0, out);
    out->push_back(m.token->id);
    at = m.end;
  }
  if (at < gap.size()) EncodePlain(gap.substr(at), at_start && at == 0, out);
}

void Tokenizer::Impl::EncodeText(std::string_view text, Mode mode, const Allow& in_range,
                                 std::vector<TokenId>* out) const {
  const auto allow = [&](const AddedToken& token, size_t begin, size_t end) {
    if (mode == Mode::kAll) return !token.normalized;
    if (token.special || LooksLikeMarker(token.text)) {
      return mode == Mode::kPrompt && in_range(token, begin, end);
    }
    return true;
  };
  out->reserve(out->size() + text.size() / 4 + 8);
  size_t at = 0;
  for (const auto& m : in_text.FindAll(text, allow)) {
    if (m.begin > at) EncodeGap(text.substr(at, m.begin - at), at == 0, mode, out);
    out->push_back(m.token->id);
    at = m.end;
  }
  if (at < text.size()) EncodeGap(text.substr(at), at == 0, mode, out);
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(impl_->pieces.size()); }
std::optional<TokenId> Tokenizer::bos() const { return impl_->bos; }
std::optional<TokenId> Tokenizer::eos() const { return impl_->eos; }
bool Tokenizer::add_bos() const { return impl_->add_bos && impl_->bos.has_value(); }

bool Tokenizer::IsSpecial(TokenId id) const {
  return id >= 0 && id < vocab_size() && impl_->IsControl(id);
}

std::optional<TokenId> Tokenizer::Find(std::string_view token) const {
  TokenId id = impl_->by_text.Find(token);
  const bool byte_level = impl_->model == TokenizerSpec::Model::kByteBpe;
  if (id < 0 && byte_level && !token.empty()) id = impl_->bpe->Find(token);
  return id >= 0 ? std::optional<TokenId>(id) : std::nullopt;
}

std::string_view Tokenizer::Piece(TokenId id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return impl_->pieces[static_cast<size_t>(id)];
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text) const {
  std::vector<TokenId> ids;
  impl_->EncodeText(text, Impl::Mode::kPlain, {}, &ids);
  return ids;
}

std::vector<TokenId> Tokenizer::EncodePrompt(std::string_view text,
                                             std::span<const Range> control) const {
  std::vector<TokenId> ids;
  const auto in_range = [&](const AddedToken&, size_t begin, size_t end) {
    // The last range that starts at or before `begin` is the only one that may hold it.
    const auto after = std::upper_bound(control.begin(), control.end(), begin,
                                        [](size_t at, const Range& r) { return at < r.first; });
    return after != control.begin() && end <= std::prev(after)->second;
  };
  impl_->EncodeText(text, Impl::Mode::kPrompt, in_range, &ids);
  if (add_bos() && (ids.empty() || ids.front() != *impl_->bos))
    ids.insert(ids.begin(), *impl_->bos);
  return ids;
}

std::vector<TokenId> Tokenizer::EncodeWithSpecials(std::string_view text) const {
  std::vector<TokenId> ids;
  impl_->EncodeText(text, Impl::Mode::kAll, {}, &ids);
  return ids;
}

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string text;
  bool first = true;
  for (const TokenId id : ids) {
    if (skip_special && IsSpecial(id)) continue;
    std::string_view piece = Piece(id);
    if (piece.empty()) continue;
    if (first && impl_->strip_first_space && piece.starts_with(' ')) piece.remove_prefix(1);
    first = false;
    text += piece;
  }
  return text;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special) {}

std::string StreamDecoder::Push(TokenId id) {
  if (skip_special_ && tokenizer_->IsSpecial(id)) return {};
  if (tokenizer_->Piece(id).empty()) return {};
  held_ += first_ ? tokenizer_->Decode({&id, 1}) : std::string(tokenizer_->Piece(id));
  first_ = false;
  const size_t open = internal::IncompleteUtf8Suffix(held_);
  std::string out =
      internal::ReplaceInvalidUtf8(std::string_view(held_).substr(0, held_.size() - open));
  held_.erase(0, held_.size() - open);
  return out;
}

std::string StreamDecoder::Flush() {
  std::string out = internal::ReplaceInvalidUtf8(held_);
  held_.clear();
  return out;
}

}  // namespace hadal
