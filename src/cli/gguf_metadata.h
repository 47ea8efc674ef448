// GGUF metadata of a model: keys of its architecture, of its tokenizer, of its defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/weight_file.h"
#include "model/config.h"
#include "tensor/dtype.h"
#include "tokenizer/tokenizer.h"

namespace hadal::cli {

MetaValue MetaU32(uint64_t value);
MetaValue MetaText(std::string value);

// general.* and <architecture>.* as llama.cpp reads them. MTP layers are not described.
Metadata ArchMetadata(const ModelConfig& config, const std::string& name, DType type);
// tokenizer.ggml.*; the vocabulary is filled up to `vocab` with unused tokens.
void AddTokenizer(const TokenizerSpec& spec, int64_t vocab, const std::vector<int32_t>& eos_ids,
                  Metadata& metadata);
// Llama 3's scaling of rotary frequencies as the divisors that rope_freqs.weight holds; empty for
// every other kind.
std::vector<float> RopeFactors(const ModelConfig& config);

}  // namespace hadal::cli
