#include "tokenizer/tokenizer_file.h"

#include <nlohmann/json.hpp>

#include "tokenizer/pretokenizer.h"

namespace hadal {
namespace {

using nlohmann::json;

// GGUF's token types.
constexpr int32_t kControl = 3, kUserDefined = 4, kUnused = 5;

json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json PreTokenizerJson(const internal::PreTokenizer& pre) {
  json steps = json::array();
  for (const std::string& pattern : pre.patterns()) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(ByteLevel(false));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

json PostProcessor(const TokenizerSpec& spec) {
  if (!spec.add_bos || !spec.bos) return ByteLevel(true);
  const std::string& bos = spec.tokens[static_cast<size_t>(*spec.bos)];
  const json first = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  const json a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json b = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  return {{"type", "TemplateProcessing"},
          {"single", {first, a}},
          {"pair", {first, a, b}},
          {"special_tokens", {{bos, {{"id", bos}, {"ids", {*spec.bos}}, {"tokens", {bos}}}}}}};
}

}  // namespace

Result<std::string> ToTokenizerJson(const TokenizerSpec& spec) {
  if (spec.model != TokenizerSpec::Model::kByteBpe) {
    return Error{
        Code::kUnsupported,
        "a SentencePiece tokenizer is not written as tokenizer.json; only byte-level BPE is"};
  }
  const auto pre = TRY(internal::PreTokenizer::FromName(spec.pre));
  json added = json::array();
  json vocab = json::object();
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const int32_t type = spec.types.empty() ? 1 : spec.types[i];
    if (type == kUnused) continue;
    vocab[spec.tokens[i]] = i;
    if (type != kControl && type != kUserDefined) continue;
    added.push_back({{"id", i},
                     {"content", spec.tokens[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", type == kControl}});
  }
  const bool nfc = pre.NearestName() == "qwen2";
  const json out = {{"version", "1.0"},
                    {"truncation", nullptr},
                    {"padding", nullptr},
                    {"added_tokens", std::move(added)},
                    {"normalizer", nfc ? json{{"type", "NFC"}} : json()},
                    {"pre_tokenizer", PreTokenizerJson(pre)},
                    {"post_processor", PostProcessor(spec)},
                    {"decoder", ByteLevel(true)},
                    {"model",
                     {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", internal::PreTokenizer::MergesIgnored(spec.pre)},
                      {"vocab", std::move(vocab)},
                      {"merges", spec.merges}}}};
  return out.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace hadal
