#include "tokenizer/vocabulary_for_test.h"

#include <variant>

#include "formats/weight_file.h"

namespace hadal {
namespace {

template <typename To, typename From>
void Copy(const MetaArray* array, std::vector<To>* out) {
  if (array == nullptr) return;
  if (const auto* values = std::get_if<std::vector<From>>(array)) {
    out->assign(values->begin(), values->end());
  }
}

}  // namespace

Result<TokenizerSpec> ReadVocabulary(const std::string& path) {
  const WeightFile file = TRY(WeightFile::Open(path));
  const Metadata& m = file.metadata();
  TokenizerSpec spec;
  if (TRY(MetaString(m, "tokenizer.ggml.model")).value_or("") == "llama") {
    spec.model = TokenizerSpec::Model::kSpm;
  }
  const bool spm = spec.model == TokenizerSpec::Model::kSpm;
  spec.pre = TRY(MetaString(m, "tokenizer.ggml.pre")).value_or("default");
  Copy<std::string, std::string>(MetaFindArray(m, "tokenizer.ggml.tokens"), &spec.tokens);
  Copy<std::string, std::string>(MetaFindArray(m, "tokenizer.ggml.merges"), &spec.merges);
  Copy<int32_t, int64_t>(MetaFindArray(m, "tokenizer.ggml.token_type"), &spec.types);
  Copy<float, double>(MetaFindArray(m, "tokenizer.ggml.scores"), &spec.scores);
  const auto id = [&](const char* key) -> Result<std::optional<TokenId>> {
    const auto value = TRY(MetaUint(m, std::string("tokenizer.ggml.") + key));
    if (!value || *value >= spec.tokens.size()) return std::optional<TokenId>();
    return std::optional<TokenId>(static_cast<TokenId>(*value));
  };
  spec.bos = TRY(id("bos_token_id"));
  spec.eos = TRY(id("eos_token_id"));
  spec.unknown = TRY(id("unknown_token_id"));
  spec.pad = TRY(id("padding_token_id"));
  spec.add_bos = TRY(MetaBool(m, "tokenizer.ggml.add_bos_token")).value_or(spm);
  spec.add_space_prefix = TRY(MetaBool(m, "tokenizer.ggml.add_space_prefix")).value_or(spm);
  return spec;
}

}  // namespace hadal
