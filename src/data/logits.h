// Logit shards: what a teacher holds likely at each target of a token shard (data/shard.h). All
// numbers little-endian, sections 8-byte aligned.
//
//   offset  size
//        0     8  magic "HADALLGT"
//        8     4  version, 1
//       12     4  bytes of a token id: 2 (vocabulary up to 65,536) or 4
//       16     8  rows R
//       24     8  documents D of the token shard
//       32     8  tokens listed in a row: K, at most the vocabulary
//       40     8  vocabulary of the teacher; every id is below
//       48     8  tokens of a piece: where longer documents were cut
//       56     8  temperature of the probabilities, f64
//       64     8  checksum of the token shard (the one at its offset 112)
//       72    32  SHA-256 of the tokenizer (TokenizerHash)
//      104    32  SHA-256 of the teacher: its configuration and weights
//      136     8  bytes of a block: 1 MiB
//      144     8  offset of the checksums
//      152     8  bytes of the file
//      160     8  XXH64 (seed 0) of bytes [0, 160)
//      168    24  zero
//      192        document rows      u64 × (D + 1): rows before each document; the last is R
//                 rows               ids u16 or u32 × K, then log-probabilities f32 × K: the K most
//                                    likely tokens, likeliest first, ties by id, each with its
//                                    logarithm of softmax(logits / temperature) over the whole
//                                    vocabulary; zero-padded to 8 after the last
//                 checksums          u64 × blocks: XXH64 (seed 0) of each block of [192, checksums)
//                 last               u64: XXH64 (seed 0) of the header followed by the checksums
//
// A document of more tokens than a piece is cut into pieces, as the loader cuts it. Attention stays
// within a piece, so that a piece has the same rows however it is packed. A row belongs to each
// token with loss 1 but the first of a piece, in their order; it says what the teacher expects
// there from the tokens before it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "data/pack.h"
#include "data/shard.h"

namespace hadal {

// What all logit shards of a folder have in common.
struct LogitFacts {
  std::string tokenizer_hash, teacher_hash;  // 64 hex digits
  int64_t top_k = 0, vocab_size = 0, piece_tokens = 0;
  double temperature = 1;
  bool operator==(const LogitFacts&) const = default;
};

// The file of a token shard: FOLDER/<its checksum, 16 hex digits>.logits.
std::string LogitPath(const std::string& folder, const Shard& shard);

// Writes the file of one token shard, atomically.
class LogitWriter {
 public:
  // Reads the loss flags of all documents. The shard outlives it; facts.tokenizer_hash is its.
  static Result<LogitWriter> Create(const std::string& path, const Shard& shard,
                                    const LogitFacts& facts);
  LogitWriter(LogitWriter&&) noexcept;
  ~LogitWriter();
  int64_t rows() const;  // to be given
  // The next row, K of each; kNumeric when a log-probability is not finite.
  Status Add(std::span<const int32_t> ids, std::span<const float> log_probs);
  Status Finish();

 private:
  struct Impl;
  explicit LogitWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// One file, mapped. Not for several threads at once.
class LogitShard {
 public:
  static Result<LogitShard> Open(const std::string& path);
  LogitShard(LogitShard&&) noexcept;
  LogitShard& operator=(LogitShard&&) noexcept;
  ~LogitShard();

  const LogitFacts& facts() const;
  uint64_t shard() const;  // checksum of the token shard
  int64_t rows() const;
  int64_t documents() const;
  const std::string& path() const;

  // Rows [first, first + n) of a document, n = ids.size() / k: the k likeliest of each, k at most
  // K. kCorrupt when a checksum does not fit, the file was cut while open, a row is no list of
  // distinct ids with falling log-probabilities, or the document has no such rows.
  Status Read(int64_t document, int64_t first, int64_t k, std::span<int32_t> ids,
              std::span<float> log_probs) const;
  Status Verify() const;  // every row

 private:
  struct Impl;
  explicit LogitShard(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The logit shards of a folder.
class LogitSet {
 public:
  // kNotFound: there is none; kInvalid: their facts differ.
  static Result<LogitSet> Open(const std::string& folder);
  const LogitFacts& facts() const { return facts_; }
  // That every sequence a loader makes of the set has its rows here: same tokenizer, a file for
  // each token shard, documents cut in the same places. kInvalid or kNotFound otherwise.
  Status Check(const ShardSet& set, int64_t sequence_length) const;
  // The rows of the targets of a sequence, in order: k of each. kInvalid when its sources are
  // not those of the files.
  Status Read(const PackedSequence& sequence, int64_t k, std::vector<int32_t>* ids,
              std::vector<float>* log_probs) const;

 private:
  LogitSet() = default;
  std::string folder_;
  LogitFacts facts_;
  std::map<uint64_t, LogitShard> files_;  // by checksum of the token shard
};

}  // namespace hadal
