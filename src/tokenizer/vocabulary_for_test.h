// Reads real vocabularies for tests and benches; the module itself knows no file formats.
#pragma once

#include <string>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

// The tokenizer in a GGUF file's metadata; absent keys keep the defaults of `TokenizerSpec`, and
// of SentencePiece-style models the BOS that they add.
Result<TokenizerSpec> ReadVocabulary(const std::string& path);

}  // namespace hadal
