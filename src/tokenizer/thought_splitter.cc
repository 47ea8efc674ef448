#include "tokenizer/thought_splitter.h"

#include <algorithm>
#include <utility>

namespace hadal {
namespace {

bool IsBreak(char c) { return c == '\n' || c == '\r'; }

bool OnlyBreaks(std::string_view text) { return std::all_of(text.begin(), text.end(), IsBreak); }

std::optional<std::vector<TokenId>> TagIds(const Tokenizer& tokenizer, std::string_view tag) {
  if (tag.empty()) return std::nullopt;
  if (const auto id = tokenizer.Find(tag)) return std::vector<TokenId>{*id};
  std::vector<TokenId> ids = tokenizer.Encode(tag);
  if (ids.empty() || tokenizer.Decode(ids) != tag) return std::nullopt;
  return ids;
}

// Of each prefix of the word: its longest proper prefix that is also its end (Knuth-Morris-Pratt).
std::vector<uint32_t> FallBacks(std::string_view word) {
  std::vector<uint32_t> next(word.size() + 1, 0);
  uint32_t k = 0;
  for (size_t i = 1; i < word.size(); ++i) {
    while (k > 0 && word[i] != word[k]) k = next[k];
    if (word[i] == word[k]) ++k;
    next[i + 1] = k;
  }
  return next;
}

}  // namespace

std::optional<ThoughtSplitter::Tags> ThoughtSplitter::FindTags(const Tokenizer& tokenizer,
                                                               std::string_view open,
                                                               std::string_view close) {
  auto open_ids = TagIds(tokenizer, open);
  auto close_ids = TagIds(tokenizer, close);
  if (!open_ids || !close_ids) return std::nullopt;
  return Tags{std::move(*open_ids), std::move(*close_ids)};
}

ThoughtSplitter::ThoughtSplitter(const Tokenizer& tokenizer, std::optional<Tags> tags,
                                 std::span<const TokenId> prompt)
    : tokenizer_(&tokenizer), tags_(std::move(tags)), decoder_(tokenizer) {
  if (tags_ && (tags_->open.empty() || tags_->close.empty())) tags_.reset();
  if (!tags_) {
    may_open_ = false;
    return;
  }
  open_text_ = tokenizer.Decode(tags_->open);
  close_text_ = tokenizer.Decode(tags_->close);
  fall_back_ = FallBacks(close_text_);
  tokens_before_.resize(std::max<size_t>(close_text_.size(), 1));
  ReadPrompt(prompt);
}

void ThoughtSplitter::ReadPrompt(std::span<const TokenId> prompt) {
  std::span<const TokenId> last = prompt;  // what follows the last special token
  for (size_t i = prompt.size(); i-- > 0;) {
    if (tokenizer_->IsSpecial(prompt[i])) {
      last = prompt.subspan(i + 1);
      break;
    }
  }
  const std::string text = tokenizer_->Decode(last);
  // The place behind the last tag as a count of what is left; nullopt: not there.
  const auto left_of = [&](const std::vector<TokenId>& tag,
                           const std::string& spelled) -> std::optional<std::string> {
    if (InText(tag)) {
      const size_t at = text.rfind(spelled);
      if (at == std::string::npos) return std::nullopt;
      return text.substr(at + spelled.size());
    }
    for (size_t i = prompt.size(); i-- > 0;) {
      if (prompt[i] == tag[0]) return tokenizer_->Decode(prompt.subspan(i + 1));
    }
    return std::nullopt;
  };
  const auto after_open = left_of(tags_->open, open_text_);
  const auto after_close = left_of(tags_->close, close_text_);
  if (after_open && (!after_close || after_open->size() < after_close->size())) {
    Open();
    trim_leading_ = OnlyBreaks(*after_open);
  } else if (after_close) {
    trim_leading_ = OnlyBreaks(*after_close);
  }
}

void ThoughtSplitter::Open() {
  part_ = Part::kThought;
  may_open_ = false;
  trim_leading_ = true;
  held_breaks_.clear();
  matched_ = 0;
}

void ThoughtSplitter::Close() {
  part_ = Part::kAnswer;
  trim_leading_ = true;
  held_breaks_.clear();
  matched_ = 0;
}

void ThoughtSplitter::Shown(std::string_view text, Part part, std::vector<Piece>* out) {
  for (const char c : text) {
    if (trim_leading_ && IsBreak(c)) continue;
    trim_leading_ = false;
    if (part == Part::kThought && IsBreak(c)) {
      held_breaks_ += c;
      continue;
    }
    if (out->empty() || out->back().part != part) out->push_back({part, {}});
    out->back().text += held_breaks_;
    held_breaks_.clear();
    out->back().text += c;
  }
}

void ThoughtSplitter::ThoughtByte(char c, std::vector<Piece>* out) {
  if (!InText(tags_->close)) return Shown({&c, 1}, Part::kThought, out);
  tokens_before_[bytes_++ % tokens_before_.size()] = thought_tokens_;
  const size_t before = matched_;
  while (matched_ > 0 && close_text_[matched_] != c) matched_ = fall_back_[matched_];
  if (close_text_[matched_] == c) ++matched_;
  // Of the bytes held before and this one, all but the last matched_ are no tag.
  const std::string_view held = std::string_view(close_text_).substr(0, before);
  if (matched_ <= before) {
    Shown(held.substr(0, before + 1 - std::max<size_t>(matched_, 1)), Part::kThought, out);
    if (matched_ == 0) Shown({&c, 1}, Part::kThought, out);
  }
  if (matched_ == close_text_.size()) {
    // The ring holds exactly the tag's bytes, its first one next in turn.
    thought_tokens_ = tokens_before_[bytes_ % tokens_before_.size()];
    Close();
  }
}

void ThoughtSplitter::Text(std::string_view text, std::vector<Piece>* out) {
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (part_ == Part::kThought) {
      ThoughtByte(c, out);
    } else if (!may_open_) {
      // Nothing can change the part any more.
      return Shown(text.substr(i), Part::kAnswer, out);
    } else if (matched_ == 0 && IsBreak(c)) {
      held_breaks_ += c;
    } else if (InText(tags_->open) && open_text_[matched_] == c) {
      if (++matched_ == open_text_.size()) Open();
    } else {
      may_open_ = false;
      const size_t matched = std::exchange(matched_, 0);
      const std::string breaks = std::exchange(held_breaks_, {});
      Shown(breaks, Part::kAnswer, out);
      Shown(std::string_view(open_text_).substr(0, matched), Part::kAnswer, out);
      Shown({&c, 1}, Part::kAnswer, out);
    }
  }
}

std::vector<ThoughtSplitter::Piece> ThoughtSplitter::Push(TokenId id) {
  std::vector<Piece> out;
  if (tags_) {
    const bool opens =
        part_ == Part::kAnswer && may_open_ && !InText(tags_->open) && id == tags_->open[0];
    const bool closes = part_ == Part::kThought && !InText(tags_->close) && id == tags_->close[0];
    if (opens || closes) {
      Text(decoder_.Flush(), &out);
      // Broken bytes before the tag were an answer already.
      if (opens && may_open_) {
        Open();
        return out;
      }
      if (closes) {
        Close();
        return out;
      }
    }
    // A tag out of place is text, even where the vocabulary calls it special.
    const bool tag = id == tags_->open[0] || id == tags_->close[0];
    if (tag && tokenizer_->IsSpecial(id)) {
      Text(decoder_.Flush(), &out);
      Text(tokenizer_->Piece(id), &out);
      if (part_ == Part::kThought) ++thought_tokens_;
      return out;
    }
  }
  const bool thinking = part_ == Part::kThought;
  Text(decoder_.Push(id), &out);
  if (thinking && part_ == Part::kThought) ++thought_tokens_;
  return out;
}

std::vector<ThoughtSplitter::Piece> ThoughtSplitter::Finish() {
  std::vector<Piece> out;
  Text(decoder_.Flush(), &out);
  // What was held for a tag that never came is text.
  const std::string& tag = part_ == Part::kThought ? close_text_ : open_text_;
  const std::string rest =
      std::exchange(held_breaks_, {}) + tag.substr(0, std::exchange(matched_, 0));
  if (!rest.empty()) {
    if (out.empty() || out.back().part != part_) out.push_back({part_, {}});
    out.back().text += rest;
  }
  may_open_ = false;
  return out;
}

}  // namespace hadal
