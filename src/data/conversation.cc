#include "data/conversation.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "tokenizer/chat_template.h"

namespace hadal {
namespace {

using nlohmann::json;

constexpr std::string_view kTemplate = R"({%- if add_generation_prompt is not defined -%}
  {%- set add_generation_prompt = false -%}
{%- endif -%}
{%- if thinking is not defined -%}
  {%- set thinking = enable_thinking if enable_thinking is defined else true -%}
{%- endif -%}
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message['role'] == 'system' -%}
    {{- message['content'] -}}
  {%- elif message['role'] == 'user' -%}
    {{- '<｜User｜>' + message['content'] -}}
  {%- elif message['role'] == 'assistant' -%}
    {{- '<｜Assistant｜>' + message['content'] + eos_token -}}
  {%- else -%}
    {{- raise_exception('roles are system, user and assistant, not ' + message['role']) -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<｜Assistant｜>' -}}
  {%- if thinking -%}{{- '<think>\n' -}}{%- endif -%}
{%- endif -%}
)";

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

std::optional<std::string> StringAt(const json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_string()) return std::nullopt;
  return it->get<std::string>();
}

Error BadMessage(size_t index, const std::string& what) {
  return {Code::kInvalid, "message " + std::to_string(index + 1) + ": " + what};
}

// What the template itself wrote at the very end of a prompt.
std::string_view TemplateTail(const RenderedPrompt& prompt) {
  if (prompt.control.empty() || prompt.control.back().second != prompt.text.size()) return {};
  size_t begin = prompt.control.back().first;
  for (size_t i = prompt.control.size() - 1; i > 0; --i) {  // neighbouring ranges are one stretch
    if (prompt.control[i - 1].second != begin) break;
    begin = prompt.control[i - 1].first;
  }
  return std::string_view(prompt.text).substr(begin);
}

}  // namespace

Result<std::vector<ChatMessage>> ParseConversation(std::string_view text) {
  const json row = json::parse(text, nullptr, false);
  if (row.is_discarded()) return Error{Code::kInvalid, "no JSON"};
  if (!row.is_object() || !row.contains("messages") || !row["messages"].is_array()) {
    return Error{Code::kInvalid, "no list under \"messages\""};
  }
  std::vector<ChatMessage> messages;
  for (const json& m : row["messages"]) {
    const size_t index = messages.size();
    if (!m.is_object()) return BadMessage(index, "is no object");
    const auto role = StringAt(m, "role");
    if (!role || (*role != "system" && *role != "user" && *role != "assistant")) {
      return BadMessage(index, "its role is " +
                                   (role ? "\"" + role->substr(0, 40) + "\"" : "absent") +
                                   ", known are system, user and assistant");
    }
    const auto content = StringAt(m, "content");
    if (!content) return BadMessage(index, "no string under \"content\"");
    ChatMessage message{*role, *content, {}};
    if (m.contains("reasoning_content") && !m["reasoning_content"].is_null()) {
      const auto thought = StringAt(m, "reasoning_content");
      if (!thought) return BadMessage(index, "\"reasoning_content\" is no string");
      if (*role != "assistant")
        return BadMessage(index, "only the assistant has reasoning_content");
      message.reasoning_content = *thought;
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

std::string_view DefaultChatTemplate() { return kTemplate; }

struct ConversationRenderer::Impl {
  Impl(const Tokenizer& t, ChatTemplate c) : tokenizer(t), chat_template(std::move(c)) {}

  const Tokenizer& tokenizer;
  ChatTemplate chat_template;
  TokenId end = 0;
  std::string bos, eos;

  struct Draft {
    std::string text;  // as the template would write it
    TokenDocument document;
  };

  Result<RenderedPrompt> Prompt(std::span<const ChatMessage> messages, bool thinking) const;
  std::vector<TokenId> EncodeFrom(const RenderedPrompt& prompt, size_t begin) const;
  void Text(std::string_view text, Draft* draft) const;
  void Special(std::string_view name, Draft* draft) const;
  void Turn(const ChatMessage& message, std::string_view tail, Draft* draft) const;
};

Result<RenderedPrompt> ConversationRenderer::Impl::Prompt(std::span<const ChatMessage> messages,
                                                          bool thinking) const {
  json list = json::array();
  for (const ChatMessage& m : messages) {
    json entry = {{"role", m.role}, {"content", m.content}};
    if (!m.reasoning_content.empty()) entry["reasoning_content"] = m.reasoning_content;
    list.push_back(std::move(entry));
  }
  const json inputs = {{"messages", std::move(list)},
                       {"add_generation_prompt", true},
                       {"bos_token", bos},
                       {"eos_token", eos},
                       {"thinking", thinking},
                       {"enable_thinking", thinking}};
  return chat_template.Render(inputs.dump(-1, ' ', false, json::error_handler_t::replace));
}

// The ids of the prompt's bytes from `begin` on. BOS only where the prompt begins.
std::vector<TokenId> ConversationRenderer::Impl::EncodeFrom(const RenderedPrompt& prompt,
                                                            size_t begin) const {
  std::vector<Tokenizer::Range> control;
  for (const auto& [from, to] : prompt.control) {
    if (to > begin) control.emplace_back(std::max(from, begin) - begin, to - begin);
  }
  const std::string_view text = std::string_view(prompt.text).substr(begin);
  std::vector<TokenId> ids = tokenizer.EncodePrompt(text, control);
  const bool added = begin > 0 && tokenizer.add_bos() && !ids.empty() && !text.starts_with(bos);
  if (added) ids.erase(ids.begin());
  return ids;
}

void ConversationRenderer::Impl::Text(std::string_view text, Draft* draft) const {
  const std::vector<TokenId> ids = tokenizer.Encode(text);
  draft->text += text;
  draft->document.ids.insert(draft->document.ids.end(), ids.begin(), ids.end());
}

void ConversationRenderer::Impl::Special(std::string_view name, Draft* draft) const {
  const auto id = tokenizer.Find(name);
  if (!id) return Text(name, draft);
  draft->text += name;
  draft->document.ids.push_back(*id);
}

// Appends what the assistant writes after a prompt that ends in `tail`.
void ConversationRenderer::Impl::Turn(const ChatMessage& message, std::string_view tail,
                                      Draft* draft) const {
  const bool open_line = tail.ends_with("<think>\n"), open = open_line || tail.ends_with(kOpen);
  if (open || !message.reasoning_content.empty()) {
    const bool lines = open_line || !open;  // tags on lines of their own
    std::string thought = message.reasoning_content;
    if (!open) {
      Special(kOpen, draft);
      thought.insert(0, "\n");
    }
    if (lines) thought += "\n";
    Text(thought, draft);
    Special(kClose, draft);
    Text((lines ? "\n\n" : "") + message.content, draft);
  } else {
    Text(message.content, draft);
  }
  draft->text += eos;
  draft->document.ids.push_back(end);
  draft->document.loss.resize(draft->document.ids.size(), 1);
}

ConversationRenderer::ConversationRenderer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ConversationRenderer::ConversationRenderer(ConversationRenderer&&) noexcept = default;
ConversationRenderer::~ConversationRenderer() = default;

Result<ConversationRenderer> ConversationRenderer::Create(const Tokenizer& tokenizer,
                                                          std::string_view chat_template) {
  const auto end = tokenizer.eos();
  if (!end) {
    return Error{Code::kInvalid, "the tokenizer names no end token, so no turn could end"};
  }
  auto impl = std::make_unique<Impl>(tokenizer, TRY(ChatTemplate::Parse(chat_template)));
  impl->end = *end;
  impl->eos = tokenizer.Piece(*end);
  if (const auto bos = tokenizer.bos()) impl->bos = tokenizer.Piece(*bos);
  return ConversationRenderer(std::move(impl));
}

Result<std::vector<TokenDocument>> ConversationRenderer::Render(
    const std::vector<ChatMessage>& messages) const {
  std::vector<TokenDocument> done;
  Impl::Draft draft;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const bool thinking = !messages[i].reasoning_content.empty();
    const RenderedPrompt prompt = TRY(impl_->Prompt(std::span(messages).first(i), thinking));
    const bool continues = !draft.text.empty() && prompt.text.starts_with(draft.text);
    if (!continues && !draft.document.ids.empty()) {
      done.push_back(std::move(draft.document));
      draft = {};
    }
    const std::vector<TokenId> ids = impl_->EncodeFrom(prompt, draft.text.size());
    draft.document.ids.insert(draft.document.ids.end(), ids.begin(), ids.end());
    draft.document.loss.resize(draft.document.ids.size(), 0);
    draft.text = prompt.text;
    impl_->Turn(messages[i], TemplateTail(prompt), &draft);
  }
  if (draft.document.ids.empty()) {
    return Error{Code::kInvalid, "no assistant message, so there is nothing to learn from"};
  }
  done.push_back(std::move(draft.document));
  return done;
}

Result<std::vector<TokenId>> ConversationRenderer::Prompt(const std::vector<ChatMessage>& messages,
                                                          bool thinking) const {
  return impl_->EncodeFrom(TRY(impl_->Prompt(messages, thinking)), 0);
}

}  // namespace hadal
