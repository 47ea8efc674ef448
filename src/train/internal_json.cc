#include "train/internal_json.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace hadal::internal {
namespace {

using nlohmann::json;

const json* Find(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &*it;
}

}  // namespace

json ParseJson(std::string_view text) { return json::parse(text, nullptr, false); }

double NumberOr(const json& object, const char* key, double otherwise) {
  const json* value = Find(object, key);
  if (value == nullptr) return otherwise;
  if (value->is_null()) return std::numeric_limits<double>::quiet_NaN();
  return value->is_number() ? value->get<double>() : otherwise;
}

std::optional<double> OptionalNumber(const json& object, const char* key) {
  const json* value = Find(object, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (!value->is_number()) return std::nullopt;
  return value->get<double>();
}

int64_t ToInteger(const json& value) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    return number > static_cast<uint64_t>(kMost) ? kMost : static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return 0;
  const double number = value.get<double>();
  if (std::isnan(number)) return 0;
  if (number >= 9.2e18) return kMost;
  if (number <= -9.2e18) return -kMost;
  return static_cast<int64_t>(number);
}

int64_t IntegerOr(const json& object, const char* key, int64_t otherwise) {
  const json* value = Find(object, key);
  return value != nullptr && value->is_number() ? ToInteger(*value) : otherwise;
}

bool FlagOr(const json& object, const char* key, bool otherwise) {
  const json* value = Find(object, key);
  return value != nullptr && value->is_boolean() ? value->get<bool>() : otherwise;
}

std::string TextOr(const json& object, const char* key, const std::string& otherwise) {
  const json* value = Find(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : otherwise;
}

std::string Quoted(const std::string& text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string Digits(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "null";
}

}  // namespace hadal::internal
