// Who owns each block of the paged cache: a sequence, the tree of computed prefixes, or nobody.
//
// The tree is a radix tree over full blocks: a node is a block that holds the state of 16 tokens
// after a given path from the root. Children are found by the 16 token ids themselves, compared in
// full, so no collision of hashes can hand one prompt another prompt's state. Sequences hold
// references on the nodes that they read; a node with no references stays for later prompts until
// its block is needed, least recently used leaf first. All memory is taken at construction.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention.h"

namespace hadal {

class PrefixCache {
 public:
  static constexpr int32_t kRoot = -1;

  explicit PrefixCache(int64_t blocks);

  // A block for one sequence alone, evicting a cached one when none is free; -1 when every block
  // is in use.
  int32_t Allocate();
  // Gives a block from Allocate back.
  void Free(int32_t block);

  // The child of `parent` (a node that the caller holds, or kRoot) for these 16 tokens with one
  // more reference, or -1.
  int32_t Find(int32_t parent, std::span<const int32_t> tokens);
  // Hands `block`, owned by the caller and now holding the state of `tokens` after `parent`, to the
  // tree and takes a reference. Where the tree has that state already, `block` is freed and the
  // tree's own is returned instead.
  int32_t Publish(int32_t parent, std::span<const int32_t> tokens, int32_t block);
  // Drops one reference.
  void Release(int32_t block);

  int64_t blocks() const { return static_cast<int64_t>(nodes_.size()); }
  int64_t free_blocks() const { return static_cast<int64_t>(free_.size()); }
  int64_t cached_blocks() const { return cached_; }  // in the tree, referenced or not
  // What Allocate could hand out now: free blocks and unreferenced ones.
  int64_t available() const { return free_blocks() + unreferenced_; }

  // Aborts unless every block is exactly one of free, owned or cached, references and children add
  // up and every cached block can be found: for tests. references[b]: how often sequences hold
  // node b; owned[b]: how many sequences own b.
  void CheckInvariants(std::span<const int32_t> references, std::span<const int32_t> owned) const;

 private:
  enum class State : uint8_t { kFree, kOwned, kCached };
  struct Node {
    std::array<int32_t, kKvBlock> tokens;
    int32_t parent = kRoot, references = 0, children = 0;
    int32_t next = -1;   // in its bucket
    int32_t place = -1;  // in leaves_, -1 when it cannot be evicted
    uint64_t used = 0;   // clock of its last release
    State state = State::kFree;
  };

  Node& node(int32_t block) { return nodes_[static_cast<size_t>(block)]; }
  const Node& node(int32_t block) const { return nodes_[static_cast<size_t>(block)]; }
  size_t Bucket(int32_t parent, std::span<const int32_t> tokens) const;
  int32_t Lookup(int32_t parent, std::span<const int32_t> tokens) const;
  void Acquire(int32_t block);
  void Evict(int32_t block);
  void PushLeaf(int32_t block);
  void RemoveLeaf(int32_t block);
  void Sift(size_t place);

  std::vector<Node> nodes_;  // by block
  std::vector<int32_t> free_;
  std::vector<int32_t> buckets_;  // first node of each chain
  std::vector<int32_t> leaves_;   // heap of evictable nodes, least recently used on top
  int64_t cached_ = 0, unreferenced_ = 0;
  uint64_t clock_ = 0, salt_;
};

}  // namespace hadal
