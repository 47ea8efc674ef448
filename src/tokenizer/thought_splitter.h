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
  // already opened the thought).
  ThoughtSplitter(const Tokenizer& tokenizer, std::optional<Tags> tags,
                  std::span<const TokenId> prompt);

  // Text that became certain with this id; zero, one or two pieces. Tags are not shown, nor the
  // line breaks right after the opening, right before and right after the closing tag.
  std::vector<Piece> Push(TokenId id);
  std::vector<Piece> Finish();

  bool thinking() const { return part_ == Part::kThought; }
  int64_t thought_tokens() const { return thought_tokens_; }

 private:
  const Tokenizer* tokenizer_;
  std::optional<Tags> tags_;
  StreamDecoder decoder_;
  Part part_ = Part::kAnswer;
  bool may_open_ = true;      // a thought opens only at the very start of the answer
  bool trim_leading_ = false;
  std::string held_breaks_;   // line breaks that a closing tag may yet swallow
  std::vector<TokenId> held_; // ids that may be the start of a tag
  int64_t thought_tokens_ = 0;
};

}  // namespace hadal
