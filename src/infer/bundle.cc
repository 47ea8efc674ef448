#include "infer/bundle.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.h"
#include "infer/internal_bundle.h"

namespace hadal {
namespace {

using nlohmann::json;

constexpr int kMaxJsonDepth = 64;
constexpr uint64_t kMaxTextBytes = 64 << 20;

// Texts of tokens that end a turn whatever the file calls its EOS, where they are special.
constexpr std::string_view kTurnEnds[] = {
    "<|im_end|>",      "<|eot_id|>",    "<|eom_id|>",
    "<|end_of_text|>", "<|endoftext|>", "<｜end▁of▁sentence｜>",
};

// Deeply nested values would exhaust the stack of whoever walks them.
bool TooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxJsonDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

Result<json> ParseJson(std::string_view text, const std::string& what) {
  if (TooDeep(text)) {
    return Error{Code::kLimit,
                 what + " is nested deeper than " + std::to_string(kMaxJsonDepth) + " levels"};
  }
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) return Error{Code::kInvalid, what + " is not valid JSON"};
  return value;
}

// A file of the folder as JSON; null when it is not there.
Result<json> ReadJson(const internal::ReadText& read, std::string_view name) {
  auto text = read(name);
  if (!text.ok()) {
    if (text.error().code == Code::kNotFound) return json();
    return std::move(text).error();
  }
  json value = TRY(ParseJson(*text, std::string(name)));
  if (!value.is_object()) return Error{Code::kCorrupt, std::string(name) + " is not a JSON object"};
  return value;
}

// "bos_token": "<s>" or {"content": "<s>", ...}.
std::string TokenText(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) {
    return (*found)["content"].get<std::string>();
  }
  return "";
}

// One template, or a list of {name, template} of which "default" is meant.
std::string TemplateText(const json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return "";
  std::string first;
  for (const json& entry : *found) {
    if (!entry.is_object() || !entry.contains("template") || !entry["template"].is_string())
      continue;
    std::string text = entry["template"].get<std::string>();
    if (TokenText(entry, "name") == "default") return text;
    if (first.empty()) first = std::move(text);
  }
  return first;
}

void AddIds(const json& config, std::vector<int32_t>& ids) {
  const auto found = config.find("eos_token_id");
  if (found == config.end()) return;
  const auto add = [&](const json& id) {
    if (!id.is_number_integer()) return;
    const auto value = id.get<int64_t>();
    if (value >= 0 && value <= 0x7fffffff) ids.push_back(static_cast<int32_t>(value));
  };
  if (found->is_array()) {
    for (const json& id : *found) add(id);
  } else {
    add(*found);
  }
}

void ReadSampling(const json& config, SamplingParams& s) {
  const auto read = [&](const char* key, auto& field) {
    const auto found = config.find(key);
    if (found == config.end() || !found->is_number()) return;
    using T = std::decay_t<decltype(field)>;
    field = static_cast<T>(std::clamp(found->get<double>(), -1e9, 1e9));
  };
  read("temperature", s.temperature);
  read("top_p", s.top_p);
  read("top_k", s.top_k);
  read("min_p", s.min_p);
  read("repetition_penalty", s.repetition_penalty);
  const auto sample = config.find("do_sample");
  if (sample != config.end() && sample->is_boolean() && !sample->get<bool>()) s.temperature = 0;
}

std::string NameOf(const std::string& path) {
  std::filesystem::path p = std::filesystem::path(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  std::string name = p.filename().string();
  for (const std::string_view end : {".gguf", ".safetensors"}) {
    if (name.ends_with(end)) name.resize(name.size() - end.size());
  }
  // -00001-of-00003
  constexpr std::string_view kSplit = "-00001-of-00003";
  if (name.size() > kSplit.size()) {
    const std::string_view tail = std::string_view(name).substr(name.size() - kSplit.size());
    const auto same = [](char form, char c) {
      return form >= '0' && form <= '9' ? c >= '0' && c <= '9' : form == c;
    };
    if (std::equal(kSplit.begin(), kSplit.end(), tail.begin(), same)) {
      name.resize(name.size() - kSplit.size());
    }
  }
  return name;
}

std::vector<int32_t> TurnEnds(const Tokenizer& tokenizer, std::vector<int32_t> ids) {
  if (const auto eos = tokenizer.eos()) ids.push_back(*eos);
  for (const std::string_view text : kTurnEnds) {
    const auto id = tokenizer.Find(text);
    if (id && tokenizer.IsSpecial(*id)) ids.push_back(*id);
  }
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

Result<Tokenizer> FolderTokenizer(const internal::ReadText& read) {
  const std::string text = TRY(read("tokenizer.json"));
  auto config = read("tokenizer_config.json");
  if (!config.ok() && config.error().code != Code::kNotFound) return std::move(config).error();
  return Tokenizer::FromJson(text, config.ok() ? std::string_view(*config) : std::string_view());
}

Bundle MakeBundle(std::string name, Tokenizer made, internal::Defaults defaults) {
  Bundle bundle;
  bundle.name = std::move(name);
  bundle.tokenizer = std::make_unique<Tokenizer>(std::move(made));
  const Tokenizer& tokenizer = *bundle.tokenizer;
  const auto text = [&](const std::string& stated, std::optional<TokenId> id) {
    if (!stated.empty() || !id) return stated;
    return std::string(tokenizer.Piece(*id));
  };
  bundle.bos_token = text(defaults.bos_token, tokenizer.bos());
  bundle.eos_token = text(defaults.eos_token, tokenizer.eos());
  // The authors' defaults are a courtesy: out of range they are left aside.
  if (defaults.sampling.Validate(tokenizer.vocab_size()).ok()) {
    bundle.default_sampling = defaults.sampling;
  }
  bundle.eos_ids = TurnEnds(tokenizer, std::move(defaults.eos_ids));
  if (!defaults.chat_template.empty()) {
    auto parsed = ChatTemplate::Parse(defaults.chat_template);
    if (parsed.ok()) {
      bundle.chat_template = std::make_unique<ChatTemplate>(*std::move(parsed));
    } else {
      bundle.chat_template_error = parsed.error().message;
    }
  }
  if (tokenizer.Find("<think>") || defaults.chat_template.find("<think>") != std::string::npos) {
    bundle.thought_tags = ThoughtSplitter::FindTags(tokenizer);
  }
  return bundle;
}

// Content that is a string, or a list of parts of which the text is taken.
Result<std::string> ContentText(const json& message) {
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) return std::string();
  if (content->is_string()) return content->get<std::string>();
  std::string text;
  if (content->is_array()) {
    for (const json& part : *content) {
      if (part.is_object() && part.contains("text") && part["text"].is_string()) {
        text += part["text"].get<std::string>();
      }
    }
    return text;
  }
  return Error{Code::kInvalid, "a message's content is neither text nor a list of parts"};
}

Result<std::string> PlainChat(const json& messages, bool add_generation_prompt) {
  std::string text;
  for (const json& message : messages) {
    const std::string role = TokenText(message, "role");
    if (role == "user") text += "User: ";
    if (role == "assistant") text += "Assistant: ";
    text += TRY(ContentText(message));
    text += "\n\n";
  }
  if (add_generation_prompt) text += "Assistant:";
  return text;
}

// The members of an object of further variables, each after a comma.
Result<std::string> ExtraMembers(std::string_view extra_json) {
  const json extra = TRY(ParseJson(extra_json, "template variables"));
  if (!extra.is_object()) return Error{Code::kInvalid, "template variables are not a JSON object"};
  for (const char* name : {"messages", "add_generation_prompt", "bos_token", "eos_token"}) {
    if (!extra.contains(name)) continue;
    return Error{Code::kInvalid, std::string("template variables may not set ") + name};
  }
  if (extra.empty()) return std::string();
  const size_t begin = extra_json.find('{') + 1;
  std::string members = ",";
  return members.append(extra_json.substr(begin, extra_json.rfind('}') - begin));
}

}  // namespace

namespace internal {

Result<Defaults> DefaultsFromFolder(const ReadText& read) {
  Defaults d;
  const json tokenizer = TRY(ReadJson(read, "tokenizer_config.json"));
  if (tokenizer.is_object()) {
    d.bos_token = TokenText(tokenizer, "bos_token");
    d.eos_token = TokenText(tokenizer, "eos_token");
    d.chat_template = TemplateText(tokenizer);
  }
  auto separate = read("chat_template.jinja");
  if (separate.ok()) {
    d.chat_template = *std::move(separate);
  } else if (separate.error().code != Code::kNotFound) {
    return std::move(separate).error();
  }
  for (const char* name : {"config.json", "generation_config.json"}) {
    const json config = TRY(ReadJson(read, name));
    if (!config.is_object()) continue;
    AddIds(config, d.eos_ids);
    if (name != std::string_view("config.json")) ReadSampling(config, d.sampling);
  }
  return d;
}

}  // namespace internal

Result<Tokenizer> LoadTokenizer(const WeightFile& file) {
  if (file.kind() == WeightFile::Kind::kGguf) {
    return Tokenizer::FromSpec(TRY(TokenizerSpecFromGguf(file.metadata())));
  }
  return FolderTokenizer([&](std::string_view name) { return file.ReadText(name); });
}

Result<Bundle> LoadBundle(const Exec& exec, const std::string& path, const BundleOptions& options) {
  const WeightFile file = TRY(WeightFile::Open(path));
  internal::Defaults defaults =
      file.kind() == WeightFile::Kind::kGguf
          ? TRY(internal::DefaultsFromGguf(file.metadata()))
          : TRY(internal::DefaultsFromFolder([&](auto name) { return file.ReadText(name); }));
  Bundle bundle = MakeBundle(NameOf(path), TRY(LoadTokenizer(file)), std::move(defaults));
  bundle.model = TRY(Model::Load(exec, file, options.load));
  // Ids of the file that the model has no row for can never come up.
  std::erase_if(bundle.eos_ids, [&](int32_t id) { return id >= bundle.model->config().vocab; });
  return bundle;
}

Result<Bundle> LoadBundleWithoutModel(const std::string& folder) {
  const internal::ReadText read = [&](std::string_view name) -> Result<std::string> {
    const std::string path = folder + "/" + std::string(name);
    std::error_code none;
    if (!std::filesystem::exists(path, none)) {
      return Error{Code::kNotFound, folder + ": holds no " + std::string(name)};
    }
    return ReadFile(path, kMaxTextBytes);
  };
  const auto named = [&](const Error& e) {
    const bool there = e.message.find(folder) != std::string::npos;
    return Error{e.code, there ? e.message : folder + ": " + e.message};
  };
  auto tokenizer = FolderTokenizer(read);
  if (!tokenizer.ok()) return named(tokenizer.error());
  auto defaults = internal::DefaultsFromFolder(read);
  if (!defaults.ok()) return named(defaults.error());
  return MakeBundle(NameOf(folder), *std::move(tokenizer), *std::move(defaults));
}

Result<std::vector<int32_t>> RenderChat(const Bundle& bundle, std::string_view messages_json,
                                        bool add_generation_prompt, std::string_view extra_json) {
  const json messages = TRY(ParseJson(messages_json, "messages"));
  if (!messages.is_array()) return Error{Code::kInvalid, "messages is not a JSON array"};
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].is_object() && messages[i].contains("role") &&
        messages[i]["role"].is_string()) {
      continue;
    }
    return Error{Code::kInvalid,
                 "messages[" + std::to_string(i) + "] is not an object with a role"};
  }
  if (!bundle.chat_template_error.empty()) {
    return Error{Code::kUnsupported,
                 "the model's chat template cannot be used: " + bundle.chat_template_error};
  }
  if (bundle.chat_template == nullptr) {
    const std::string text = TRY(PlainChat(messages, add_generation_prompt));
    return bundle.tokenizer->EncodePrompt(text, {});
  }
  // The texts go in as they are, so that the order of their keys, which templates print, is kept.
  std::string inputs = "{\"messages\":" + std::string(messages_json);
  inputs += add_generation_prompt ? ",\"add_generation_prompt\":true"
                                  : ",\"add_generation_prompt\":false";
  for (const auto& [name, text] :
       {std::pair("bos_token", &bundle.bos_token), std::pair("eos_token", &bundle.eos_token)}) {
    const json value = *text;
    inputs += std::string(",\"") + name +
              "\":" + value.dump(-1, ' ', false, json::error_handler_t::replace);
  }
  if (!extra_json.empty()) inputs += TRY(ExtraMembers(extra_json));
  inputs += "}";
  const RenderedPrompt prompt = TRY(bundle.chat_template->Render(inputs));
  return bundle.tokenizer->EncodePrompt(prompt.text, prompt.control);
}

}  // namespace hadal
