// The endless stream of training sequences, the same for whoever asks, resumable from a cursor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/pack.h"

namespace hadal {

struct WeightedSet {
  std::string path;   // a folder of shards or one shard
  double weight = 1;  // share of tokens, relative to the other sets
};

struct LoaderOptions {
  std::vector<WeightedSet> sets;
  int64_t sequence_length = 0;      // T, at least 2
  uint64_t seed = 0;                // of the shuffle; each epoch of each set has its own order
  bool shuffle = true;              // false: documents in the order of the shards
  bool once = false;                // one pass over every set, then the end (evaluation)
  int64_t window_sequences = 256;   // packed together: more fill better and hold more in memory
  std::string tokenizer_hash = {};  // when given, shards of another tokenizer are refused
};

// Where a stream stands: which documents opened the current window, and how many of the window's
// sequences were given out. Small whatever the data.
struct Cursor {
  struct Set {
    int64_t epoch = 0;     // whole passes done
    int64_t position = 0;  // documents of this pass given to windows
    int64_t tokens = 0;    // in all passes
    bool operator==(const Set&) const = default;
  };
  std::vector<Set> sets;
  int64_t sequence = 0;   // of the window, next to be given out
  int64_t sequences = 0;  // ever given out
  uint64_t stream = 0;    // hash of what decides the stream: options and contents of the sets
  bool operator==(const Cursor&) const = default;

  std::string ToJson() const;
  static Result<Cursor> FromJson(std::string_view text);
};

// The stream: the next document comes from the set that is furthest behind its share; documents
// fill a window of window_sequences * T tokens, longer ones cut into pieces of T; the window is
// packed best-fit and its sequences shuffled. Sequences without a target are left out.
// Every rank of a data-parallel run opens the same stream and takes its own rows of each global
// batch, so the batches do not depend on the number of ranks.
class Loader {
 public:
  // kInvalid: no set, a weight that is not positive, nothing to learn from (no target at all), sets
  // of different tokenizers. Paths open with the errors of ShardSet.
  static Result<Loader> Open(const LoaderOptions& options);
  Loader(Loader&&) noexcept;
  Loader& operator=(Loader&&) noexcept;
  ~Loader();

  // The next `count` sequences; fewer, then none, at the end of a stream that runs once.
  Result<std::vector<PackedSequence>> Next(int64_t count);

  Cursor cursor() const;
  // Continues at the cursor. kInvalid when it belongs to another stream.
  Status Seek(const Cursor& cursor);

  int64_t tokens() const;     // of all sets, one pass
  int64_t documents() const;  // of all sets, one pass
  int64_t vocab_size() const;
  const std::string& tokenizer_hash() const;
  // Whole and fractional passes over set i so far.
  double epochs(int64_t set) const;

 private:
  struct Impl;
  explicit Loader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
