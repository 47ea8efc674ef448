// What the tests of the training kernels share.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/exec.h"
#include "tensor/view.h"

namespace hadal {

// A matrix with a few columns of padding after each row, which nobody may touch.
struct Padded {
  static constexpr int64_t kPadding = 5;
  Padded(int64_t r, int64_t c, uint64_t seed, float scale = 1.0f)
      : rows(r), cols(c), values(static_cast<size_t>(r * (c + kPadding) + 1), 123.0f) {
    Rng rng(seed);
    for (int64_t t = 0; t < rows; ++t) {
      for (float& x : (*this)()[t]) x = scale * static_cast<float>(rng.NextNormal());
    }
  }
  View2<float> operator()() { return {values.data(), rows, cols, cols + kPadding}; }

  int64_t rows, cols;
  std::vector<float> values;
};

inline std::vector<float> RandomFloats(int64_t n, uint64_t seed, float scale = 1.0f) {
  Rng rng(seed);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = scale * static_cast<float>(rng.NextNormal());
  return v;
}

// Bit by bit; any NaN equals any other.
inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
           return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y) ||
                  (std::isnan(x) && std::isnan(y));
         });
}

// Runs `body` on every instruction set with 1, 2 and 3 threads: what it appends to its second
// argument must be the same every time.
inline void OnEvery(const std::function<void(const Exec&, std::vector<float>& result)>& body) {
  std::vector<float> first;
  for (const Isa isa : SupportedIsas()) {
    for (const int threads : {1, 2, 3}) {
      SCOPED_TRACE(std::string(IsaName(isa)) + ", threads " + std::to_string(threads));
      const Exec exec(threads, isa);
      std::vector<float> result;
      body(exec, result);
      if (first.empty()) first = result;
      ASSERT_TRUE(SameBits(first, result));
    }
  }
}

inline void Append(std::vector<float>& to, const std::vector<float>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace hadal
