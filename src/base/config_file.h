// TOML files read strictly: every key is asked for by name and type; what nobody asked for is an
// error that names the nearest key that exists. Errors begin with file:line.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal {

class ConfigTable {
 public:
  static Result<ConfigTable> Read(const std::string& path);
  // name stands for the path in errors.
  static Result<ConfigTable> Parse(std::string_view toml, const std::string& name);
  ConfigTable(ConfigTable&&) noexcept;
  ConfigTable& operator=(ConfigTable&&) noexcept;
  ~ConfigTable();

  bool Has(std::string_view key) const;
  // With `use`, what the table `key` says goes before the other keys here, tables within tables
  // alike: [stage.smoke] makes a small variant of [stage]. Without, it is only known.
  Status Overlay(std::string_view key, bool use);
  // What `base` says goes after the keys here, tables within tables alike. Both are of one file.
  void Inherit(const ConfigTable& base);
  // A value within [low, high]; without a fallback the key must be there. Integers may be written
  // with a unit: "64K", "2M", "1.5B" (powers of ten).
  Result<int64_t> Integer(std::string_view key, int64_t low, int64_t high,
                          std::optional<int64_t> fallback = {});
  Result<double> Number(std::string_view key, double low, double high,
                        std::optional<double> fallback = {});
  Result<bool> Flag(std::string_view key, std::optional<bool> fallback = {});
  Result<std::string> Text(std::string_view key, std::optional<std::string> fallback = {});
  // Which of the names the text is; an index.
  Result<size_t> Choice(std::string_view key, std::span<const std::string_view> names,
                        std::optional<size_t> fallback = {});
  // Absent: empty.
  Result<std::vector<std::string>> Texts(std::string_view key);
  Result<std::vector<double>> Numbers(std::string_view key);
  Result<std::optional<ConfigTable>> Table(std::string_view key);
  Result<std::vector<ConfigTable>> Tables(std::string_view key);  // [[key]]
  // The table as JSON text, every key of it counted as read.
  std::string ToJson();
  // One text for equal tables, what was laid over or under them included; no key counts as read.
  std::string Canonical() const;

  // Keys that were never asked for are an error; so is the last word of any reader.
  Status Finish() const;
  // An error at a key (or at the table itself): "file.toml:12: key: " + message.
  Error At(std::string_view key, std::string_view message) const;
  const std::string& file() const;

 private:
  struct Impl;
  explicit ConfigTable(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The candidate with the smallest edit distance, if it is near enough to be meant; else "".
std::string Nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace hadal
