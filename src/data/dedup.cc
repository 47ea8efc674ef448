#include "data/dedup.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "data/words.h"

namespace hadal {
namespace {

using internal::Mix64;

struct Permutations {
  std::array<uint32_t, kPermutations> xored, factor;
  Permutations() {
    for (uint64_t i = 0; i < kPermutations; ++i) {
      const uint64_t word = Mix64((i + 1) * 0x9E3779B97F4A7C15ull);
      xored[i] = static_cast<uint32_t>(word);
      factor[i] = static_cast<uint32_t>(word >> 32) | 1;
    }
  }
};

// Odd factors permute 32-bit numbers. One source, two instruction sets: the plain x86-64 baseline
// has no 32-bit vector product.
[[gnu::always_inline]] inline void TakeMinimaBody(const uint32_t* groups, size_t count,
                                                  const Permutations& p, uint32_t* minima) {
  for (size_t g = 0; g < count; ++g) {
    const uint32_t x = groups[g];
    for (size_t i = 0; i < kPermutations; ++i) {
      const uint32_t y = (x ^ p.xored[i]) * p.factor[i];
      minima[i] = y < minima[i] ? y : minima[i];
    }
  }
}
#if defined(__x86_64__)
[[gnu::target("avx2")]] void TakeMinimaAvx2(const uint32_t* groups, size_t count,
                                            const Permutations& p, uint32_t* minima) {
  TakeMinimaBody(groups, count, p, minima);
}
#endif
void TakeMinima(const uint32_t* groups, size_t count, const Permutations& p, uint32_t* minima) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return TakeMinimaAvx2(groups, count, p, minima);
#endif
  TakeMinimaBody(groups, count, p, minima);
}

constexpr uint32_t kNone = ~uint32_t{0};
constexpr int kMaxCompared =
    256;  // candidates a band, newest first: bounds the cost of boilerplate

}  // namespace

ContentHash HashContent(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {hash.low64, hash.high64};
}

ExactIndex::ExactIndex() : slots_(1024) {}
ExactIndex::~ExactIndex() = default;
ExactIndex::ExactIndex(ExactIndex&&) noexcept = default;

int64_t ExactIndex::size() const { return size_; }

void ExactIndex::Grow() {
  std::vector<ContentHash> old(slots_.size() * 2);
  old.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const ContentHash& hash : old) {
    if (hash == ContentHash{}) continue;
    size_t slot = hash.low & mask;
    while (slots_[slot] != ContentHash{}) slot = (slot + 1) & mask;
    slots_[slot] = hash;
  }
}

bool ExactIndex::Insert(const ContentHash& hash) {
  if (hash == ContentHash{}) {  // marks empty slots
    const bool fresh = !has_zero_;
    has_zero_ = true;
    size_ += fresh;
    return fresh;
  }
  if (2 * static_cast<size_t>(size_ + 1) > slots_.size()) Grow();
  const size_t mask = slots_.size() - 1;
  size_t slot = hash.low & mask;
  while (slots_[slot] != ContentHash{}) {
    if (slots_[slot] == hash) return false;
    slot = (slot + 1) & mask;
  }
  slots_[slot] = hash;
  ++size_;
  return true;
}

Signature MinHash(std::string_view text, int words) {
  CHECK(words >= 1);
  static const Permutations permutations;
  std::vector<internal::Word> list;
  internal::SplitWords(text, &list);
  const size_t n = std::min(static_cast<size_t>(words), std::max<size_t>(list.size(), 1));
  std::vector<uint32_t> groups;
  for (size_t i = 0; i + n <= std::max(list.size(), n); ++i) {
    uint64_t hash = 0;
    for (size_t k = i; k < std::min(i + n, list.size()); ++k) {
      hash = (hash + list[k].hash) * 0x9E3779B97F4A7C15ull;
    }
    groups.push_back(static_cast<uint32_t>(Mix64(hash)));
  }
  Signature minima;
  minima.fill(~uint32_t{0});
  TakeMinima(groups.data(), groups.size(), permutations, minima.data());
  return minima;
}

double Similarity(const Signature& a, const Signature& b) {
  int equal = 0;
  for (size_t i = 0; i < kPermutations; ++i) equal += a[i] == b[i];
  return static_cast<double>(equal) / kPermutations;
}

// Signatures lie in a ring. Each band has a table of chains through the signatures, newest first.
struct NearIndex::Impl {
  NearOptions options;
  std::vector<Signature> ring;
  std::vector<uint32_t> next;   // [slot][band]
  std::vector<uint32_t> heads;  // [band][bucket]
  size_t buckets = 1024;
  int64_t inserted = 0, forgotten = 0;

  size_t bands() const { return static_cast<size_t>(options.bands); }
  const uint32_t* Band(const Signature& s, size_t band) const {
    return s.data() + band * static_cast<size_t>(options.rows);
  }
  size_t RowBytes() const { return static_cast<size_t>(options.rows) * 4; }
  uint32_t& Head(const Signature& s, size_t band) {
    const uint64_t hash = XXH3_64bits(Band(s, band), RowBytes());
    return heads[band * buckets + (hash & (buckets - 1))];
  }
  void Link(uint32_t slot) {
    for (size_t b = 0; b < bands(); ++b) {
      uint32_t& head = Head(ring[slot], b);
      next[slot * bands() + b] = head;
      head = slot;
    }
  }
  void Unlink(uint32_t slot) {
    for (size_t b = 0; b < bands(); ++b) {
      uint32_t* at = &Head(ring[slot], b);
      while (*at != slot) at = &next[*at * bands() + b];
      *at = next[slot * bands() + b];
    }
  }
  // The number of the signature in a slot: the newest is inserted - 1, at the end of the ring.
  int64_t NumberOf(uint32_t slot) const {
    const auto size = static_cast<int64_t>(ring.size());
    const int64_t turn = (inserted - 1 - slot) / size;
    return turn * size + slot;
  }
  void Grow();
};

void NearIndex::Impl::Grow() {
  buckets *= 2;
  heads.assign(bands() * buckets, kNone);
  const auto size = static_cast<int64_t>(ring.size());
  for (int64_t n = inserted - size; n < inserted; ++n) Link(static_cast<uint32_t>(n % size));
}

NearIndex::NearIndex(const NearOptions& options) : impl_(std::make_unique<Impl>()) {
  CHECK(options.bands >= 1 && options.rows >= 1 && options.bands * options.rows <= kPermutations);
  CHECK(options.max_documents >= 1 && options.max_documents < int64_t{kNone});
  impl_->options = options;
  impl_->heads.assign(impl_->bands() * impl_->buckets, kNone);
}
NearIndex::~NearIndex() = default;
NearIndex::NearIndex(NearIndex&&) noexcept = default;

int64_t NearIndex::size() const { return impl_->inserted; }
int64_t NearIndex::forgotten() const { return impl_->forgotten; }

std::optional<int64_t> NearIndex::Insert(const Signature& signature) {
  Impl& impl = *impl_;
  std::optional<int64_t> oldest;
  for (size_t b = 0; b < impl.bands(); ++b) {
    uint32_t slot = impl.Head(signature, b);
    for (int compared = 0; slot != kNone && compared < kMaxCompared;
         slot = impl.next[slot * impl.bands() + b]) {
      const Signature& other = impl.ring[slot];
      if (std::memcmp(impl.Band(other, b), impl.Band(signature, b), impl.RowBytes()) != 0) continue;
      ++compared;
      if (Similarity(signature, other) < impl.options.threshold) continue;
      oldest = std::min(oldest.value_or(INT64_MAX), impl.NumberOf(slot));
    }
  }
  if (oldest) return oldest;
  auto slot = static_cast<uint32_t>(impl.ring.size());
  if (static_cast<int64_t>(impl.ring.size()) == impl.options.max_documents) {
    slot = static_cast<uint32_t>(impl.inserted % impl.options.max_documents);
    impl.Unlink(slot);
    impl.ring[slot] = signature;
    ++impl.forgotten;
  } else {
    impl.ring.push_back(signature);
    impl.next.resize(impl.ring.size() * impl.bands());
  }
  ++impl.inserted;
  impl.Link(slot);
  if (impl.ring.size() > impl.buckets) impl.Grow();
  return std::nullopt;
}

}  // namespace hadal
