// Values out of JSON that anyone may have written: a wrong type is the fallback, never an
// exception.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace hadal::internal {

// The text as JSON; a discarded value when it is none.
nlohmann::json ParseJson(std::string_view text);
// null reads as NaN: JSON has no other way to write one.
double NumberOr(const nlohmann::json& object, const char* key, double otherwise);
std::optional<double> OptionalNumber(const nlohmann::json& object, const char* key);
int64_t IntegerOr(const nlohmann::json& object, const char* key, int64_t otherwise);
// A JSON number as an integer, clamped to the range; 0 for what is no number.
int64_t ToInteger(const nlohmann::json& value);
bool FlagOr(const nlohmann::json& object, const char* key, bool otherwise);
std::string TextOr(const nlohmann::json& object, const char* key, const std::string& otherwise);
// "text" with quotes and escapes; bytes that are not UTF-8 become U+FFFD.
std::string Quoted(const std::string& text);
// The shortest digits that read back as the same double; null for NaN and infinities.
std::string Digits(double value);

}  // namespace hadal::internal
