// Tokenizers from tokenizer.json and tokenizer_config.json.
#include <algorithm>
#include <utility>

#include "tokenizer/json_parts.h"
#include "tokenizer/spm.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode.h"

namespace hadal {
namespace {

using internal::AddedToken;
using internal::BoolOr;
using internal::Json;
using internal::StringOr;
using Impl = Tokenizer::Impl;

constexpr size_t kMaxJsonBytes = 256 << 20;
constexpr int kMaxDepth = 64;

Error Bad(std::string message) { return {Code::kInvalid, "tokenizer.json: " + std::move(message)}; }

// Depth is bounded before parsing, so that no parser stack depends on the file.
Result<Json> ParseBounded(std::string_view text, const std::string& what) {
  if (text.size() > kMaxJsonBytes) {
    return Error{Code::kLimit, what + ": " + std::to_string(text.size()) + " bytes, at most " +
                                   std::to_string(kMaxJsonBytes) + " are accepted"};
  }
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) {
        return Error{Code::kLimit, what + ", byte " + std::to_string(i) + ": nested deeper than " +
                                       std::to_string(kMaxDepth)};
      }
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Error{Code::kInvalid, what + ": not valid JSON (or UTF-8)"};
  if (!json.is_object()) return Error{Code::kInvalid, what + ": not a JSON object"};
  return json;
}

const Json& Member(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

Result<TokenId> ReadId(const Json& value, const std::string& what) {
  if (!value.is_number_integer()) return Bad(what + ": its id is not an integer");
  const bool big = value.is_number_unsigned() && value.get<uint64_t>() >= internal::kMaxVocabulary;
  const int64_t id = big ? -1 : value.get<int64_t>();
  if (big || id < 0 || id >= static_cast<int64_t>(internal::kMaxVocabulary)) {
    return Error{Code::kLimit, "tokenizer.json: " + what + " has id " + value.dump() +
                                   ", accepted are 0 to " +
                                   std::to_string(internal::kMaxVocabulary - 1)};
  }
  return static_cast<TokenId>(id);
}

std::string Quoted(const std::string& token) { return "token \"" + token.substr(0, 60) + "\""; }

class JsonReader {
 public:
  JsonReader(const Json& json, const Json& config) : json_(json), config_(config) {}

  Result<std::unique_ptr<Impl>> Read() {
    const Json& model = Member(json_, "model");
    if (!model.is_object()) return Bad("\"model\" is not an object");
    TRY(CheckModel(model));
    impl_->normalizer = TRY(internal::ReadNormalizer(Member(json_, "normalizer")));
    impl_->pre = TRY(internal::ReadPreTokenizer(Member(json_, "pre_tokenizer")));
    decoder_ = TRY(internal::ReadDecoder(Member(json_, "decoder")));
    byte_level_ = impl_->pre.byte_level() || decoder_.byte_level;
    impl_->model = byte_level_ ? TokenizerSpec::Model::kByteBpe : TokenizerSpec::Model::kSpm;
    impl_->strip_first_space = !byte_level_ && decoder_.strip_first_space;
    TRY(ReadVocabulary(Member(model, "vocab")));
    TRY(ReadAdded(Member(json_, "added_tokens")));
    TRY(MakeModel(model));
    TRY(ReadSpecials());
    impl_->pre_name = impl_->pre.NearestName();
    if (byte_level_ && impl_->pre_name == "llama-bpe" && !ignore_merges_) {
      impl_->pre_name = "dbrx";  // the same splits without whole tokens first
    }
    impl_->add_space_prefix = impl_->strip_first_space;
    impl_->Index();
    return std::move(impl_);
  }

 private:
  Status CheckModel(const Json& model) {
    const std::string type = TRY(StringOr(model, "type", "BPE"));
    if (type != "BPE") {
      return Error{Code::kUnsupported, "tokenizer.json: model type \"" + type.substr(0, 60) +
                                           "\" is not supported, only BPE"};
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const std::string text = TRY(StringOr(model, key, ""));
      if (!text.empty()) {
        return Error{Code::kUnsupported,
                     "tokenizer.json: model member \"" + std::string(key) + "\" is not supported"};
      }
    }
    ignore_merges_ = TRY(BoolOr(model, "ignore_merges", false));
    fallback_ = TRY(BoolOr(model, "byte_fallback", false));
    fuse_ = TRY(BoolOr(model, "fuse_unk", false));
    unknown_ = TRY(StringOr(model, "unk_token", ""));
    return {};
  }

  // Makes room for `id`; the vocabulary may have holes, but not be mostly holes.
  Status Reserve(TokenId id, size_t tokens, const std::string& what) {
    const auto index = static_cast<size_t>(id);
    if (index >= 64 * tokens + 65536) {
      return Bad(what + " has id " + std::to_string(id) + " in a vocabulary of " +
                 std::to_string(tokens) + " tokens");
    }
    if (index >= names_.size()) {
      names_.resize(index + 1);
      impl_->types.resize(index + 1, Impl::kUnused);
    }
    return {};
  }

  Status ReadVocabulary(const Json& vocab) {
    if (!vocab.is_object()) return Bad("\"model.vocab\" is not an object");
    if (vocab.empty()) return Bad("the vocabulary is empty");
    ids_ = internal::StringTable(vocab.size());
    names_.reserve(vocab.size());
    for (const auto& [name, value] : vocab.items()) {
      const TokenId id = TRY(ReadId(value, Quoted(name)));
      TRY(Reserve(id, vocab.size(), Quoted(name)));
      const auto index = static_cast<size_t>(id);
      if (impl_->types[index] != Impl::kUnused) {
        return Bad(Quoted(name) + " and " + Quoted(names_[index]) + " both have id " +
                   std::to_string(id));
      }
      names_[index] = name;
      const bool byte = fallback_ && internal::ByteOfName(name) >= 0;
      impl_->types[index] = byte ? Impl::kByte : Impl::kNormal;
      ids_.Insert(name, id);
    }
    return {};
  }

  Status ReadAdded(const Json& added) {
    if (added.is_null()) return {};
    if (!added.is_array()) return Bad("\"added_tokens\" is not a list");
    const size_t tokens = names_.size() + added.size();
    for (const Json& item : added) {
      if (!item.is_object()) return Bad("an added token is not an object");
      AddedToken token;
      token.text = TRY(StringOr(item, "content", ""));
      if (token.text.empty()) continue;
      const std::string what = "added " + Quoted(token.text);
      if (token.text.size() > internal::kMaxAddedTokenBytes) {
        return Error{Code::kLimit, "tokenizer.json: " + what + " has " +
                                       std::to_string(token.text.size()) + " bytes, at most " +
                                       std::to_string(internal::kMaxAddedTokenBytes) +
                                       " are accepted"};
      }
      token.id = TRY(ReadId(Member(item, "id"), what));
      token.special = TRY(BoolOr(item, "special", false));
      token.single_word = TRY(BoolOr(item, "single_word", false));
      token.lstrip = TRY(BoolOr(item, "lstrip", false));
      token.rstrip = TRY(BoolOr(item, "rstrip", false));
      token.normalized = TRY(BoolOr(item, "normalized", !token.special));
      const TokenId known = ids_.Find(token.text);
      if (known >= 0 && known != token.id) {
        return Bad(what + " has id " + std::to_string(token.id) + ", the vocabulary says " +
                   std::to_string(known));
      }
      TRY(Reserve(token.id, tokens, what));
      const auto index = static_cast<size_t>(token.id);
      if (known < 0 && impl_->types[index] != Impl::kUnused) {
        return Bad(what + " and " + Quoted(names_[index]) + " both have id " +
                   std::to_string(token.id));
      }
      names_[index] = token.text;
      impl_->types[index] = token.special ? Impl::kControl : Impl::kUser;
      ids_.Insert(token.text, token.id);
      impl_->added.push_back(std::move(token));
    }
    return {};
  }

  std::string Shown(const std::string& name, uint8_t type) const {
    if (type == Impl::kByte && decoder_.byte_fallback) {
      return std::string(1, static_cast<char>(internal::ByteOfName(name)));
    }
    std::string text = name;
    // Replacements of replacements could grow without bound; no real vocabulary comes near this.
    const size_t most = 64 * name.size() + 1024;
    for (const auto& [from, to] : decoder_.replacements) {
      if (text.size() > most) break;
      std::string next;
      size_t at = 0;
      for (size_t hit = text.find(from); hit != std::string::npos; hit = text.find(from, at)) {
        next.append(text, at, hit - at);
        next += to;
        at = hit + from.size();
      }
      next.append(text, at, std::string::npos);
      text = std::move(next);
    }
    return text;
  }

  void MakePieces() {
    const size_t n = names_.size();
    impl_->pieces.resize(n);
    impl_->verbatim.resize(n);
    for (size_t i = 0; i < n; ++i) {
      const uint8_t type = impl_->types[i];
      const bool text = type == Impl::kNormal || type == Impl::kByte;
      if (!byte_level_) {
        impl_->pieces[i] = text ? Shown(names_[i], type) : names_[i];
        continue;
      }
      impl_->verbatim[i] = !text || !internal::FromStandIns(names_[i], &impl_->pieces[i]);
      if (impl_->verbatim[i]) impl_->pieces[i] = names_[i];
    }
  }

  Status MakeModel(const Json& model) {
    MakePieces();
    internal::BpeModel::Options options;
    options.byte_level = byte_level_;
    options.ignore_merges = ignore_merges_;
    options.fuse_unknown = fuse_;
    if (!unknown_.empty()) {
      const TokenId id = ids_.Find(unknown_);
      if (id < 0)
        return Bad("unk_token \"" + unknown_.substr(0, 60) + "\" is not in the vocabulary");
      options.unknown = impl_->unknown = id;
    }
    impl_->bpe.emplace(options, static_cast<TokenId>(names_.size()));
    if (!byte_level_) impl_->names = names_;
    internal::AddTextTokens(impl_.get());
    TRY(ReadMerges(Member(model, "merges")));
    impl_->bpe->Finish();
    if (!byte_level_ && !ignore_merges_ && !impl_->bpe->FusesUnknown()) FindCuts();
    return {};
  }

  void FindCuts() {
    internal::CutTable cuts;
    for (const auto& [a, b] : impl_->merges) {
      for (const TokenId id : {a, b}) {
        // These stand for other text than their names.
        const uint8_t type = impl_->types[static_cast<size_t>(id)];
        if (type == Impl::kByte || id == impl_->unknown) return;
      }
      cuts.AddMerged(names_[static_cast<size_t>(a)] + names_[static_cast<size_t>(b)]);
    }
    impl_->cuts = cuts;
  }

  Status ReadMerges(const Json& merges) {
    if (merges.is_null()) return {};
    if (!merges.is_array()) return Bad("\"model.merges\" is not a list");
    std::vector<internal::MergeRule> rules;
    rules.reserve(merges.size());
    for (const Json& merge : merges) {
      if (merge.is_string()) {
        const std::string_view text = merge.get_ref<const std::string&>();
        const size_t space = text.find(' ');
        if (space == std::string_view::npos ||
            text.find(' ', space + 1) != std::string_view::npos) {
          return Bad("merge " + std::to_string(rules.size()) + " \"" +
                     std::string(text.substr(0, 60)) + "\" is not two tokens with a space between");
        }
        rules.push_back({text.substr(0, space), text.substr(space + 1)});
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        rules.push_back(
            {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()});
      } else {
        return Bad("merge " + std::to_string(rules.size()) +
                   " is neither a text nor a pair of texts");
      }
    }
    return internal::AddMerges(rules, ids_, impl_.get());
  }

  // A token named in tokenizer_config.json: its text, or an object with it.
  Result<std::optional<TokenId>> ConfigToken(const char* key) const {
    const Json* value = &Member(config_, key);
    if (value->is_object()) value = &Member(*value, "content");
    if (!value->is_string()) return std::optional<TokenId>();
    const TokenId id = ids_.Find(value->get_ref<const std::string&>());
    return id >= 0 ? std::optional<TokenId>(id) : std::nullopt;
  }

  Status ReadSpecials() {
    ReadTemplate(Member(json_, "post_processor"));
    const auto bos = TRY(ConfigToken("bos_token"));
    const auto eos = TRY(ConfigToken("eos_token"));
    impl_->pad = TRY(ConfigToken("pad_token"));
    if (bos) impl_->bos = bos;
    if (eos) impl_->eos = eos;
    impl_->add_bos = TRY(BoolOr(config_, "add_bos_token", impl_->add_bos));
    impl_->add_eos = TRY(BoolOr(config_, "add_eos_token", impl_->add_eos));
    return {};
  }

  // What the post-processor puts before and after one sequence.
  void ReadTemplate(const Json& processor) {
    if (!processor.is_object()) return;
    const Json& list = Member(processor, "processors");
    if (list.is_array()) {
      for (const Json& step : list) {
        if (step.is_object() && Member(step, "type") == "TemplateProcessing") ReadTemplate(step);
      }
      return;
    }
    const Json& single = Member(processor, "single");
    if (!single.is_array()) return;
    bool after_text = false;
    for (const Json& item : single) {
      if (!item.is_object()) continue;
      if (item.contains("Sequence")) after_text = true;
      const Json& special = Member(item, "SpecialToken");
      if (!special.is_object() || !Member(special, "id").is_string()) continue;
      const TokenId id = ids_.Find(Member(special, "id").get_ref<const std::string&>());
      if (id < 0) continue;
      (after_text ? impl_->eos : impl_->bos) = id;
      (after_text ? impl_->add_eos : impl_->add_bos) = true;
    }
  }

  const Json& json_;
  const Json& config_;
  std::unique_ptr<Impl> impl_ = std::make_unique<Impl>();
  internal::Decoder decoder_;
  internal::StringTable ids_;
  std::vector<std::string> names_;
  std::string unknown_;
  bool byte_level_ = false, ignore_merges_ = false, fallback_ = false, fuse_ = false;
};

}  // namespace

Result<Tokenizer> Tokenizer::FromJson(std::string_view json, std::string_view config_json) {
  const Json parsed = TRY(ParseBounded(json, "tokenizer.json"));
  Json config = Json::object();
  if (!config_json.empty()) config = TRY(ParseBounded(config_json, "tokenizer_config.json"));
  return Tokenizer(TRY(JsonReader(parsed, config).Read()));
}

}  // namespace hadal
