#include "data/decontaminate.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "data/source.h"
#include "data/words.h"

namespace hadal {
namespace {

using internal::Word;
using nlohmann::json;

constexpr uint64_t kBase = 0x9E3779B97F4A7C15ull;

// Hashes of all runs of words: that of [i, i + n) is sums[i + n] - sums[i] * kBase^n.
struct Runs {
  std::vector<Word> words;
  std::vector<uint64_t> sums = {0};
  std::vector<uint32_t> ideographs = {0};  // before each word

  explicit Runs(std::string_view text) {
    internal::SplitWords(text, &words);
    for (const Word& w : words) {
      sums.push_back(sums.back() * kBase + w.hash);
      ideographs.push_back(ideographs.back() + w.ideograph);
    }
  }
  bool has_ideographs() const { return ideographs.back() > 0; }
  uint64_t Hash(size_t i, size_t n, uint64_t power) const { return sums[i + n] - sums[i] * power; }
  bool HasIdeographs(size_t i, size_t n) const { return ideographs[i + n] > ideographs[i]; }
};

uint64_t Power(size_t n) {
  uint64_t power = 1;
  for (size_t i = 0; i < n; ++i) power *= kBase;
  return power;
}

// Strings in a JSON value, however deep it is nested.
struct StringReader : nlohmann::json_sax<json> {
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool string(string_t& value) override {
    strings.push_back(std::move(value));
    return true;
  }
  bool start_object(size_t) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool key(string_t&) override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }
  std::vector<std::string> strings;
};

}  // namespace

struct Decontaminator::Impl {
  DecontaminateOptions options;
  // Run lengths in use, each with its table from hash to the first item; words and ideographs
  // apart.
  struct Table {
    uint64_t power;
    std::unordered_map<uint64_t, uint32_t> items;
  };
  std::map<size_t, Table> by_words, by_characters;
  std::vector<uint64_t> filter = std::vector<uint64_t>(1 << 14);  // 2^20 bits over all hashes
  std::vector<std::string> names;

  bool MayHold(uint64_t hash) const { return (filter[hash >> 50] >> (hash >> 44 & 63) & 1) != 0; }
  void Add(std::map<size_t, Table>* tables, size_t n, uint64_t hash, uint32_t item) {
    auto [at, added] = tables->try_emplace(n);
    if (added) at->second.power = Power(n);
    at->second.items.emplace(hash, item);
    filter[hash >> 50] |= uint64_t{1} << (hash >> 44 & 63);
  }
};

Decontaminator::Decontaminator(const DecontaminateOptions& options)
    : impl_(std::make_unique<Impl>()) {
  CHECK(options.words >= 1 && options.characters >= 1 && options.min_words >= 1);
  impl_->options = options;
}
Decontaminator::~Decontaminator() = default;
Decontaminator::Decontaminator(Decontaminator&&) noexcept = default;
Decontaminator& Decontaminator::operator=(Decontaminator&&) noexcept = default;

int64_t Decontaminator::items() const { return static_cast<int64_t>(impl_->names.size()); }

void Decontaminator::AddItem(std::string_view text, std::string name) {
  Impl& impl = *impl_;
  const Runs runs(text);
  const bool characters = runs.has_ideographs();
  const auto full = static_cast<size_t>(characters ? impl.options.characters : impl.options.words);
  // A Chinese character is about half a word.
  const auto least = static_cast<size_t>(impl.options.min_words) * (characters ? 2 : 1);
  const size_t n = std::min(full, runs.words.size());
  if (n < std::min(least, full)) return;
  const auto item = static_cast<uint32_t>(impl.names.size());
  impl.names.push_back(std::move(name));
  const uint64_t power = Power(n);
  for (size_t i = 0; i + n <= runs.words.size(); ++i) {
    const bool mixed = runs.HasIdeographs(i, n);
    // Of an item with Chinese in it, runs of 50 may be words alone: their own length finds those.
    impl.Add(mixed ? &impl.by_characters : &impl.by_words, n, runs.Hash(i, n, power), item);
  }
}

Status Decontaminator::AddFile(const std::string& path) {
  auto lines = TRY(LineSource::Open(path));
  const std::string stem = path.substr(path.find_last_of('/') + 1);
  const bool rows = path.find(".jsonl") != std::string::npos;
  std::string line, whole;
  const int64_t before = items();
  while (TRY(lines.Next(&line))) {
    if (!rows) {
      whole += line + "\n";
      continue;
    }
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const std::string name = stem + ":" + std::to_string(lines.line_number());
    StringReader reader;
    if (!json::sax_parse(line, &reader)) {
      return Error{Code::kInvalid, path + ":" + std::to_string(lines.line_number()) +
                                       ": no JSON: every line must be one JSON value"};
    }
    for (const std::string& text : reader.strings) AddItem(text, name);
  }
  if (!rows) AddItem(whole, stem);
  if (items() == before) {
    return Error{Code::kInvalid, path + ": no text of at least " +
                                     std::to_string(impl_->options.min_words) +
                                     " words to decontaminate against"};
  }
  return {};
}

std::optional<Decontaminator::Hit> Decontaminator::Find(std::string_view text) const {
  const Impl& impl = *impl_;
  if (impl.names.empty()) return std::nullopt;
  const Runs runs(text);
  std::optional<Hit> best;
  size_t best_at = SIZE_MAX;
  const auto search = [&](const std::map<size_t, Impl::Table>& tables, bool ideographs) {
    for (const auto& [n, table] : tables) {
      for (size_t i = 0; i + n <= runs.words.size() && i < best_at; ++i) {
        const uint64_t hash = runs.Hash(i, n, table.power);
        if (!impl.MayHold(hash) || runs.HasIdeographs(i, n) != ideographs) continue;
        const auto found = table.items.find(hash);
        if (found == table.items.end()) continue;
        const Word& last = runs.words[i + n - 1];
        const uint32_t begin = runs.words[i].begin;
        best_at = i;
        best = Hit{found->second, impl.names[found->second],
                   std::string(text.substr(begin, last.begin + last.size - begin))};
        break;
      }
    }
  };
  search(impl.by_words, false);
  if (runs.has_ideographs()) search(impl.by_characters, true);
  return best;
}

}  // namespace hadal
