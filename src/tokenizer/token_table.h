// Hash tables of the encoders: built once, then read by many threads.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace hadal::internal {

inline uint64_t MixHash(uint64_t a, uint64_t b) {
  const unsigned __int128 product =
      static_cast<unsigned __int128>(a ^ 0x9E3779B97F4A7C15ull) * (b ^ 0xD6E8FEB86659FD93ull);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// A seed that files cannot know, so that none can be made whose keys all collide.
inline uint64_t HashSeed() {
  static const uint64_t seed = [] {
    std::random_device device;
    return (uint64_t{device()} << 32) | device();
  }();
  return seed;
}

inline uint64_t HashBytes(std::string_view bytes, uint64_t seed) {
  const char* p = bytes.data();
  size_t n = bytes.size();
  uint64_t hash = seed ^ n;
  uint64_t a = 0, b = 0;
  while (n > 16) {
    std::memcpy(&a, p, 8);
    std::memcpy(&b, p + 8, 8);
    hash = MixHash(hash ^ a, b ^ seed);
    p += 16;
    n -= 16;
  }
  a = b = 0;
  if (n >= 8) {
    std::memcpy(&a, p, 8);
    std::memcpy(&b, p + n - 8, 8);
  } else if (n >= 4) {
    uint32_t low, high;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + n - 4, 4);
    a = uint64_t{low} << 32 | high;
  } else if (n > 0) {
    a = static_cast<uint64_t>(static_cast<unsigned char>(p[0])) << 16 |
        static_cast<uint64_t>(static_cast<unsigned char>(p[n / 2])) << 8 |
        static_cast<unsigned char>(p[n - 1]);
  }
  return MixHash(hash ^ a, b ^ seed);
}

// Byte strings to ids. The first insertion of a key wins.
class StringTable {
 public:
  explicit StringTable(size_t expected = 0) { Grow(expected * 2); }

  void Insert(std::string_view key, TokenId id) {
    if (Find(key) >= 0) return;
    if ((count_ + 1) * 2 > slots_.size()) Grow(slots_.size() * 2);
    const uint64_t hash = HashBytes(key, seed_);
    const uint64_t offset = arena_.size();
    arena_.append(key);
    Place({hash, offset, static_cast<uint32_t>(key.size()), id});
    ++count_;
  }
  // -1 when absent.
  TokenId Find(std::string_view key) const {
    const uint64_t hash = HashBytes(key, seed_);
    for (size_t i = hash & mask_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.id < 0) return -1;
      if (slot.hash == hash && slot.size == key.size() &&
          std::memcmp(arena_.data() + slot.offset, key.data(), key.size()) == 0) {
        return slot.id;
      }
    }
  }
  size_t size() const { return count_; }

 private:
  struct Slot {
    uint64_t hash = 0;
    uint64_t offset = 0;
    uint32_t size = 0;
    TokenId id = -1;
  };
  void Grow(size_t wanted) {
    size_t size = 16;
    while (size < wanted) size *= 2;
    std::vector<Slot> old(size);
    old.swap(slots_);
    mask_ = size - 1;
    for (const Slot& slot : old) {
      if (slot.id >= 0) Place(slot);
    }
  }
  void Place(const Slot& slot) {
    size_t i = slot.hash & mask_;
    while (slots_[i].id >= 0) i = (i + 1) & mask_;
    slots_[i] = slot;
  }
  uint64_t seed_ = HashSeed();
  std::string arena_;
  std::vector<Slot> slots_;
  size_t mask_ = 0;
  size_t count_ = 0;
};

// Pairs of adjacent symbols to their merge. The first insertion of a key wins.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank = UINT32_MAX;
    TokenId id = -1;  // of the result; negative: no such merge
  };
  explicit MergeTable(size_t expected = 0) { Grow(expected * 2); }

  bool Insert(TokenId left, TokenId right, Merge merge) {
    if (Find(left, right).id >= 0) return false;
    if ((count_ + 1) * 2 > slots_.size()) Grow(slots_.size() * 2);
    Place({Key(left, right), merge});
    ++count_;
    return true;
  }
  Merge Find(TokenId left, TokenId right) const {
    const uint64_t key = Key(left, right);
    for (size_t i = MixHash(key, seed_) & mask_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.key == key || slot.merge.id < 0) return slot.merge;
    }
  }
  size_t size() const { return count_; }

 private:
  struct Slot {
    uint64_t key = ~uint64_t{0};
    Merge merge;
  };
  static uint64_t Key(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  void Grow(size_t wanted) {
    size_t size = 16;
    while (size < wanted) size *= 2;
    std::vector<Slot> old(size);
    old.swap(slots_);
    mask_ = size - 1;
    for (const Slot& slot : old) {
      if (slot.merge.id >= 0) Place(slot);
    }
  }
  void Place(const Slot& slot) {
    size_t i = MixHash(slot.key, seed_) & mask_;
    while (slots_[i].merge.id >= 0) i = (i + 1) & mask_;
    slots_[i] = slot;
  }
  uint64_t seed_ = HashSeed();
  std::vector<Slot> slots_;
  size_t mask_ = 0;
  size_t count_ = 0;
};

}  // namespace hadal::internal
