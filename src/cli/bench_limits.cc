#include "cli/bench_limits.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>

#include "tensor/buffer.h"

namespace hadal::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kReadBytes = int64_t{256} << 20;  // far beyond any last-level cache share
constexpr int64_t kReadSlice = int64_t{1} << 20;
constexpr int64_t kRounds = 1 << 18;
constexpr int kChains = 12;  // independent sums: more than latency 4-5 times 2 units

template <typename Work>
double BestSeconds(int runs, const Work& work) {
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const auto start = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

uint64_t ReadScalar(const std::byte* data, int64_t bytes) {
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  uint64_t sum = 0;
  for (int64_t i = 0; i < bytes / 8; ++i) sum ^= words[i];
  return sum;
}

__attribute__((target("avx2"))) uint64_t ReadAvx2(const std::byte* data, int64_t bytes) {
  const auto* v = reinterpret_cast<const __m256i*>(data);
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (int64_t i = 0; i < bytes / 32; i += 4) {
    a = _mm256_xor_si256(a, _mm256_load_si256(v + i));
    b = _mm256_xor_si256(b, _mm256_load_si256(v + i + 1));
    c = _mm256_xor_si256(c, _mm256_load_si256(v + i + 2));
    d = _mm256_xor_si256(d, _mm256_load_si256(v + i + 3));
  }
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
  alignas(32) uint64_t words[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), all);
  return words[0];
}

// Each returns operations done. The empty asm keeps the sums alive and opaque.
double F32Scalar() {
  float sums[kChains] = {};
  float x = 1.0f;
  for (int64_t i = 0; i < kRounds; ++i) {
    for (float& s : sums) s = s * x + x;
    asm volatile("" : "+m"(sums));
  }
  return 2.0 * kChains * kRounds;
}

__attribute__((target("avx2,fma"))) double F32Avx2() {
  __m256 sums[kChains];
  for (auto& s : sums) s = _mm256_setzero_ps();
  __m256 x = _mm256_set1_ps(0.5f);
  asm volatile("" : "+x"(x));
  for (int64_t i = 0; i < kRounds; ++i) {
    for (auto& s : sums) s = _mm256_fmadd_ps(x, x, s);
  }
  for (auto& s : sums) asm volatile("" : "+x"(s));
  return 2.0 * 8 * kChains * kRounds;
}

__attribute__((target("avx512f"))) double F32Avx512() {
  __m512 sums[kChains];
  for (auto& s : sums) s = _mm512_setzero_ps();
  __m512 x = _mm512_set1_ps(0.5f);
  asm volatile("" : "+v"(x));
  for (int64_t i = 0; i < kRounds; ++i) {
    for (auto& s : sums) s = _mm512_fmadd_ps(x, x, s);
  }
  for (auto& s : sums) asm volatile("" : "+v"(s));
  return 2.0 * 16 * kChains * kRounds;
}

double Int8Scalar() {
  int32_t sums[kChains] = {};
  int8_t x = 3;
  for (int64_t i = 0; i < kRounds; ++i) {
    for (int32_t& s : sums) s += x * x;
    asm volatile("" : "+m"(sums));
  }
  return 2.0 * kChains * kRounds;
}

__attribute__((target("avx2"))) double Int8Avx2() {
  __m256i sums[8];
  for (auto& s : sums) s = _mm256_setzero_si256();
  __m256i x = _mm256_set1_epi8(3);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < kRounds; ++i) {
    asm volatile("" : "+x"(x));
    for (auto& s : sums) {
      __m256i pairs = _mm256_maddubs_epi16(x, x);
      asm volatile("" : "+x"(pairs));  // or all eight would be one
      s = _mm256_add_epi32(s, _mm256_madd_epi16(pairs, ones));
    }
  }
  for (auto& s : sums) asm volatile("" : "+x"(s));
  return 2.0 * 32 * 8 * kRounds;
}

__attribute__((target("avx512f,avx512vnni"))) double Int8Vnni() {
  __m512i sums[kChains];
  for (auto& s : sums) s = _mm512_setzero_si512();
  __m512i x = _mm512_set1_epi8(3);
  asm volatile("" : "+v"(x));
  for (int64_t i = 0; i < kRounds; ++i) {
    for (auto& s : sums) s = _mm512_dpbusd_epi32(s, x, x);
  }
  for (auto& s : sums) asm volatile("" : "+v"(s));
  return 2.0 * 64 * kChains * kRounds;
}

double Peak(ThreadPool& pool, double (*kernel)()) {
  double operations = 0;
  const double seconds = BestSeconds(5, [&] {
    std::vector<double> done(static_cast<size_t>(pool.threads()), 0.0);
    const int64_t tasks = int64_t{pool.threads()} * 8;
    pool.For(tasks, [&](int64_t, int worker) { done[static_cast<size_t>(worker)] += kernel(); });
    operations = 0;
    for (const double d : done) operations += d;
  });
  return operations / seconds / 1e9;
}

double ReadBandwidth(ThreadPool& pool) {
  const Buffer buffer(static_cast<size_t>(kReadBytes));
  const auto read = __builtin_cpu_supports("avx2") ? ReadAvx2 : ReadScalar;
  std::byte* data = buffer.data();
  const int64_t slices = kReadBytes / kReadSlice;
  // Untouched pages all map to one page of zeros, which would be read from the cache.
  pool.For(slices, [&](int64_t i, int) {
    std::fill_n(data + i * kReadSlice, kReadSlice, static_cast<std::byte>(i));
  });
  std::vector<uint64_t> sums(static_cast<size_t>(slices));
  const double seconds = BestSeconds(7, [&] {
    pool.For(slices, [&](int64_t i, int) {
      sums[static_cast<size_t>(i)] = read(data + i * kReadSlice, kReadSlice);
    });
    asm volatile("" : : "r"(sums.data()) : "memory");
  });
  return static_cast<double>(kReadBytes) / seconds / 1e9;
}

}  // namespace

MachineLimits MeasureLimits(ThreadPool& pool) {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f");
  const bool vnni = __builtin_cpu_supports("avx512vnni");
  return {.read = ReadBandwidth(pool),
          .f32 = Peak(pool, avx512 ? F32Avx512
                            : avx2 ? F32Avx2
                                   : F32Scalar),
          .int8 = Peak(pool, vnni   ? Int8Vnni
                             : avx2 ? Int8Avx2
                                    : Int8Scalar)};
}

}  // namespace hadal::cli
