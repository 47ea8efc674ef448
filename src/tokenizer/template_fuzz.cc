// Any template over any inputs: an error or a rendering whose ranges are sorted and inside.
// Input: the template, a zero byte, the JSON inputs.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t zero = text.find('\0');
  const hadal::TemplateLimits limits{.max_steps = 20'000,
                                     .max_output_bytes = 1 << 18,
                                     .max_depth = 64,
                                     .max_elements = 4096,
                                     .max_seconds = 1.0};
  const auto parsed = hadal::ChatTemplate::Parse(text.substr(0, zero), limits);
  if (!parsed.ok()) return 0;
  const std::string_view inputs = zero == text.npos
                                      ? "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"
                                      : text.substr(zero + 1);
  const auto rendered = parsed->Render(inputs);
  if (!rendered.ok()) return 0;
  CHECK(rendered->text.size() <= limits.max_output_bytes);
  size_t last = 0;
  for (const auto& [begin, end] : rendered->control) {
    CHECK(begin >= last && begin < end && end <= rendered->text.size());
    last = end;
  }
  return 0;
}
