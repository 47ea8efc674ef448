// The state of a chat apart from its terminal: messages, settings, files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "infer/sampler.h"

namespace hadal::cli {

struct Message {
  std::string role, content;
  std::string thinking;  // of an answer, where the model thought
};

class Conversation {
 public:
  void SetSystem(std::string text);  // empty: none
  void Add(Message message) { messages_.push_back(std::move(message)); }
  void Reset();  // all but the system message
  // Takes back the last question with its answer. False when there is none.
  bool Undo();
  // Takes back the last answer alone; the question is asked again. False when there is none.
  bool TakeBackAnswer();
  const std::vector<Message>& messages() const { return messages_; }

  // A JSON array of {role, content, reasoning_content?}: what RenderChat takes. Bytes that are not
  // UTF-8 become U+FFFD.
  std::string ToJson() const;
  Status Save(const std::string& path) const;
  Status Load(const std::string& path);  // unchanged on errors

 private:
  std::vector<Message> messages_;
};

// "temperature 0.2" on params; also max_tokens. Errors name the settings there are.
Status ChangeSetting(std::string_view text, SamplingParams& params, int64_t& max_tokens,
                     int64_t vocab);

}  // namespace hadal::cli
