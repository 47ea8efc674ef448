// Keys of GGUF metadata: tokenizer.ggml.* (what the tokenizer is), tokenizer.chat_template,
// general.sampling.* (defaults of the authors).
#include <algorithm>
#include <string>
#include <utility>

#include "infer/internal_bundle.h"

namespace hadal {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

std::string Key(std::string_view name) { return std::string(kPrefix) + std::string(name); }

Error WrongType(const std::string& key, std::string_view wanted) {
  return Error{Code::kCorrupt, key + " is not an array of " + std::string(wanted)};
}

Result<std::vector<std::string>> Strings(const Metadata& m, std::string_view name) {
  const MetaArray* array = MetaFindArray(m, Key(name));
  if (array == nullptr) return std::vector<std::string>();
  if (const auto* strings = std::get_if<std::vector<std::string>>(array)) return *strings;
  return WrongType(Key(name), "strings");
}

// Any array of numbers.
template <typename T>
Result<std::vector<T>> Numbers(const Metadata& m, std::string_view name) {
  std::vector<T> out;
  const MetaArray* array = MetaFindArray(m, Key(name));
  if (array == nullptr) return out;
  const auto take = [&](const auto& values) {
    out.reserve(values.size());
    for (const auto v : values) out.push_back(static_cast<T>(v));
  };
  if (const auto* i = std::get_if<std::vector<int64_t>>(array)) {
    take(*i);
  } else if (const auto* u = std::get_if<std::vector<uint64_t>>(array)) {
    take(*u);
  } else if (const auto* d = std::get_if<std::vector<double>>(array)) {
    if (!std::is_floating_point_v<T>) return WrongType(Key(name), "integers");
    take(*d);
  } else {
    return WrongType(Key(name), "numbers");
  }
  return out;
}

Result<std::optional<TokenId>> Id(const Metadata& m, std::string_view name, size_t vocab) {
  const std::optional<uint64_t> id = TRY(MetaUint(m, Key(name)));
  if (!id) return std::optional<TokenId>();
  // Writers mark "none" by the largest 32-bit number.
  if (*id == 0xffffffffu) return std::optional<TokenId>();
  if (*id >= vocab) {
    return Error{Code::kCorrupt, Key(name) + " is " + std::to_string(*id) +
                                     ", but there are only " + std::to_string(vocab) + " tokens"};
  }
  return std::optional<TokenId>(static_cast<TokenId>(*id));
}

// Pre-tokenizers of the Llama 3 family want BOS unless the file says otherwise.
bool AddsBosByDefault(const TokenizerSpec& spec) {
  if (spec.model == TokenizerSpec::Model::kSpm) return true;
  return spec.pre == "llama3" || spec.pre == "llama-v3" || spec.pre == "llama-bpe";
}

}  // namespace

Result<TokenizerSpec> TokenizerSpecFromGguf(const Metadata& m) {
  TokenizerSpec spec;
  const auto model = TRY(MetaString(m, Key("model")));
  if (!model) {
    return Error{Code::kNotFound, "tokenizer.ggml.model is missing: the file has no tokenizer"};
  }
  if (*model == "llama") {
    spec.model = TokenizerSpec::Model::kSpm;
  } else if (*model != "gpt2") {
    return Error{Code::kUnsupported,
                 "tokenizer.ggml.model is '" + *model + "', gpt2 and llama are supported"};
  }
  spec.pre = TRY(MetaString(m, Key("pre"))).value_or("default");
  spec.tokens = TRY(Strings(m, "tokens"));
  if (spec.tokens.empty())
    return Error{Code::kCorrupt, "tokenizer.ggml.tokens is missing or empty"};
  const size_t vocab = spec.tokens.size();
  spec.types = TRY(Numbers<int32_t>(m, "token_type"));
  spec.scores = TRY(Numbers<float>(m, "scores"));
  spec.merges = TRY(Strings(m, "merges"));
  for (const auto& [name, size] :
       {std::pair<std::string_view, size_t>("token_type", spec.types.size()),
        {"scores", spec.scores.size()}}) {
    if (size == 0 || size == vocab) continue;
    return Error{Code::kCorrupt, Key(name) + " has " + std::to_string(size) + " entries for " +
                                     std::to_string(vocab) + " tokens"};
  }
  spec.bos = TRY(Id(m, "bos_token_id", vocab));
  spec.eos = TRY(Id(m, "eos_token_id", vocab));
  spec.unknown = TRY(Id(m, "unknown_token_id", vocab));
  spec.pad = TRY(Id(m, "padding_token_id", vocab));
  spec.add_bos = TRY(MetaBool(m, Key("add_bos_token"))).value_or(AddsBosByDefault(spec));
  spec.add_eos = TRY(MetaBool(m, Key("add_eos_token"))).value_or(false);
  spec.add_space_prefix =
      TRY(MetaBool(m, Key("add_space_prefix"))).value_or(spec.model == TokenizerSpec::Model::kSpm);
  return spec;
}

namespace internal {

Result<Defaults> DefaultsFromGguf(const Metadata& m) {
  Defaults d;
  d.chat_template = TRY(MetaString(m, "tokenizer.chat_template")).value_or("");
  const auto* tokens = MetaFindArray(m, Key("tokens"));
  size_t vocab = 0;
  if (tokens != nullptr) vocab = std::visit([](const auto& v) { return v.size(); }, *tokens);
  for (const std::string_view name : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    if (const auto id = TRY(Id(m, name, vocab))) d.eos_ids.push_back(*id);
  }
  SamplingParams& s = d.sampling;
  const auto read = [&](const char* name, auto& field) -> Status {
    const std::string key = std::string("general.sampling.") + name;
    if (const auto value = TRY(MetaFloat(m, key))) {
      field = static_cast<std::decay_t<decltype(field)>>(*value);
    }
    return {};
  };
  TRY(read("temp", s.temperature));
  TRY(read("top_p", s.top_p));
  TRY(read("min_p", s.min_p));
  if (const auto k = TRY(MetaUint(m, "general.sampling.top_k"))) {
    s.top_k = static_cast<int32_t>(std::min<uint64_t>(*k, 1u << 30));
  }
  return d;
}

}  // namespace internal
}  // namespace hadal
