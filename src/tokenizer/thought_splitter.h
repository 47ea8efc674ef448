// Splits generated token ids into thought and answer, on ids, in linear time, the same for every
// chunking.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace hadal {

class ThoughtSplitter {
 public:
  // The ids that open and close a thought. When the tags are single tokens of the vocabulary
  // (<think>, </think>) each list has one id; else it is the tag's encoding.
  struct Tags {
    std::vector<TokenId> open, close;
  };
  // Looks up `open`/`close` in the vocabulary, else encodes them as text. nullopt when the
  // tokenizer cannot express them.
  static std::optional<Tags> FindTags(const Tokenizer& tokenizer, std::string_view open = "<think>",
                                      std::string_view close = "</think>");

  enum class Part : uint8_t { kThought, kAnswer };
  struct Piece {
    Part part;
    std::string text;  // whole UTF-8 characters only
  };

  // prompt: the ids the answer follows; the state starts as the prompt leaves it (R1's prompt has
  // already opened the thought): open when its last opening tag comes after its last closing one.
  // Tags of several ids count only after the prompt's last special token, for anyone can write
  // them.
  ThoughtSplitter(const Tokenizer& tokenizer, std::optional<Tags> tags,
                  std::span<const TokenId> prompt);

  // Text that became certain with this id; zero, one or two pieces. Tags are not shown, nor the
  // line breaks right after the opening, right before and right after the closing tag.
  std::vector<Piece> Push(TokenId id);
  std::vector<Piece> Finish();

  bool thinking() const { return part_ == Part::kThought; }
  // Ids inside the thought; those of its tags are not counted.
  int64_t thought_tokens() const { return thought_tokens_; }

 private:
  void Text(std::string_view text, std::vector<Piece>* out);
  void ThoughtByte(char c, std::vector<Piece>* out);
  void Shown(std::string_view text, Part part, std::vector<Piece>* out);
  void Open();
  void Close();
  void ReadPrompt(std::span<const TokenId> prompt);
  bool InText(const std::vector<TokenId>& tag) const { return tag.size() > 1; }

  const Tokenizer* tokenizer_;
  std::optional<Tags> tags_;
  StreamDecoder decoder_;
  Part part_ = Part::kAnswer;
  bool may_open_ = true;       // a thought opens only at the very start of the answer
  bool trim_leading_ = false;  // line breaks are swallowed until other text comes
  std::string held_breaks_;    // line breaks that a tag may yet swallow
  // Tags of several ids are found in the text, however the model cuts it into tokens.
  std::string open_text_, close_text_;
  size_t matched_ = 0;                  // bytes of the awaited tag at the end of the text so far
  std::vector<uint32_t> fall_back_;     // of close_text_: the next shorter match
  std::vector<int64_t> tokens_before_;  // thought tokens before each of the last bytes, a ring
  size_t bytes_ = 0;                    // of the thought so far
  int64_t thought_tokens_ = 0;
};

}  // namespace hadal
