// The parts of a tokenizer.json that are lists of steps: normalizer, pre_tokenizer, decoder.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pretokenizer.h"

namespace hadal::internal {

using Json = nlohmann::json;

// nullopt-like look-ups that never throw: a missing or null member gives the default, another type
// an error naming it.
Result<bool> BoolOr(const Json& object, const char* key, bool fallback);
Result<std::string> StringOr(const Json& object, const char* key, std::string_view fallback);

// Each takes the member's value; null means none. Unknown kinds are errors naming them.
Result<Normalizer> ReadNormalizer(const Json& json);
Result<PreTokenizer> ReadPreTokenizer(const Json& json);

struct Decoder {
  bool byte_level = false;
  bool byte_fallback = false;
  bool strip_first_space = false;
  std::vector<std::pair<std::string, std::string>> replacements;  // within each token
};
Result<Decoder> ReadDecoder(const Json& json);

}  // namespace hadal::internal
