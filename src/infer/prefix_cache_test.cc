#include "infer/prefix_cache.h"

#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"

namespace hadal {
namespace {

using Block = std::array<int32_t, kKvBlock>;

Block Filled(int32_t first) {
  Block b;
  b.fill(7);
  b[0] = first;
  return b;
}

TEST(PrefixCache, FindsWhatWasPublishedUnderItsParentOnly) {
  PrefixCache cache(8);
  const int32_t a = cache.Allocate(), b = cache.Allocate();
  EXPECT_EQ(cache.Publish(PrefixCache::kRoot, Filled(1), a), a);
  EXPECT_EQ(cache.Publish(a, Filled(2), b), b);
  EXPECT_EQ(cache.Find(PrefixCache::kRoot, Filled(2)), -1);
  EXPECT_EQ(cache.Find(PrefixCache::kRoot, Filled(1)), a);
  EXPECT_EQ(cache.Find(a, Filled(2)), b);
  EXPECT_EQ(cache.Find(b, Filled(2)), -1);
  Block last_differs = Filled(1);
  last_differs.back() = 8;
  EXPECT_EQ(cache.Find(PrefixCache::kRoot, last_differs), -1);
  EXPECT_EQ(cache.cached_blocks(), 2);
}

TEST(PrefixCache, PublishingWhatIsThereGivesTheBlockBack) {
  PrefixCache cache(4);
  const int32_t a = cache.Allocate(), twin = cache.Allocate();
  cache.Publish(PrefixCache::kRoot, Filled(1), a);
  EXPECT_EQ(cache.Publish(PrefixCache::kRoot, Filled(1), twin), a);
  EXPECT_EQ(cache.free_blocks(), 3);
  cache.Release(a);
  EXPECT_EQ(cache.available(), 3) << "one reference is left";
  cache.Release(a);
  EXPECT_EQ(cache.available(), 4);
}

TEST(PrefixCache, EvictsTheLeastRecentlyUsedLeafAndNeverAReferencedOne) {
  PrefixCache cache(4);
  const int32_t a = cache.Allocate(), a2 = cache.Allocate(), b = cache.Allocate(),
                c = cache.Allocate();
  cache.Publish(PrefixCache::kRoot, Filled(1), a);
  cache.Publish(a, Filled(11), a2);
  cache.Publish(PrefixCache::kRoot, Filled(2), b);
  cache.Publish(PrefixCache::kRoot, Filled(3), c);
  EXPECT_EQ(cache.Allocate(), -1) << "all referenced";
  cache.Release(b);
  cache.Release(a2);
  cache.Release(a);
  EXPECT_EQ(cache.Find(PrefixCache::kRoot, Filled(2)), b);  // used again, so younger than a's
  cache.Release(b);
  EXPECT_EQ(cache.Allocate(), a2);
  EXPECT_EQ(cache.Find(a, Filled(11)), -1);
  EXPECT_EQ(cache.Allocate(), a);
  EXPECT_EQ(cache.Allocate(), b);
  EXPECT_EQ(cache.Allocate(), -1) << "c is referenced";
}

// Random use by sequences that hold paths, against the invariants and a map of contents.
TEST(PrefixCache, RandomUseKeepsEveryBlockAccountedFor) {
  struct Holder {
    std::vector<int32_t> blocks, contents;
    size_t shared = 0;
  };
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Rng rng(seed);
    const int64_t size = 1 + static_cast<int64_t>(rng.Below(40));
    PrefixCache cache(size);
    std::vector<Holder> holders(5);
    std::map<int32_t, std::vector<int32_t>> path_of;  // block -> path that it holds
    const auto release = [&](Holder& h) {
      while (!h.blocks.empty()) {
        if (h.blocks.size() <= h.shared) {
          cache.Release(h.blocks.back());
        } else {
          cache.Free(h.blocks.back());
        }
        h.blocks.pop_back();
      }
      h = {};
    };
    for (int step = 0; step < 2000; ++step) {
      Holder& h = holders[rng.Below(holders.size())];
      const auto first = static_cast<int32_t>(rng.Below(3));
      const int32_t parent = h.shared == 0 ? PrefixCache::kRoot : h.blocks[h.shared - 1];
      switch (rng.Below(5)) {
        case 0:
          release(h);
          break;
        case 1:
          if (const int32_t b = cache.Allocate(); b >= 0) {
            h.blocks.push_back(b);
          } else {
            ASSERT_EQ(cache.available(), 0);
          }
          break;
        case 2:
          if (h.blocks.size() == h.shared) {
            if (const int32_t b = cache.Find(parent, Filled(first)); b >= 0) {
              h.contents.push_back(first);
              ASSERT_EQ(path_of[b], h.contents);
              h.blocks.push_back(b);
              ++h.shared;
            }
          }
          break;
        default:
          if (h.blocks.size() > h.shared) {
            h.contents.push_back(first);
            int32_t& b = h.blocks[h.shared++];
            b = cache.Publish(parent, Filled(first), b);
            path_of[b] = h.contents;
          }
      }
      std::vector<int32_t> references(static_cast<size_t>(size)), owned(static_cast<size_t>(size));
      for (const Holder& each : holders) {
        for (size_t i = 0; i < each.blocks.size(); ++i) {
          ++(i < each.shared ? references : owned)[static_cast<size_t>(each.blocks[i])];
        }
      }
      cache.CheckInvariants(references, owned);
    }
    for (Holder& h : holders) release(h);
    EXPECT_EQ(cache.available(), size);
  }
}

}  // namespace
}  // namespace hadal
