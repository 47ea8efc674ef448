// Text as Python sees it: code points, white space, case, numbers as text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace hadal::internal::jinja {

bool ValidUtf8(std::string_view text);
// The code point at `at`, which is moved past it. text is valid UTF-8.
char32_t NextCodePoint(std::string_view text, size_t* at);
void AppendCodePoint(std::string* out, char32_t c);
size_t CodePoints(std::string_view text);
size_t ByteOffset(std::string_view text, size_t code_points);

bool IsSpace(char32_t c);
size_t SpaceAtEnd(std::string_view text);    // bytes of trailing white space
size_t SpaceAtStart(std::string_view text);  // bytes of leading white space

enum class Case { kUpper, kLower, kTitle, kCapital, kSwap };
std::string ChangeCase(std::string_view text, Case how);
// str.isalpha(), .isdigit(), ... by name without "is"; false for unknown names.
bool TextIs(std::string_view text, std::string_view property);

std::string FloatText(double value);  // repr()
std::optional<int64_t> ParseInt(std::string_view text, int base);
std::optional<double> ParseFloat(std::string_view text);
std::string Quote(std::string_view text);  // repr() of a string
// Shown in an error: cut to a length one can read, control characters replaced.
std::string Brief(std::string_view text);

// `format % arguments`
Result<Value> PercentFormat(Budget* budget, const Value& format, const Value& arguments);
// One replacement field of str.format: spec as in Python's mini-language.
Result<Value> FormatField(Budget* budget, const Value& value, std::string_view spec);

}  // namespace hadal::internal::jinja
