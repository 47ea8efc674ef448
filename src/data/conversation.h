// Conversations for supervised fine-tuning: rendered as a model will see them, with the loss on
// what the assistant writes.
//
// The prompt of each assistant turn is what the chat template renders for the messages before it
// with add_generation_prompt; the turn itself is what the model would generate there: the thought
// (when there is one), the end-of-thought tag, the content, the end token. So the spans are known
// by construction: no text is searched, and special-token look-alikes in messages stay text.
// A turn whose prompt continues the document so far extends it; otherwise (templates drop old
// thoughts) it starts a document of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

struct ChatMessage {
  std::string role;  // system, user, assistant
  std::string content;
  std::string reasoning_content;  // assistant: the thought
};

// One row: {"messages": [{"role", "content", "reasoning_content"?}, …]}. Errors name the message.
Result<std::vector<ChatMessage>> ParseConversation(std::string_view json);

struct TokenDocument {
  std::vector<TokenId> ids;
  std::vector<uint8_t> loss;  // 1: written by the assistant
};

// The template of DeepSeek's turn layout that tokenizers trained here carry: a thought is opened by
// the prompt (<think> and a line end) unless `thinking` is false; old thoughts are dropped.
std::string_view DefaultChatTemplate();

class ConversationRenderer {
 public:
  // The tokenizer must outlive it. kInvalid without an end token or for a broken template.
  static Result<ConversationRenderer> Create(const Tokenizer& tokenizer,
                                             std::string_view chat_template);
  ConversationRenderer(ConversationRenderer&&) noexcept;
  ~ConversationRenderer();

  // kInvalid: no assistant turn, or the template refuses the messages.
  Result<std::vector<TokenDocument>> Render(const std::vector<ChatMessage>& messages) const;

  // What stands before the assistant's next turn, as ids: what a chat would send.
  Result<std::vector<TokenId>> Prompt(const std::vector<ChatMessage>& messages,
                                      bool thinking) const;

 private:
  struct Impl;
  explicit ConversationRenderer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
