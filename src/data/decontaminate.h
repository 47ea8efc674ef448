// Finds training texts that hold an evaluation item.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal {

struct DecontaminateOptions {
  int words = 13;       // a shared run of so many words is a hit; punctuation and case do not count
  int characters = 50;  // in texts without spaces (Chinese): a shared run of so many letters; items
                        // shorter than a run must be met whole, and with at least min_words
  int min_words = 8;    // shorter items are not looked for
};

// Built from the evaluation texts, then read by any number of threads. Memory: about 24 bytes a
// word of the items.
class Decontaminator {
 public:
  explicit Decontaminator(const DecontaminateOptions& options = {});
  ~Decontaminator();
  Decontaminator(Decontaminator&&) noexcept;
  Decontaminator& operator=(Decontaminator&&) noexcept;

  // name: how reports call the item ("math500:17").
  void AddItem(std::string_view text, std::string name);
  // Every string of every row of a JSONL file (or the whole of a text file) becomes an item.
  Status AddFile(const std::string& path);
  int64_t items() const;

  struct Hit {
    int64_t item = 0;
    std::string name;   // of the item
    std::string words;  // the shared run, as it stands in the text
  };
  // The first hit in reading order.
  std::optional<Hit> Find(std::string_view text) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
