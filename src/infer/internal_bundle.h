// What the two kinds of model files say beside weights and tokenizer.
#pragma once

#include <functional>
#include <string>
#include <string_view>
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
// read: a file of the folder by name; kNotFound where there is none.
using ReadText = std::function<Result<std::string>(std::string_view name)>;
Result<Defaults> DefaultsFromFolder(const ReadText& read);

}  // namespace hadal::internal
