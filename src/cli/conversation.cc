#include "cli/conversation.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/store.h"

namespace hadal::cli {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxFileBytes = 64 << 20;
constexpr auto kReplace = json::error_handler_t::replace;

json ToArray(const std::vector<Message>& messages) {
  json list = json::array();
  for (const Message& m : messages) {
    json entry = {{"role", m.role}, {"content", m.content}};
    if (!m.thinking.empty()) entry["reasoning_content"] = m.thinking;
    list.push_back(std::move(entry));
  }
  return list;
}

template <typename T>
bool ParseNumber(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

void Conversation::SetSystem(std::string text) {
  if (!messages_.empty() && messages_[0].role == "system") messages_.erase(messages_.begin());
  if (!text.empty()) messages_.insert(messages_.begin(), {"system", std::move(text), ""});
}

void Conversation::Reset() {
  const bool system = !messages_.empty() && messages_[0].role == "system";
  messages_.resize(system ? 1 : 0);
}

bool Conversation::Undo() {
  size_t last = messages_.size();
  while (last > 0 && messages_[last - 1].role != "user") --last;
  if (last == 0) return false;
  messages_.resize(last - 1);
  return true;
}

bool Conversation::TakeBackAnswer() {
  bool asked = false;
  for (const Message& m : messages_) asked = asked || m.role == "user";
  if (!asked) return false;
  while (messages_.back().role != "user") messages_.pop_back();
  return true;
}

std::string Conversation::ToJson() const {
  return ToArray(messages_).dump(-1, ' ', false, kReplace);
}

Status Conversation::Save(const std::string& path) const {
  return WriteFileAtomic(path, ToArray(messages_).dump(2, ' ', false, kReplace) + "\n");
}

Status Conversation::Load(const std::string& path) {
  const json j = json::parse(TRY(ReadFile(path, kMaxFileBytes)), nullptr, false);
  if (!j.is_array()) {
    return Error{Code::kInvalid, fmt::format("{}: not a saved conversation (a JSON array of role "
                                             "and content)",
                                             Quoted(path))};
  }
  std::vector<Message> messages;
  for (const json& entry : j) {
    Message m;
    const auto take = [&](const char* key, std::string& out) {
      const auto it = entry.find(key);
      if (it == entry.end() || !it->is_string()) return false;
      out = it->get<std::string>();
      return true;
    };
    if (!entry.is_object() || !take("role", m.role) || !take("content", m.content) ||
        (m.role != "system" && m.role != "user" && m.role != "assistant")) {
      return Error{Code::kInvalid,
                   fmt::format("{}: message {} lacks content or a role of system, user or "
                               "assistant",
                               Quoted(path), messages.size())};
    }
    take("reasoning_content", m.thinking);
    messages.push_back(std::move(m));
  }
  messages_ = std::move(messages);
  return {};
}

Status ChangeSetting(std::string_view text, SamplingParams& params, int64_t& max_tokens,
                     int64_t vocab) {
  const size_t space = text.find_first_of(" =");
  std::string name(text.substr(0, space));
  for (char& c : name) c = c == '-' ? '_' : c;
  std::string_view value = space == text.npos ? "" : text.substr(space + 1);
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  while (!value.empty() && value.back() == ' ') value.remove_suffix(1);
  SamplingParams changed = params;
  int64_t tokens = max_tokens;
  bool good;
  if (name == "temperature") {
    good = ParseNumber(value, changed.temperature);
  } else if (name == "top_p") {
    good = ParseNumber(value, changed.top_p);
  } else if (name == "min_p") {
    good = ParseNumber(value, changed.min_p);
  } else if (name == "top_k") {
    good = ParseNumber(value, changed.top_k);
  } else if (name == "repetition_penalty") {
    good = ParseNumber(value, changed.repetition_penalty);
  } else if (name == "seed") {
    good = ParseNumber(value, changed.seed);
  } else if (name == "max_tokens") {
    good = ParseNumber(value, tokens) && tokens >= -1;
  } else {
    return Error{Code::kInvalid,
                 fmt::format("no setting {}: there are temperature, top_p, top_k, min_p, "
                             "repetition_penalty, seed, max_tokens",
                             Quoted(name))};
  }
  if (!good) {
    return Error{Code::kInvalid, fmt::format("{} is no value for {}", Quoted(value), name)};
  }
  TRY(changed.Validate(vocab));
  params = changed;
  max_tokens = tokens;
  return {};
}

}  // namespace hadal::cli
