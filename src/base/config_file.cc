#include "base/config_file.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <sstream>
#include <utility>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/file.h"

namespace hadal {
namespace {

constexpr uint64_t kMaxBytes = 1 << 20;

std::string_view TypeName(toml::node_type type) {
  switch (type) {
    case toml::node_type::string:
      return "text";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::table:
      return "a table";
    default:
      return "a date";
  }
}

// "1.5M" -> 1500000.
std::optional<double> WithUnit(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str()) return {};
  const std::string_view unit(end);
  if (unit.empty()) return value;
  if (unit == "K" || unit == "k") return value * 1e3;
  if (unit == "M") return value * 1e6;
  if (unit == "B" || unit == "G") return value * 1e9;
  if (unit == "T") return value * 1e12;
  return {};
}

std::string Shown(double value) {
  std::ostringstream out;
  out.precision(12);
  out << value;
  return out.str();
}

size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t cost = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, cost});
    }
  }
  return row.back();
}

// What `over` says goes before what is in `table`.
void LayOver(toml::table& table, const toml::table& over) {
  for (const auto& [key, value] : over) {
    toml::table* below = table[key].as_table();
    if (below != nullptr && value.is_table()) {
      LayOver(*below, *value.as_table());
    } else {
      table.insert_or_assign(key, value);
    }
  }
}

}  // namespace

std::string Nearest(std::string_view word, std::span<const std::string> candidates) {
  std::string best;
  size_t least = std::max<size_t>(2, word.size() / 2);
  for (const std::string& candidate : candidates) {
    const size_t distance = Distance(word, candidate);
    if (distance <= least) {
      least = distance - (distance > 0 ? 1 : 0);
      best = candidate;
    }
  }
  return best;
}

struct ConfigTable::Impl {
  std::shared_ptr<const toml::table> document;  // owns `table`
  std::vector<const toml::table*> layers;       // the first that has a key says what it is
  std::string file, path;                       // path: "stage.model" within the file
  std::set<std::string, std::less<>> asked;

  const toml::node* Find(std::string_view key) {
    asked.emplace(key);
    return Get(key);
  }
  const toml::node* Get(std::string_view key) const {
    for (const toml::table* table : layers) {
      if (const toml::node* node = table->get(key)) return node;
    }
    return nullptr;
  }
  // The tables of that name, from the first layer down to one that has something else there.
  std::vector<const toml::table*> Under(std::string_view key) const {
    std::vector<const toml::table*> found;
    for (const toml::table* table : layers) {
      const toml::node* node = table->get(key);
      if (node == nullptr) continue;
      if (!node->is_table()) break;
      found.push_back(node->as_table());
    }
    return found;
  }
};

ConfigTable::ConfigTable(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ConfigTable::ConfigTable(ConfigTable&&) noexcept = default;
ConfigTable& ConfigTable::operator=(ConfigTable&&) noexcept = default;
ConfigTable::~ConfigTable() = default;

const std::string& ConfigTable::file() const { return impl_->file; }

Result<ConfigTable> ConfigTable::Read(const std::string& path) {
  const std::string text = TRY(ReadFile(path, kMaxBytes));
  return Parse(text, path);
}

Result<ConfigTable> ConfigTable::Parse(std::string_view toml, const std::string& name) {
  toml::parse_result parsed = toml::parse(toml, name);
  if (!parsed) {
    const toml::parse_error& e = parsed.error();
    return Error{Code::kInvalid, name + ":" + std::to_string(e.source().begin.line) + ": " +
                                     std::string(e.description())};
  }
  auto impl = std::make_unique<Impl>();
  impl->document = std::make_shared<const toml::table>(std::move(parsed).table());
  impl->layers = {impl->document.get()};
  impl->file = name;
  return ConfigTable(std::move(impl));
}

Error ConfigTable::At(std::string_view key, std::string_view message) const {
  const toml::node* node = key.empty() ? nullptr : impl_->Get(key);
  const auto line = (node != nullptr ? *node : *impl_->layers.front()).source().begin.line;
  std::string text = impl_->file;
  if (line > 0) text.append(":").append(std::to_string(line));
  text.append(": ");
  std::string where = impl_->path;
  if (!key.empty()) where.append(where.empty() ? "" : ".").append(key);
  if (!where.empty()) text.append(where).append(": ");
  return {Code::kInvalid, text.append(message)};
}

bool ConfigTable::Has(std::string_view key) const { return impl_->Get(key) != nullptr; }

Status ConfigTable::Overlay(std::string_view key, bool use) {
  const toml::node* node = impl_->Find(key);
  if (node == nullptr) return {};
  if (!node->is_table()) return At(key, "wants a table");
  if (use) {
    const auto over = impl_->Under(key);
    impl_->layers.insert(impl_->layers.begin(), over.begin(), over.end());
  }
  return {};
}

void ConfigTable::Inherit(const ConfigTable& base) {
  impl_->layers.insert(impl_->layers.end(), base.impl_->layers.begin(), base.impl_->layers.end());
}

Result<double> ConfigTable::Number(std::string_view key, double low, double high,
                                   std::optional<double> fallback) {
  const toml::node* node = impl_->Find(key);
  if (node == nullptr) {
    if (fallback) return *fallback;
    return At(key, "missing; a number from " + Shown(low) + " to " + Shown(high) + " is needed");
  }
  std::optional<double> value;
  if (node->is_number()) {
    value = node->value<double>();
  } else if (node->is_string()) {
    value = WithUnit(*node->value<std::string>());
  }
  if (!value) {
    return At(key, "is " + std::string(TypeName(node->type())) +
                       ", wants a number, or one with a unit such as \"64K\" or \"1.5M\"");
  }
  if (!(*value >= low && *value <= high)) {
    return At(key, Shown(*value) + " is not within " + Shown(low) + " to " + Shown(high));
  }
  return *value;
}

Result<int64_t> ConfigTable::Integer(std::string_view key, int64_t low, int64_t high,
                                     std::optional<int64_t> fallback) {
  if (!Has(key) && fallback) {
    impl_->Find(key);
    return *fallback;
  }
  const double value = TRY(Number(key, static_cast<double>(low), static_cast<double>(high)));
  if (value != std::floor(value)) return At(key, Shown(value) + " is not a whole number");
  return static_cast<int64_t>(value);
}

Result<bool> ConfigTable::Flag(std::string_view key, std::optional<bool> fallback) {
  const toml::node* node = impl_->Find(key);
  if (node == nullptr) {
    if (fallback) return *fallback;
    return At(key, "missing; true or false is needed");
  }
  if (!node->is_boolean()) {
    return At(key, "is " + std::string(TypeName(node->type())) + ", wants true or false");
  }
  return *node->value<bool>();
}

Result<std::string> ConfigTable::Text(std::string_view key, std::optional<std::string> fallback) {
  const toml::node* node = impl_->Find(key);
  if (node == nullptr) {
    if (fallback) return *fallback;
    return At(key, "missing; a text is needed");
  }
  if (!node->is_string()) {
    return At(key, "is " + std::string(TypeName(node->type())) + ", wants text in quotes");
  }
  return *node->value<std::string>();
}

Result<size_t> ConfigTable::Choice(std::string_view key, std::span<const std::string_view> names,
                                   std::optional<size_t> fallback) {
  if (!Has(key) && fallback) {
    impl_->Find(key);
    return *fallback;
  }
  const std::string text = TRY(Text(key));
  std::string list;
  std::vector<std::string> all;
  for (size_t i = 0; i < names.size(); ++i) {
    if (text == names[i]) return i;
    all.emplace_back(names[i]);
    list.append(i == 0 ? "" : ", ").append(names[i]);
  }
  const std::string near = Nearest(text, all);
  return At(key, "\"" + text + "\" is none of " + list +
                     (near.empty() ? "" : "; did you mean \"" + near + "\"?"));
}

Result<std::vector<std::string>> ConfigTable::Texts(std::string_view key) {
  std::vector<std::string> out;
  const toml::node* node = impl_->Find(key);
  if (node == nullptr) return out;
  if (!node->is_array()) {
    return At(key, "is " + std::string(TypeName(node->type())) + ", wants a list of texts");
  }
  for (const toml::node& item : *node->as_array()) {
    if (!item.is_string()) return At(key, "holds something that is not text");
    out.push_back(*item.value<std::string>());
  }
  return out;
}

Result<std::vector<double>> ConfigTable::Numbers(std::string_view key) {
  std::vector<double> out;
  const toml::node* node = impl_->Find(key);
  if (node == nullptr) return out;
  if (!node->is_array()) {
    return At(key, "is " + std::string(TypeName(node->type())) + ", wants a list of numbers");
  }
  for (const toml::node& item : *node->as_array()) {
    if (!item.is_number()) return At(key, "holds something that is not a number");
    out.push_back(*item.value<double>());
  }
  return out;
}

Result<std::optional<ConfigTable>> ConfigTable::Table(std::string_view key) {
  const toml::node* node = impl_->Find(key);
  if (node == nullptr) return std::optional<ConfigTable>();
  if (!node->is_table()) {
    return At(key, "is " + std::string(TypeName(node->type())) + ", wants a table");
  }
  auto impl = std::make_unique<Impl>();
  impl->document = impl_->document;
  impl->layers = impl_->Under(key);
  impl->file = impl_->file;
  impl->path = impl_->path.empty() ? std::string(key) : impl_->path + "." + std::string(key);
  return std::optional<ConfigTable>(ConfigTable(std::move(impl)));
}

Result<std::vector<ConfigTable>> ConfigTable::Tables(std::string_view key) {
  std::vector<ConfigTable> out;
  const toml::node* node = impl_->Find(key);
  if (node == nullptr) return out;
  if (!node->is_array()) {
    return At(key, "is " + std::string(TypeName(node->type())) + ", wants tables: [[" +
                       std::string(key) + "]]");
  }
  for (const toml::node& item : *node->as_array()) {
    if (!item.is_table()) return At(key, "holds something that is not a table");
    auto impl = std::make_unique<Impl>();
    impl->document = impl_->document;
    impl->layers = {item.as_table()};
    impl->file = impl_->file;
    impl->path = std::string(key) + "[" + std::to_string(out.size()) + "]";
    out.push_back(ConfigTable(std::move(impl)));
  }
  return out;
}

std::string ConfigTable::ToJson() {
  for (const toml::table* table : impl_->layers) {
    for (const auto& [key, value] : *table) impl_->asked.emplace(key.str());
  }
  return Canonical();
}

std::string ConfigTable::Canonical() const {
  toml::table all;
  for (auto layer = impl_->layers.rbegin(); layer != impl_->layers.rend(); ++layer) {
    LayOver(all, **layer);
  }
  std::ostringstream out;
  out << toml::json_formatter(all);
  return out.str();
}

Status ConfigTable::Finish() const {
  for (const toml::table* table : impl_->layers) {
    for (const auto& [key, value] : *table) {
      if (impl_->asked.contains(key.str())) continue;
      std::vector<std::string> known(impl_->asked.begin(), impl_->asked.end());
      const std::string near = Nearest(key.str(), known);
      std::string list;
      for (const std::string& k : known) list.append(list.empty() ? "" : ", ").append(k);
      return At(key.str(), near.empty() ? "unknown key; known here: " + list
                                        : "unknown key; did you mean \"" + near + "\"?");
    }
  }
  return {};
}

}  // namespace hadal
