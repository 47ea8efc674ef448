#include "data/pack.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/rng.h"

namespace hadal {

std::vector<std::vector<int32_t>> BestFit(std::span<const int32_t> lengths, int32_t capacity) {
  std::vector<int32_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return lengths[static_cast<size_t>(a)] > lengths[static_cast<size_t>(b)];
  });
  std::vector<std::vector<int32_t>> bins;
  std::set<std::pair<int32_t, int32_t>> rooms;  // (room left, bin)
  for (const int32_t index : order) {
    const int32_t length = lengths[static_cast<size_t>(index)];
    CHECK(length >= 1 && length <= capacity);
    const auto fit = rooms.lower_bound({length, 0});
    int32_t room = capacity, bin = static_cast<int32_t>(bins.size());
    if (fit == rooms.end()) {
      bins.emplace_back();
    } else {
      std::tie(room, bin) = *fit;
      rooms.erase(fit);
    }
    bins[static_cast<size_t>(bin)].push_back(index);
    if (room > length) rooms.insert({room - length, bin});
  }
  for (auto& bin : bins) std::sort(bin.begin(), bin.end());
  std::sort(bins.begin(), bins.end());
  return bins;
}

Permutation::Permutation(uint64_t n, uint64_t key) : n_(n), key_(key) {
  CHECK(n >= 1);
  half_bits_ = (std::bit_width(n - 1) + 1) / 2;
}

uint64_t Permutation::operator()(uint64_t i) const {
  DCHECK(i < n_);
  if (half_bits_ == 0) return i;
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {  // the cipher permutes a range less than four times n: a few steps lead back into it
    uint64_t left = i >> half_bits_, right = i & mask;
    for (uint32_t round = 0; round < 6; ++round) {
      const auto word = Philox(
          {static_cast<uint32_t>(right), static_cast<uint32_t>(right >> 32), round, 0x5AFF1E},
          key_);
      const uint64_t f = (uint64_t{word[1]} << 32 | word[0]) & mask;
      left = std::exchange(right, left ^ f);
    }
    i = left << half_bits_ | right;
  } while (i >= n_);
  return i;
}

std::optional<FimTokens> FindFimTokens(const Tokenizer& tokenizer) {
  const auto begin = tokenizer.Find("<｜fim▁begin｜>");
  const auto hole = tokenizer.Find("<｜fim▁hole｜>");
  const auto end = tokenizer.Find("<｜fim▁end｜>");
  if (!begin || !hole || !end) return std::nullopt;
  return FimTokens{*begin, *hole, *end};
}

std::vector<TokenId> EncodeWithFim(const Tokenizer& tokenizer, std::string_view text,
                                   const FimTokens& tokens, const FimOptions& options) {
  Rng rng(options.seed, XXH3_64bits(text.data(), text.size()));
  if (!(rng.NextDouble() < options.rate) || text.size() < 2) return tokenizer.Encode(text);
  const auto cut = [&] {
    size_t at = rng.Below(text.size() + 1);
    while (at > 0 && at < text.size() && (text[at] & 0xC0) == 0x80) --at;
    return at;
  };
  size_t first = cut(), second = cut();
  if (first > second) std::swap(first, second);
  std::vector<TokenId> ids;
  const auto append = [&](std::string_view part) {
    const auto more = tokenizer.Encode(part);
    ids.insert(ids.end(), more.begin(), more.end());
  };
  ids.push_back(tokens.begin);
  append(text.substr(0, first));
  ids.push_back(tokens.hole);
  append(text.substr(second));
  ids.push_back(tokens.end);
  append(text.substr(first, second - first));
  return ids;
}

}  // namespace hadal
