// Writing tokenizer.json.
#pragma once

#include <string>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

// tokenizer.json (the format of the Hugging Face tokenizers library) for a byte-level BPE. Control
// tokens become special added tokens, user-defined ones plain added tokens, unused ones are left
// out. kUnsupported for SentencePiece models and for unknown names of pre-tokenizers.
Result<std::string> ToTokenizerJson(const TokenizerSpec& spec);

}  // namespace hadal
