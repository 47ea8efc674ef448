// Template source to tree.
#pragma once

#include <string_view>

#include "tokenizer/jinja_ast.h"

namespace hadal::internal::jinja {

// Errors name the line. limits.max_depth bounds nesting of blocks and of expressions.
Result<Tree> ParseTemplate(std::string_view source, const TemplateLimits& limits);

bool IsFilter(std::string_view name);
bool IsTest(std::string_view name);

}  // namespace hadal::internal::jinja
