// Tiny seeded models for tests: every architecture, a byte-level tokenizer, a chat template.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "tensor/dtype.h"
#include "tokenizer/tokenizer.h"

namespace hadal::cli {

// config.json of a model of two layers; name: llama, mixtral, qwen2, qwen3, deepseek_v2 or
// deepseek_v3.
std::string TinyConfigJson(const std::string& name);
// 256 bytes and the special tokens <s> </s> <|im_start|> <|im_end|> <think> </think>.
TokenizerSpec TinyTokenizer();
// A GGUF of it with random weights in `type`.
Status WriteTinyGguf(const std::string& name, DType type, const std::string& path);

}  // namespace hadal::cli
