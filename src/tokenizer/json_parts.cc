#include "tokenizer/json_parts.h"

#include <optional>
#include <utility>

namespace hadal::internal {
namespace {

constexpr size_t kMaxSteps = 64;
constexpr size_t kMaxLiteral = 256;

Error Bad(std::string message) { return {Code::kInvalid, "tokenizer.json: " + std::move(message)}; }

Error Unknown(const char* part, const std::string& type) {
  return {Code::kUnsupported, "tokenizer.json: the " + std::string(part) + " \"" +
                                  type.substr(0, 60) + "\" is not supported"};
}

Result<std::string> TypeOf(const Json& json, const char* part) {
  if (!json.is_object()) return Bad(std::string(part) + " is not an object");
  std::string type = TRY(StringOr(json, "type", ""));
  if (type.empty()) return Bad(std::string(part) + " has no type");
  return type;
}

// The steps of a Sequence in order, nested ones flattened; a single step is a list of one.
Status Flatten(const Json& json, const char* part, const char* list,
               std::vector<const Json*>* out) {
  const std::string type = TRY(TypeOf(json, part));
  if (type != "Sequence") {
    if (out->size() >= kMaxSteps) {
      return Error{Code::kLimit, "tokenizer.json: " + std::string(part) + " has over " +
                                     std::to_string(kMaxSteps) + " steps"};
    }
    out->push_back(&json);
    return {};
  }
  const auto steps = json.find(list);
  if (steps == json.end() || !steps->is_array()) {
    return Bad(std::string(part) + ": a Sequence without the list \"" + list + "\"");
  }
  for (const Json& step : *steps) {
    const Status status = Flatten(step, part, list, out);
    if (!status.ok()) return status;
  }
  return {};
}

// {"Regex": "..."} or {"String": "..."} or a plain string.
struct Pattern {
  std::string text;
  bool regex = false;
};
Result<Pattern> ReadPattern(const Json& step, const char* part) {
  const auto found = step.find("pattern");
  if (found != step.end() && found->is_string()) return Pattern{found->get<std::string>(), false};
  if (found != step.end() && found->is_object()) {
    for (const bool regex : {true, false}) {
      const auto text = found->find(regex ? "Regex" : "String");
      if (text != found->end() && text->is_string()) {
        return Pattern{text->get<std::string>(), regex};
      }
    }
  }
  return Bad(std::string(part) +
             ": the pattern is neither {\"Regex\": text} nor {\"String\": text}");
}

Result<std::string> ShortString(const Json& json, const char* key, std::string_view fallback) {
  std::string text = TRY(StringOr(json, key, fallback));
  if (text.size() > kMaxLiteral) {
    return Error{Code::kLimit, "tokenizer.json: \"" + std::string(key) + "\" has " +
                                   std::to_string(text.size()) + " bytes, at most " +
                                   std::to_string(kMaxLiteral) + " are accepted"};
  }
  return text;
}

Result<Behavior> ReadBehavior(const Json& step) {
  const std::string name = TRY(StringOr(step, "behavior", "Isolated"));
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return Unknown("split behavior", name);
}

Result<Normalizer::Step> ReadNormalizerStep(const Json& json, const std::string& type) {
  using Kind = Normalizer::Step::Kind;
  const std::pair<const char*, Kind> plain[] = {{"NFC", Kind::kNfc},
                                                {"NFD", Kind::kNfd},
                                                {"NFKC", Kind::kNfkc},
                                                {"NFKD", Kind::kNfkd},
                                                {"Lowercase", Kind::kLowercase},
                                                {"StripAccents", Kind::kStripAccents}};
  for (const auto& [name, kind] : plain) {
    if (type == name) return Normalizer::Step{.kind = kind};
  }
  if (type == "Strip") {
    Normalizer::Step step{.kind = Kind::kStrip};
    step.left = TRY(BoolOr(json, "strip_left", true));
    step.right = TRY(BoolOr(json, "strip_right", true));
    return step;
  }
  if (type == "Prepend") {
    Normalizer::Step step{.kind = Kind::kPrepend};
    step.literal = TRY(ShortString(json, "prepend", ""));
    return step;
  }
  if (type == "Replace") {
    Normalizer::Step step{.kind = Kind::kReplace};
    Pattern pattern = TRY(ReadPattern(json, "normalizer Replace"));
    if (pattern.regex) {
      step.regex = TRY(Regex::Compile(pattern.text));
    } else {
      step.literal = std::move(pattern.text);
    }
    step.content = TRY(ShortString(json, "content", ""));
    return step;
  }
  return Unknown("normalizer", type);
}

Status AddMetaspace(const Json& json, PreTokenizer* out) {
  using Prepend = PreTokenizer::Step::Prepend;
  PreTokenizer::Step step{.kind = PreTokenizer::Step::Kind::kMetaspace};
  step.literal = TRY(ShortString(json, "replacement", "\xE2\x96\x81"));
  if (step.literal.empty()) return Bad("Metaspace with an empty replacement");
  step.split = TRY(BoolOr(json, "split", true));
  // Files before the scheme existed say add_prefix_space instead.
  const bool prefix = TRY(BoolOr(json, "add_prefix_space", true));
  const std::string scheme = TRY(StringOr(json, "prepend_scheme", prefix ? "always" : "never"));
  if (scheme == "always") {
    step.prepend = Prepend::kAlways;
  } else if (scheme == "first") {
    step.prepend = Prepend::kFirst;
  } else if (scheme == "never") {
    step.prepend = Prepend::kNever;
  } else {
    return Unknown("Metaspace prepend_scheme", scheme);
  }
  out->AddStep(std::move(step));
  return {};
}

Status AddPreTokenizerStep(const Json& json, const std::string& type, PreTokenizer* out) {
  if (out->byte_level()) {
    return Error{Code::kUnsupported,
                 "tokenizer.json: pre_tokenizer " + type.substr(0, 60) + " after ByteLevel"};
  }
  if (type == "ByteLevel") {
    const bool prefix = TRY(BoolOr(json, "add_prefix_space", true));
    const bool regex = TRY(BoolOr(json, "use_regex", true));
    out->AddByteLevel(prefix, regex);
    return {};
  }
  if (type == "Split") {
    const Pattern pattern = TRY(ReadPattern(json, "pre_tokenizer Split"));
    const Behavior behavior = TRY(ReadBehavior(json));
    const bool invert = TRY(BoolOr(json, "invert", false));
    if (pattern.regex) return out->AddSplit(pattern.text, behavior, invert);
    out->AddLiteral(pattern.text, behavior, invert);
    return {};
  }
  if (type == "Digits") {
    const bool alone = TRY(BoolOr(json, "individual_digits", false));
    return out->AddSplit(alone ? "\\p{N}" : "\\p{N}+", Behavior::kIsolated, false);
  }
  if (type == "Punctuation") {
    PreTokenizer::Step step{.kind = PreTokenizer::Step::Kind::kPunctuation};
    step.behavior = TRY(ReadBehavior(json));
    out->AddStep(std::move(step));
    return {};
  }
  if (type == "Whitespace") {
    // \w here is another than in a stated pattern: with joiners, without other numbers.
    const std::string word =
        "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{"
        "1f149}"
        "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
    return out->AddSplit("[" + word + "]+|[^\\s" + word + "]+", Behavior::kRemoved, true);
  }
  if (type == "WhitespaceSplit") return out->AddSplit("\\s", Behavior::kRemoved, false);
  if (type == "BertPreTokenizer") {
    const Status spaces = out->AddSplit("\\s", Behavior::kRemoved, false);
    if (!spaces.ok()) return spaces;
    out->AddStep({.kind = PreTokenizer::Step::Kind::kPunctuation});
    return {};
  }
  if (type == "CharDelimiterSplit") {
    const std::string delimiter = TRY(ShortString(json, "delimiter", ""));
    out->AddLiteral(delimiter, Behavior::kRemoved, false);
    return {};
  }
  if (type == "Metaspace") return AddMetaspace(json, out);
  return Unknown("pre_tokenizer", type);
}

Status AddDecoderStep(const Json& json, const std::string& type, Decoder* out) {
  if (type == "ByteLevel") {
    out->byte_level = true;
  } else if (type == "ByteFallback") {
    out->byte_fallback = true;
  } else if (type == "Fuse") {
    // Pieces are joined anyway.
  } else if (type == "Metaspace") {
    const std::string mark = TRY(ShortString(json, "replacement", "\xE2\x96\x81"));
    const bool prefix = TRY(BoolOr(json, "add_prefix_space", true));
    const std::string scheme = TRY(StringOr(json, "prepend_scheme", prefix ? "always" : "never"));
    if (mark.empty()) return Bad("decoder Metaspace with an empty replacement");
    out->replacements.emplace_back(mark, " ");
    out->strip_first_space = scheme != "never";
  } else if (type == "Replace") {
    const Pattern pattern = TRY(ReadPattern(json, "decoder Replace"));
    if (pattern.regex || pattern.text.empty()) return Unknown("decoder", "Replace by expression");
    const std::string content = TRY(ShortString(json, "content", ""));
    out->replacements.emplace_back(pattern.text, content);
  } else if (type == "Strip") {
    const std::string content = TRY(ShortString(json, "content", " "));
    const auto is_count = [&](const char* key, int64_t least, int64_t most) {
      const auto n = json.find(key);
      return n == json.end() ||
             (n->is_number_integer() && n->get<int64_t>() >= least && n->get<int64_t>() <= most);
    };
    if (content != " " || !is_count("start", 0, 1) || !is_count("stop", 0, 0)) {
      return Unknown("decoder", "Strip of more than one leading space");
    }
    const auto start = json.find("start");
    out->strip_first_space |= start != json.end() && start->get<int64_t>() == 1;
  } else {
    return Unknown("decoder", type);
  }
  return {};
}

}  // namespace

Result<bool> BoolOr(const Json& object, const char* key, bool fallback) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  if (!found->is_boolean()) return Bad(std::string("\"").append(key) + "\" is not true or false");
  return found->get<bool>();
}

Result<std::string> StringOr(const Json& object, const char* key, std::string_view fallback) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::string(fallback);
  if (!found->is_string()) return Bad(std::string("\"").append(key) + "\" is not a string");
  return found->get<std::string>();
}

Result<Normalizer> ReadNormalizer(const Json& json) {
  Normalizer out;
  if (json.is_null()) return out;
  std::vector<const Json*> steps;
  const Status flat = Flatten(json, "normalizer", "normalizers", &steps);
  if (!flat.ok()) return flat.error();
  for (const Json* step : steps) {
    const std::string type = TRY(TypeOf(*step, "normalizer"));
    out.AddStep(TRY(ReadNormalizerStep(*step, type)));
  }
  return out;
}

Result<PreTokenizer> ReadPreTokenizer(const Json& json) {
  PreTokenizer out;
  if (json.is_null()) return out;
  std::vector<const Json*> steps;
  const Status flat = Flatten(json, "pre_tokenizer", "pretokenizers", &steps);
  if (!flat.ok()) return flat.error();
  for (const Json* step : steps) {
    const std::string type = TRY(TypeOf(*step, "pre_tokenizer"));
    const Status added = AddPreTokenizerStep(*step, type, &out);
    if (!added.ok()) return added.error();
  }
  return out;
}

Result<Decoder> ReadDecoder(const Json& json) {
  Decoder out;
  if (json.is_null()) return out;
  std::vector<const Json*> steps;
  const Status flat = Flatten(json, "decoder", "decoders", &steps);
  if (!flat.ok()) return flat.error();
  for (const Json* step : steps) {
    const std::string type = TRY(TypeOf(*step, "decoder"));
    const Status added = AddDecoderStep(*step, type, &out);
    if (!added.ok()) return added.error();
  }
  return out;
}

}  // namespace hadal::internal
