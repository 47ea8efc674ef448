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

// As memcmp(a, b, n) == 0, without the call for the short strings that tokens are.
inline bool EqualBytes(const char* a, const char* b, size_t n) {
  const auto same8 = [&](size_t at) {
    uint64_t x, y;
    std::memcpy(&x, a + at, 8);
    std::memcpy(&y, b + at, 8);
    return x == y;
  };
  if (n >= 8) {
    if (n > 32) return std::memcmp(a, b, n) == 0;
    bool same = same8(0) && same8(n - 8);
    if (n > 16) same = same && same8(8) && same8(n - 16);
    return same;
  }
  if (n >= 4) {
    uint32_t x[2], y[2];
    std::memcpy(&x[0], a, 4);
    std::memcpy(&y[0], b, 4);
    std::memcpy(&x[1], a + n - 4, 4);
    std::memcpy(&y[1], b + n - 4, 4);
    return x[0] == y[0] && x[1] == y[1];
  }
  return n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
}

// Byte strings to ids. The first insertion of a key wins.
class StringTable {
 public:
  explicit StringTable(size_t expected = 0) {
    Grow(expected * 2);
    arena_.reserve(expected * 8);
  }

  void Insert(std::string_view key, TokenId id) {
    if ((count_ + 1) * 2 > slots_.size()) Grow(slots_.size() * 2);
    const uint64_t hash = HashBytes(key, seed_);
    Slot& slot = slots_[SlotOf(key, hash)];
    if (slot.id >= 0) return;
    slot = {hash, arena_.size(), static_cast<uint32_t>(key.size()), id};
    arena_.append(key);
    ++count_;
  }
  // -1 when absent.
  TokenId Find(std::string_view key) const { return slots_[SlotOf(key, HashBytes(key, seed_))].id; }
  size_t size() const { return count_; }

 private:
  struct Slot {
    uint64_t hash = 0;
    uint64_t offset = 0;
    uint32_t size = 0;
    TokenId id = -1;
  };
  // Where key is or would be put.
  size_t SlotOf(std::string_view key, uint64_t hash) const {
    size_t i = hash & mask_;
    for (; slots_[i].id >= 0; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.hash == hash && slot.size == key.size() &&
          EqualBytes(arena_.data() + slot.offset, key.data(), key.size())) {
        break;
      }
    }
    return i;
  }
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

  void Reserve(size_t expected) {
    if (expected * 2 > slots_.size()) Grow(expected * 2);
  }
  bool Insert(TokenId left, TokenId right, Merge merge) {
    if ((count_ + 1) * 2 > slots_.size()) Grow(slots_.size() * 2);
    const uint64_t key = Key(left, right);
    size_t i = MixHash(key, seed_) & mask_;
    for (; slots_[i].merge.id >= 0; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return false;
    }
    slots_[i] = {key, merge};
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
