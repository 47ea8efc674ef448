// Estimates with their uncertainty, deterministic.
#pragma once

#include <cstdint>
#include <span>

namespace hadal::eval {

struct Interval {
  double low = 0, high = 1;
};
// The 95 % interval of a proportion (Wilson, 1927). trials == 0: [0, 1].
Interval Wilson(int64_t successes, int64_t trials);

// The right ones among the graded samples of one item.
struct ItemCount {
  int64_t right = 0, graded = 0;
};
// The mean over items of right / graded; items without a graded sample are left out.
double PassAt1(std::span<const ItemCount> items);
// One sample an item: Wilson. More: percentiles of 2,000 bootstrap resamples of items, since the
// samples of an item are not independent; Wilson over items where every item agrees.
Interval PassAt1Interval(std::span<const ItemCount> items, uint64_t seed);
// 1 - C(n-c, k) / C(n, k), the unbiased estimate (arXiv:2107.03374), averaged over the items that
// have at least k graded samples; -1 where none has.
double PassAtK(std::span<const ItemCount> items, int64_t k);

}  // namespace hadal::eval
