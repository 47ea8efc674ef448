#include "infer/prefix_cache.h"

#include <algorithm>
#include <bit>
#include <random>
#include <utility>

#include "base/check.h"

namespace hadal {

PrefixCache::PrefixCache(int64_t blocks)
    : nodes_(static_cast<size_t>(blocks)),
      buckets_(std::bit_ceil(static_cast<size_t>(blocks) + 1), -1),
      // Only the place of a node depends on it; a client cannot aim at one long chain.
      salt_((uint64_t{std::random_device{}()} << 32) | std::random_device{}()) {
  free_.reserve(nodes_.size());
  leaves_.reserve(nodes_.size());
  for (int64_t b = blocks - 1; b >= 0; --b) free_.push_back(static_cast<int32_t>(b));
}

int32_t PrefixCache::Allocate() {
  if (free_.empty()) {
    if (leaves_.empty()) return -1;
    Evict(leaves_.front());
  }
  const int32_t block = free_.back();
  free_.pop_back();
  node(block).state = State::kOwned;
  return block;
}

void PrefixCache::Free(int32_t block) {
  CHECK(node(block).state == State::kOwned);
  node(block).state = State::kFree;
  free_.push_back(block);
}

size_t PrefixCache::Bucket(int32_t parent, std::span<const int32_t> tokens) const {
  uint64_t h = salt_ ^ static_cast<uint32_t>(parent);
  for (const int32_t id : tokens) {
    h = (h ^ static_cast<uint32_t>(id)) * 0x9E3779B97F4A7C15ull;
    h ^= h >> 32;
  }
  return h & (buckets_.size() - 1);
}

int32_t PrefixCache::Lookup(int32_t parent, std::span<const int32_t> tokens) const {
  CHECK(tokens.size() == kKvBlock);
  int32_t at = buckets_[Bucket(parent, tokens)];
  while (at >= 0 && !(node(at).parent == parent && std::ranges::equal(node(at).tokens, tokens))) {
    at = node(at).next;
  }
  return at;
}

void PrefixCache::Acquire(int32_t block) {
  Node& n = node(block);
  if (n.references++ > 0) return;
  --unreferenced_;
  if (n.place >= 0) RemoveLeaf(block);
}

int32_t PrefixCache::Find(int32_t parent, std::span<const int32_t> tokens) {
  const int32_t block = Lookup(parent, tokens);
  if (block >= 0) Acquire(block);
  return block;
}

int32_t PrefixCache::Publish(int32_t parent, std::span<const int32_t> tokens, int32_t block) {
  CHECK(node(block).state == State::kOwned);
  CHECK(parent == kRoot || node(parent).references > 0);
  if (const int32_t known = Find(parent, tokens); known >= 0) {
    Free(block);
    return known;
  }
  Node& n = node(block);
  n.state = State::kCached;
  std::ranges::copy(tokens, n.tokens.begin());
  n.parent = parent;
  n.references = 1;
  n.children = 0;
  n.next = std::exchange(buckets_[Bucket(parent, tokens)], block);
  if (parent != kRoot) ++node(parent).children;
  ++cached_;
  return block;
}

void PrefixCache::Release(int32_t block) {
  Node& n = node(block);
  CHECK(n.state == State::kCached && n.references > 0);
  if (--n.references > 0) return;
  ++unreferenced_;
  n.used = ++clock_;
  if (n.children == 0) PushLeaf(block);
}

void PrefixCache::Evict(int32_t block) {
  Node& n = node(block);
  CHECK(n.state == State::kCached && n.references == 0 && n.children == 0);
  RemoveLeaf(block);
  int32_t* link = &buckets_[Bucket(n.parent, n.tokens)];
  while (*link != block) link = &node(*link).next;
  *link = n.next;
  if (n.parent != kRoot) {
    Node& parent = node(n.parent);
    if (--parent.children == 0 && parent.references == 0) PushLeaf(n.parent);
  }
  --cached_;
  --unreferenced_;
  n.state = State::kFree;
  free_.push_back(block);
}

void PrefixCache::PushLeaf(int32_t block) {
  node(block).place = static_cast<int32_t>(leaves_.size());
  leaves_.push_back(block);
  Sift(leaves_.size() - 1);
}

void PrefixCache::RemoveLeaf(int32_t block) {
  const auto place = static_cast<size_t>(std::exchange(node(block).place, -1));
  const int32_t last = leaves_.back();
  leaves_.pop_back();
  if (last == block) return;
  leaves_[place] = last;
  node(last).place = static_cast<int32_t>(place);
  Sift(place);
}

// Restores the heap around one place.
void PrefixCache::Sift(size_t place) {
  const auto used = [&](size_t i) { return node(leaves_[i]).used; };
  const auto swap = [&](size_t a, size_t b) {
    std::swap(leaves_[a], leaves_[b]);
    node(leaves_[a]).place = static_cast<int32_t>(a);
    node(leaves_[b]).place = static_cast<int32_t>(b);
  };
  for (; place > 0 && used(place) < used((place - 1) / 2); place = (place - 1) / 2) {
    swap(place, (place - 1) / 2);
  }
  for (;;) {
    size_t least = place;
    for (const size_t child : {2 * place + 1, 2 * place + 2}) {
      if (child < leaves_.size() && used(child) < used(least)) least = child;
    }
    if (least == place) return;
    swap(place, least);
    place = least;
  }
}

void PrefixCache::CheckInvariants(std::span<const int32_t> references,
                                  std::span<const int32_t> owned) const {
  std::vector<int32_t> children(nodes_.size(), 0);
  std::vector<bool> in_free(nodes_.size(), false);
  for (const int32_t b : free_) {
    CHECK(!in_free[static_cast<size_t>(b)] && node(b).state == State::kFree);
    in_free[static_cast<size_t>(b)] = true;
  }
  int64_t cached = 0, unreferenced = 0;
  size_t leaves = 0;
  for (size_t b = 0; b < nodes_.size(); ++b) {
    const Node& n = nodes_[b];
    CHECK((n.state == State::kFree) == in_free[b]);
    CHECK(owned[b] == (n.state == State::kOwned ? 1 : 0));
    if (n.state != State::kCached) {
      CHECK(references[b] == 0 && n.place == -1);
      continue;
    }
    ++cached;
    CHECK(n.references == references[b]);
    CHECK(Lookup(n.parent, n.tokens) == static_cast<int32_t>(b));
    if (n.references == 0) ++unreferenced;
    if (n.parent != kRoot) {
      CHECK(node(n.parent).state == State::kCached);
      CHECK(node(n.parent).references >= n.references);
      ++children[static_cast<size_t>(n.parent)];
    }
    if (n.place >= 0) {
      CHECK(leaves_[static_cast<size_t>(n.place)] == static_cast<int32_t>(b));
      ++leaves;
    }
  }
  for (size_t b = 0; b < nodes_.size(); ++b) {
    const Node& n = nodes_[b];
    if (n.state != State::kCached) continue;
    CHECK(n.children == children[b]);
    CHECK((n.place >= 0) == (n.references == 0 && n.children == 0));
  }
  CHECK(cached == cached_ && unreferenced == unreferenced_ && leaves == leaves_.size());
}

}  // namespace hadal
