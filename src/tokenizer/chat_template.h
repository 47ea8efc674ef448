// Chat templates: the Jinja subset that model files use, with bounds and no reach beyond its
// inputs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hadal {

struct TemplateLimits {
  uint64_t max_steps = 20'000'000;       // statements and expressions evaluated
  uint64_t max_output_bytes = 64 << 20;  // of the result, and of any string on the way
  uint64_t max_depth = 64;               // nesting of blocks, expressions, macros
  uint64_t max_elements = 1 << 20;       // of a list, range() included
  double max_seconds = 5.0;
};

// The rendered prompt, and the byte ranges of it that the template (not an input string) wrote.
// Only there are special tokens control (Tokenizer::EncodePrompt); bos_token and eos_token inputs
// count as the template's.
struct RenderedPrompt {
  std::string text;
  std::vector<std::pair<size_t, size_t>> control;
};

class ChatTemplate {
 public:
  // Errors name line and construct. Source over 1 MiB is refused.
  static Result<ChatTemplate> Parse(std::string_view source, const TemplateLimits& limits = {});
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // inputs: a JSON object; its members are the template's variables: messages, tools,
  // add_generation_prompt, bos_token, eos_token, and whatever else (enable_thinking, ...).
  // Equals jinja2 with trim_blocks, lstrip_blocks and the loop controls extension, the functions
  // raise_exception, strftime_now (fixed to the input `now` if given), range, namespace, dict and
  // the filters that transformers offers (tojson without HTML escaping among them).
  Result<RenderedPrompt> Render(std::string_view inputs_json) const;

  // Variables the template reads but never sets (so callers know whether `tools` or
  // `enable_thinking` matter).
  bool Mentions(std::string_view variable) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
