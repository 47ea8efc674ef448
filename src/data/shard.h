// Token shards: the files that training reads. All numbers little-endian, sections 8-byte aligned.
//
//   offset  size
//        0     8  magic "HADALSHD"
//        8     4  version, 1
//       12     4  bytes of a token id: 2 (vocabulary up to 65,536) or 4
//       16     8  tokens N
//       24     8  documents D
//       32     8  loss runs R
//       40     8  targets: tokens with loss 1, the first of each document not counted
//       48     8  vocabulary size; every id is below
//       56    32  SHA-256 of the tokenizer (TokenizerHash)
//       88     8  bytes of a block: 1 MiB
//       96     8  offset of the checksums
//      104     8  bytes of the file
//      112     8  XXH64 (seed 0) of bytes [0, 112) followed by the checksums
//      120     8  zero
//      128        ids                u16 or u32 × N, zero-padded to 8
//                 document starts    u64 × (D + 1); the last is N; no document is empty
//                 loss runs          u64 × R: token positions where the loss flag flips, rising. It
//                                    is 0 before the first; {0} is a shard of targets only
//                 checksums          u64 × blocks: XXH64 (seed 0) of each block of [128, checksums)
//
// A reader checks header and sizes when it opens a file, the blocks that hold starts and runs too,
// and each block of ids when it is first read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

// SHA-256 (64 hex digits) of what decides ids: tokens and merges. The same for tokenizer.json and
// GGUF of one vocabulary.
std::string TokenizerHash(const Tokenizer& tokenizer);

struct ShardOptions {
  std::string folder;          // made when absent; must hold no shard yet
  std::string tokenizer_hash;  // TokenizerHash
  int64_t vocab_size = 0;
  int64_t shard_tokens = 16ll << 20;  // a shard ends at the first document end past this
};

// Writes FOLDER/00000.shard, 00001.shard, …, each atomically. Holds one shard in memory.
class ShardWriter {
 public:
  static Result<ShardWriter> Create(const ShardOptions& options);
  // An empty document is ignored. loss: one flag a token, or empty: all 1. kInvalid for an id
  // outside the vocabulary.
  Status Add(std::span<const TokenId> ids, std::span<const uint8_t> loss = {});
  // Writes the last shard. kInvalid when no document was added at all.
  Status Finish();
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return documents_; }
  int64_t targets() const { return targets_; }
  int64_t shards() const { return shards_; }

 private:
  explicit ShardWriter(ShardOptions options) : options_(std::move(options)) {}
  Status WriteShard();
  ShardOptions options_;
  std::vector<TokenId> ids_;
  std::vector<uint64_t> starts_, runs_;
  bool loss_ = false;  // the flag of the last token
  int64_t shard_targets_ = 0;
  int64_t tokens_ = 0, documents_ = 0, targets_ = 0, shards_ = 0;
};

// One shard, mapped. Not for several threads at once.
class Shard {
 public:
  static Result<Shard> Open(const std::string& path);
  Shard(Shard&&) noexcept;
  Shard& operator=(Shard&&) noexcept;
  ~Shard();

  int64_t tokens() const;
  int64_t documents() const;
  int64_t targets() const;
  int64_t vocab_size() const;
  uint64_t checksum() const;  // the one that closes the header: it names the contents
  const std::string& tokenizer_hash() const;
  const std::string& path() const;
  int64_t length(int64_t document) const;  // tokens

  // Appends the document's ids and loss flags (the first is always 0: nothing stands before it).
  // kCorrupt when a checksum does not fit or the file was cut while open.
  Status Read(int64_t document, std::vector<int32_t>* ids, std::vector<uint8_t>* loss) const;
  // Every block's checksum, every id.
  Status Verify() const;

 private:
  struct Impl;
  explicit Shard(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The shards of a folder in the order of names (or one file), as one list of documents.
class ShardSet {
 public:
  // tokenizer_hash: when given, shards of another tokenizer are refused.
  static Result<ShardSet> Open(const std::string& path, const std::string& tokenizer_hash = {});
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return first_.back(); }
  int64_t targets() const { return targets_; }
  int64_t vocab_size() const { return shards_.front().vocab_size(); }
  const std::string& tokenizer_hash() const { return shards_.front().tokenizer_hash(); }
  const std::string& path() const { return path_; }
  std::span<const Shard> shards() const { return shards_; }
  // The shard that holds a document, and the document's number there.
  std::pair<const Shard*, int64_t> Locate(int64_t document) const;
  int64_t length(int64_t document) const;
  Status Read(int64_t document, std::vector<int32_t>* ids, std::vector<uint8_t>* loss) const;
  Status Verify() const;

 private:
  ShardSet() = default;
  std::string path_;
  std::vector<Shard> shards_;
  std::vector<int64_t> first_ = {0};  // documents before each shard, and all
  int64_t tokens_ = 0, targets_ = 0;
};

}  // namespace hadal
