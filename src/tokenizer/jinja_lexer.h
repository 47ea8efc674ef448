// Template source to tokens, with jinja2's rules for white space around tags (trim_blocks and
// lstrip_blocks on).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal::internal::jinja {

enum class TokenKind : uint8_t {
  kData,
  kExpressionBegin,  // {{
  kExpressionEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // data, name, operator; a string's value
  int64_t integer = 0;
  double real = 0;
};

// source: valid UTF-8.
Result<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace hadal::internal::jinja
