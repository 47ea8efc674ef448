// The parts of hadal data, one file each.
#pragma once

#include <string>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace CLI {
class App;
}

namespace hadal::cli {

void AddDataBuild(CLI::App& data, Status& status);
void AddDataLook(CLI::App& data, Status& status);
void AddDataTokenizer(CLI::App& data, Status& status);
void AddDataProblems(CLI::App& data, Status& status);

// A tokenizer.json, or a folder that holds one; tokenizer_config.json beside it names the special
// tokens and the chat template (without one: the template of tokenizers trained here).
struct TokenizerFolder {
  Tokenizer tokenizer;
  std::string chat_template;
};
Result<TokenizerFolder> OpenTokenizer(const std::string& path);

}  // namespace hadal::cli
