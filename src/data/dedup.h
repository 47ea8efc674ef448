// Exact and near duplicates. The first of equals is kept, so results depend on the order of
// documents alone.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace hadal {

struct ContentHash {
  uint64_t low = 0, high = 0;
  bool operator==(const ContentHash&) const = default;
};
// xxhash (XXH3, 128 bits) of a text.
ContentHash HashContent(std::string_view text);

// A set of content hashes: 16 bytes each at a load of at most 1/2, so at most 64 bytes a document.
class ExactIndex {
 public:
  ExactIndex();
  ~ExactIndex();
  ExactIndex(ExactIndex&&) noexcept;
  // False when it was there already.
  bool Insert(const ContentHash& hash);
  int64_t size() const;

 private:
  void Grow();
  std::vector<ContentHash> slots_;
  int64_t size_ = 0;
  bool has_zero_ = false;
};

// 128 independent hash functions' minima over the text's groups of 5 words (characters of Chinese
// count as words, letter case does not); a shorter text is one group.
inline constexpr int kPermutations = 128;
using Signature = std::array<uint32_t, kPermutations>;
Signature MinHash(std::string_view text, int words = 5);
// The share of equal minima: an estimate of the Jaccard similarity, standard error <= 0.045.
double Similarity(const Signature& a, const Signature& b);

struct NearOptions {
  int bands = 16, rows = 8;         // bands * rows <= 128; found with 1 - (1 - s^rows)^bands
  double threshold = 0.75;          // of Similarity between the new text and a candidate
  int64_t max_documents = 1 << 20;  // remembered, about 0.8 kB each; the oldest is forgotten
};

// Locality-sensitive hashing: signatures whose 8 minima of any one band agree are compared.
class NearIndex {
 public:
  explicit NearIndex(const NearOptions& options = {});
  ~NearIndex();
  NearIndex(NearIndex&&) noexcept;
  // The number (0, 1, … in order of calls that kept) of an earlier near duplicate, the oldest one;
  // nullopt: none, and the signature is remembered.
  std::optional<int64_t> Insert(const Signature& signature);
  int64_t size() const;       // ever remembered
  int64_t forgotten() const;  // of these

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
