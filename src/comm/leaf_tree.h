// The order of sums that makes results independent of the number of ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/buffer.h"

namespace hadal {

// The tree over n leaves: a leaf is itself, and
//   tree(n) = tree(first k) + tree(last n - k),   k the largest power of two below n,
// so four leaves are (l0 + l1) + (l2 + l3). A run of 2^m leaves that begins at a multiple of 2^m is
// a subtree: N ranks that each sum such a run of their own (LeafTree), then over ranks by the same
// tree (World), have the bits of one process that sums all leaves. This holds for
// n = N * 2^m leaves and any N. A sum of two numbers has the same bits in either order; only which
// NaN comes out of two may differ.

// values: `count` vectors of `length`, one after the other; the sum ends in the first.
void TreeSum(std::span<double> values, int64_t length, int64_t count);
void TreeSum(std::span<const std::span<float>> parts);

// Sums leaves that come one at a time. Holds floor(log2(leaves)) vectors beside the caller's one:
// none for one leaf.
class LeafTree {
 public:
  // Sums of `leaves` >= 1 vectors of `length` floats. Memory is taken here; use again without
  // taking more: after the last leaf the next is leaf 0.
  LeafTree(int64_t length, int64_t leaves);

  // Leaves come in order: index 0, 1, ... (CHECKed). The last gets the sum of all of them in place;
  // the others are copied and stay as they are.
  void Add(int64_t index, std::span<float> leaf);
  int64_t bytes() const;

 private:
  int64_t length_, leaves_, next_ = 0;
  std::vector<Buffer> stack_;  // sums of finished subtrees, larger first
  size_t depth_ = 0;           // how many are in use
};

}  // namespace hadal
