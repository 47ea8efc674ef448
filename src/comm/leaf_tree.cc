#include "comm/leaf_tree.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "comm/internal_add.h"

namespace hadal {

void TreeSum(std::span<double> values, int64_t length, int64_t count) {
  CHECK(static_cast<int64_t>(values.size()) == length * count);
  for (int64_t width = 1; width < count; width *= 2) {
    for (int64_t i = 0; i + width < count; i += 2 * width) {
      internal::AddTo(values.data() + i * length, values.data() + (i + width) * length, length);
    }
  }
}

void TreeSum(std::span<const std::span<float>> parts) {
  for (size_t width = 1; width < parts.size(); width *= 2) {
    for (size_t i = 0; i + width < parts.size(); i += 2 * width) {
      CHECK(parts[i].size() == parts[i + width].size());
      internal::AddTo(parts[i].data(), parts[i + width].data(),
                      static_cast<int64_t>(parts[i].size()));
    }
  }
}

// Leaf i finds popcount(i) sums on the stack. The last joins all of them in place, so what waits is
// at most the greatest popcount below `leaves`.
LeafTree::LeafTree(int64_t length, int64_t leaves) : length_(length), leaves_(leaves) {
  CHECK(length >= 0 && leaves >= 1);
  stack_.resize(static_cast<size_t>(std::bit_width(static_cast<uint64_t>(leaves)) - 1));
  for (Buffer& b : stack_) b = Buffer(static_cast<size_t>(length) * sizeof(float));
}

void LeafTree::Add(int64_t index, std::span<float> leaf) {
  CHECK(index == next_ && static_cast<int64_t>(leaf.size()) == length_);
  next_ = index + 1;
  if (next_ == leaves_) {
    while (depth_ > 0) internal::AddTo(leaf.data(), stack_[--depth_].as<float>(), length_);
    next_ = 0;
    return;
  }
  // Each trailing one of the index is a finished subtree of the same size to join. The join happens
  // in the stack's own vectors: the leaf goes into the topmost, that into the one below.
  const int joins = std::countr_one(static_cast<uint64_t>(index));
  if (joins == 0) {
    std::copy(leaf.begin(), leaf.end(), stack_[depth_++].as<float>());
    return;
  }
  internal::AddTo(stack_[depth_ - 1].as<float>(), leaf.data(), length_);
  for (int i = 1; i < joins; ++i) {
    --depth_;
    internal::AddTo(stack_[depth_ - 1].as<float>(), stack_[depth_].as<float>(), length_);
  }
}

int64_t LeafTree::bytes() const {
  return static_cast<int64_t>(stack_.size()) * length_ * static_cast<int64_t>(sizeof(float));
}

}  // namespace hadal
