// The parts of hadal data, one file each.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/command_line.h"
#include "tokenizer/tokenizer.h"

namespace hadal::cli {

void AddDataBuild(Verb& data, Status& status);
void AddDataLook(Verb& data, Status& status);
void AddDataTokenizer(Verb& data, Status& status);
void AddDataProblems(Verb& data, Status& status);

// A tokenizer.json, or a folder that holds one; tokenizer_config.json beside it names the special
// tokens and the chat template (without one: the template of tokenizers trained here).
struct TokenizerFolder {
  Tokenizer tokenizer;
  std::string chat_template;
};
Result<TokenizerFolder> OpenTokenizer(const std::string& path);

}  // namespace hadal::cli
