// What the mapped formats of this module share: checksums of blocks, hashes as hex.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace hadal::internal {

inline constexpr uint64_t kShardBlock = 1 << 20;

inline uint64_t Padded(uint64_t bytes) { return (bytes + 7) / 8 * 8; }
inline uint64_t Blocks(uint64_t bytes) { return (bytes + kShardBlock - 1) / kShardBlock; }

Error BadShard(const std::string& path, const std::string& what);  // kCorrupt
bool FromHex(std::string_view hex, uint8_t* out);                  // 64 digits, 32 bytes
std::string ToHex(const uint8_t* bytes);
// The paths in a folder that end in `extension`, in the order of names.
std::vector<std::string> FilesOf(const std::string& folder, std::string_view extension);

// Bytes [begin, end) of a mapped file, whose XXH64 block by block stand from `end` on. A block is
// looked at when its first byte is wanted.
class CheckedBlocks {
 public:
  CheckedBlocks() = default;
  CheckedBlocks(uint64_t begin, uint64_t end)
      : begin_(begin), end_(end), checked_(Blocks(end - begin)) {}
  // kCorrupt when a block that holds any of [from, to) does not fit, or the file was cut.
  Status Check(const MappedFile& file, uint64_t from, uint64_t to);

 private:
  uint64_t begin_ = 0, end_ = 0;
  std::vector<bool> checked_;
};

}  // namespace hadal::internal
