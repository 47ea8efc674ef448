// Everything that a model file or folder holds: weights, tokenizer, chat template, defaults.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/weight_file.h"
#include "infer/sampler.h"
#include "model/model.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/thought_splitter.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

struct Bundle {
  std::string name;  // file or folder name without its extension and its number in a split set
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  // null when the file has none
  std::string chat_template_error;              // why the one it has cannot be used, else empty
  std::optional<ThoughtSplitter::Tags> thought_tags;
  // As generation_config.json or general.sampling.* state it, SamplingParams' own where they do
  // not.
  SamplingParams default_sampling;
  std::vector<int32_t> eos_ids;      // every id that ends a turn, sorted
  std::string bos_token, eos_token;  // texts, for templates
};

struct BundleOptions {
  LoadOptions load;
};
Result<Bundle> LoadBundle(const Exec& exec, const std::string& path,
                          const BundleOptions& options = {});

// All but the model, from a folder with tokenizer.json: what talks with a model that is held
// elsewhere. Ids that such a model has no row for are for its user to leave out. Errors name the
// folder.
Result<Bundle> LoadBundleWithoutModel(const std::string& folder);

// The tokenizer alone, from a GGUF or a Hugging Face folder.
Result<Tokenizer> LoadTokenizer(const WeightFile& file);
// What GGUF metadata says of the tokenizer.
Result<TokenizerSpec> TokenizerSpecFromGguf(const Metadata& metadata);

// One conversation to prompt ids. messages_json: a JSON array of {role, content, ...};
// extra_json: further template variables as an object, or empty; it may not set messages,
// add_generation_prompt, bos_token or eos_token. A model without a template gets plain text, one
// paragraph a message, and BOS where its tokenizer adds one:
//   "<system content>\n\nUser: <content>\n\nAssistant: <content>\n\n" ... "Assistant:"
Result<std::vector<int32_t>> RenderChat(const Bundle& bundle, std::string_view messages_json,
                                        bool add_generation_prompt,
                                        std::string_view extra_json = {});

}  // namespace hadal
