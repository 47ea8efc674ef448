// Typed look-ups in GGUF metadata.
#include <cstdint>
#include <string>
#include <variant>

#include "formats/internal_weight_file.h"
#include "formats/weight_file.h"

namespace hadal {
namespace {

Error WrongType(std::string_view key, std::string_view want, const MetaValue& value) {
  static constexpr std::string_view kNames[internal::kGgufTypeCount] = {
      "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
      "bool", "string", "array", "u64", "i64", "f64"};
  const std::string_view name =
      value.gguf_type < internal::kGgufTypeCount ? kNames[value.gguf_type] : "unknown";
  return {Code::kInvalid, "metadata key " + internal::Quote(key) + ": is of type " +
                              std::string(name) + ", wanted " + std::string(want)};
}

const MetaValue* FindValue(const Metadata& m, std::string_view key) {
  const auto it = m.find(std::string(key));
  return it == m.end() ? nullptr : &it->second;
}

}  // namespace

Result<std::optional<uint64_t>> MetaUint(const Metadata& m, std::string_view key) {
  const MetaValue* v = FindValue(m, key);
  if (v == nullptr) return std::optional<uint64_t>();
  if (const auto* u = std::get_if<uint64_t>(&v->value)) return std::optional<uint64_t>(*u);
  if (const auto* i = std::get_if<int64_t>(&v->value)) {
    if (*i >= 0) return std::optional<uint64_t>(static_cast<uint64_t>(*i));
    return Error{Code::kInvalid, "metadata key " + internal::Quote(key) + ": is " +
                                     std::to_string(*i) + ", wanted a number of at least 0"};
  }
  return WrongType(key, "a whole number", *v);
}

Result<std::optional<double>> MetaFloat(const Metadata& m, std::string_view key) {
  const MetaValue* v = FindValue(m, key);
  if (v == nullptr) return std::optional<double>();
  if (const auto* d = std::get_if<double>(&v->value)) return std::optional<double>(*d);
  if (const auto* u = std::get_if<uint64_t>(&v->value)) {
    return std::optional<double>(static_cast<double>(*u));
  }
  if (const auto* i = std::get_if<int64_t>(&v->value)) {
    return std::optional<double>(static_cast<double>(*i));
  }
  return WrongType(key, "a number", *v);
}

Result<std::optional<bool>> MetaBool(const Metadata& m, std::string_view key) {
  const MetaValue* v = FindValue(m, key);
  if (v == nullptr) return std::optional<bool>();
  if (const auto* b = std::get_if<bool>(&v->value)) return std::optional<bool>(*b);
  return WrongType(key, "bool", *v);
}

Result<std::optional<std::string>> MetaString(const Metadata& m, std::string_view key) {
  const MetaValue* v = FindValue(m, key);
  if (v == nullptr) return std::optional<std::string>();
  if (const auto* s = std::get_if<std::string>(&v->value)) return std::optional<std::string>(*s);
  return WrongType(key, "string", *v);
}

const MetaArray* MetaFindArray(const Metadata& m, std::string_view key) {
  const MetaValue* v = FindValue(m, key);
  return v == nullptr ? nullptr : std::get_if<MetaArray>(&v->value);
}

}  // namespace hadal
