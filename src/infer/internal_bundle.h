// What the two kinds of model files say beside weights and tokenizer.
#pragma once

#include <string>
#include <vector>

#include "infer/bundle.h"

namespace hadal::internal {

struct Defaults {
  std::string chat_template;  // empty when there is none
  SamplingParams sampling;
  std::vector<int32_t> eos_ids;
  std::string bos_token, eos_token;  // empty where the tokenizer knows them better
};

Result<Defaults> DefaultsFromGguf(const Metadata& metadata);
Result<Defaults> DefaultsFromFolder(const WeightFile& file);

}  // namespace hadal::internal
