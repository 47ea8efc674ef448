// Counter-based random numbers: Philox 4x32-10 (Salmon et al., SC'11). A draw is a function of
// (seed, stream, counter) alone, the same on every machine, so it can be replayed from its index.
#pragma once

#include <array>
#include <cstdint>

namespace hadal {

// The block cipher itself: four 32-bit words from a 128-bit counter and a 64-bit key.
std::array<uint32_t, 4> Philox(const std::array<uint32_t, 4>& counter, uint64_t key);

class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  uint32_t Next32();
  uint64_t Next64() { return (uint64_t{Next32()} << 32) | Next32(); }
  // Uniform in [0, 1), 24 bits / 53 bits.
  float NextFloat() { return static_cast<float>(Next32() >> 8) * 0x1p-24f; }
  double NextDouble() { return static_cast<double>(Next64() >> 11) * 0x1p-53; }
  // Uniform in [0, n), n >= 1, without bias.
  uint64_t Below(uint64_t n);
  // Standard normal (Box-Muller).
  double NextNormal();

  // The position: restoring it resumes the sequence exactly.
  uint64_t index() const { return index_; }
  void set_index(uint64_t index) { index_ = index; }

 private:
  uint64_t seed_, stream_;
  uint64_t index_ = 0;  // 32-bit words drawn so far
  uint64_t block_index_ = ~uint64_t{0};
  std::array<uint32_t, 4> block_{};
};

}  // namespace hadal
