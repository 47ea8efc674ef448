// What building from documents and from conversations share: two sides, and nothing left on errors.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/build.h"
#include "data/shard.h"

namespace hadal::internal {

// Shards of OUTPUT/train and OUTPUT/validation. Destroyed before Finish succeeded it removes what
// it wrote.
class SplitWriter {
 public:
  static Result<SplitWriter> Create(const Tokenizer& tokenizer, const std::string& output,
                                    double validation, int64_t shard_tokens);
  SplitWriter(SplitWriter&&) noexcept = default;
  ~SplitWriter();

  Status Add(bool validation, std::span<const TokenId> ids, std::span<const uint8_t> loss = {});
  Status Finish(BuildReport* report);

 private:
  struct Side {
    std::string folder;
    bool made = false;  // by us
    std::optional<ShardWriter> writer;
  };
  SplitWriter() = default;
  Status Open(Side* side, const Tokenizer& tokenizer, int64_t shard_tokens);
  std::string output_;
  bool made_output_ = false;
  double share_ = 0;
  std::vector<Side> sides_;  // train, then validation where wanted
};

// Counts by name, most first; equals by name.
std::vector<std::pair<std::string, int64_t>> MostFirst(
    const std::map<std::string, int64_t>& counts);

}  // namespace hadal::internal
