#include "tokenizer/chat_template.h"

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_parser.h"
#include "tokenizer/jinja_text.h"

namespace hadal {
namespace {

namespace jinja = internal::jinja;

constexpr size_t kMaxSource = 1 << 20;

// Adjacent ranges that the template wrote, merged.
RenderedPrompt Rendered(const jinja::Value& value) {
  RenderedPrompt out;
  out.text = std::string(value.text());
  size_t begin = 0;
  for (const auto& run : value.buffer().runs) {
    if (run.trusted && run.end > begin) out.control.emplace_back(begin, run.end);
    begin = run.end;
  }
  return out;
}

}  // namespace

struct ChatTemplate::Impl {
  jinja::Tree tree;
  TemplateLimits limits;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source, const TemplateLimits& limits) {
  if (source.size() > kMaxSource) {
    return Error{Code::kLimit, "chat template: " + std::to_string(source.size()) +
                                   " bytes; the bound is " + std::to_string(kMaxSource)};
  }
  if (!jinja::ValidUtf8(source)) {
    return Error{Code::kInvalid, "chat template: the source is not UTF-8"};
  }
  auto tree = jinja::ParseTemplate(source, limits);
  if (!tree.ok()) return Error{tree.error().code, "chat template: " + tree.error().message};
  auto impl = std::make_unique<Impl>();
  impl->tree = std::move(tree).value();
  impl->limits = limits;
  return ChatTemplate(std::move(impl));
}

Result<RenderedPrompt> ChatTemplate::Render(std::string_view inputs_json) const {
  if (inputs_json.size() > impl_->limits.max_output_bytes) {
    return Error{Code::kLimit, "chat template: inputs of " + std::to_string(inputs_json.size()) +
                                   " bytes; the bound is " +
                                   std::to_string(impl_->limits.max_output_bytes)};
  }
  // Declared first: every value gives its memory back to it.
  jinja::Budget budget(impl_->limits);
  auto inputs = jinja::FromJson(&budget, inputs_json, {"bos_token", "eos_token"});
  if (!inputs.ok()) return Error{inputs.error().code, "chat template: " + inputs.error().message};
  if (!inputs->is(jinja::Kind::kDict)) {
    return Error{Code::kInvalid, "chat template: inputs must be a JSON object"};
  }
  jinja::Interpreter interpreter(impl_->tree, &budget, *inputs);
  const auto text = interpreter.Run();
  if (!text.ok()) {
    return Error{text.error().code, "chat template: line " + std::to_string(interpreter.line()) +
                                        ": " + text.error().message};
  }
  return Rendered(*text);
}

bool ChatTemplate::Mentions(std::string_view variable) const {
  return impl_->tree.free_names.find(variable) != impl_->tree.free_names.end();
}

}  // namespace hadal
