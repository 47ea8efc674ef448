#include "kernels/limits.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "kernels/dispatch.h"
#include "tensor/buffer.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hadal {
namespace {

constexpr int64_t kReadBytes = int64_t{256} << 20;
constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int64_t kRounds = 1 << 14;
constexpr int kChains = 10;  // independent sums, enough for latency x throughput of any op here

struct Probes {
  int64_t (*read)(const uint8_t* data, int64_t bytes);
  int64_t (*f32)();
  int64_t (*bf16)();
  int64_t (*narrow)();
  int64_t (*wide)();
  double f32_ops, bf16_ops, narrow_ops, wide_ops;  // of one call
};

int64_t PlainRead(const uint8_t* data, int64_t bytes) {
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  uint64_t sum = 0;
  for (int64_t i = 0; i < bytes / 8; ++i) sum += words[i];
  return static_cast<int64_t>(sum);
}

int64_t PlainF32() {
  float sums[kChains] = {};
  float factor = 0.999f;
  for (int64_t i = 0; i < kRounds; ++i) {
    asm volatile("" : "+x"(factor));
    for (float& sum : sums) sum = sum * factor + 1.0f;
  }
  float total = 0;
  for (const float sum : sums) total += sum;
  return static_cast<int64_t>(total);
}

constexpr Probes kPlain = {PlainRead,
                           PlainF32,
                           PlainF32,
                           PlainF32,
                           PlainF32,
                           2.0 * kChains* kRounds,
                           2.0 * kChains* kRounds,
                           2.0 * kChains* kRounds,
                           2.0 * kChains* kRounds};

#if defined(__x86_64__)

__attribute__((target("avx2"))) int64_t Avx2Read(const uint8_t* data, int64_t bytes) {
  __m256i sums[4] = {};
  for (int64_t i = 0; i < bytes; i += 128) {
    _mm_prefetch(reinterpret_cast<const char*>(data + i) + 2048, _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(data + i) + 2112, _MM_HINT_T0);
    for (int j = 0; j < 4; ++j) {
      const auto* at = reinterpret_cast<const __m256i*>(data + i + 32 * j);
      sums[j] = _mm256_add_epi64(sums[j], _mm256_load_si256(at));
    }
  }
  const __m256i total =
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  return _mm256_extract_epi64(total, 0);
}

// The peaks are loops in assembly: ten independent sums in registers 0..9, operands in 14 and 15,
// products in 10..13. Compilers hoist, merge or spill the same written in C++.
#define HADAL_PROBE(name, step)                                                                    \
  int64_t name() {                                                                                 \
    int64_t rounds = kRounds;                                                                      \
    asm volatile(                                                                                  \
        "vpxor %%xmm14, %%xmm14, %%xmm14\n vpxor %%xmm15, %%xmm15, %%xmm15\n"                      \
        "1:\n" step(0, 10) step(1, 11) step(2, 12) step(3, 13) step(4, 10) step(5, 11) step(6, 12) \
            step(7, 13) step(8, 10) step(9, 11) "dec %0\n jnz 1b\n vzeroupper\n"                   \
        : "+r"(rounds)                                                                             \
        :                                                                                          \
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
          "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc");                                      \
    return rounds;                                                                                 \
  }
#define HADAL_FMA_YMM(n, t) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #n "\n"
#define HADAL_NARROW_YMM(n, t)            \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm" #t \
  "\n"                                    \
  "vpaddw %%ymm" #t ", %%ymm" #n ", %%ymm" #n "\n"
#define HADAL_WIDE_YMM(n, t)            \
  "vpmaddwd %%ymm14, %%ymm15, %%ymm" #t \
  "\n"                                  \
  "vpaddd %%ymm" #t ", %%ymm" #n ", %%ymm" #n "\n"
#define HADAL_FMA_ZMM(n, t) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #n "\n"
#define HADAL_PAIR_ZMM(n, t) "vdpbf16ps %%zmm14, %%zmm15, %%zmm" #n "\n"
#define HADAL_DOT_ZMM(n, t) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #n "\n"

HADAL_PROBE(Avx2F32, HADAL_FMA_YMM)
HADAL_PROBE(Avx2Narrow, HADAL_NARROW_YMM)
HADAL_PROBE(Avx2Wide, HADAL_WIDE_YMM)
HADAL_PROBE(Avx512F32, HADAL_FMA_ZMM)
HADAL_PROBE(Avx512Pairs, HADAL_PAIR_ZMM)
HADAL_PROBE(Avx512Dot, HADAL_DOT_ZMM)

constexpr double kAllRounds = 1.0 * kChains * kRounds;
constexpr Probes kAvx2 = {Avx2Read,        Avx2F32,         Avx2F32,
                          Avx2Narrow,      Avx2Wide,        16 * kAllRounds,
                          16 * kAllRounds, 64 * kAllRounds, 32 * kAllRounds};
constexpr Probes kAvx512 = {Avx2Read,        Avx512F32,        Avx512F32,
                            Avx512Dot,       Avx512Dot,        32 * kAllRounds,
                            32 * kAllRounds, 128 * kAllRounds, 128 * kAllRounds};
constexpr Probes kAvx512Bf16 = {Avx2Read,        Avx512F32,        Avx512Pairs,
                                Avx512Dot,       Avx512Dot,        32 * kAllRounds,
                                64 * kAllRounds, 128 * kAllRounds, 128 * kAllRounds};
#endif

const Probes& ProbesOf(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return kAvx2;
  if (isa == Isa::kAvx512) return internal::PairProducts(isa) != nullptr ? kAvx512Bf16 : kAvx512;
#endif
  return kPlain;
}

// The best of several runs of `work` a second: other programs only ever slow a machine down. They
// go on for longer than another program may hold a core.
template <typename Run>
double Best(double work, int runs, const Run& run) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point enough = Clock::now() + std::chrono::milliseconds(50);
  double best = 0;
  for (int i = 0; i < runs || Clock::now() < enough; ++i) {
    const Clock::time_point start = Clock::now();
    run();
    const std::chrono::duration<double> time = Clock::now() - start;
    best = std::max(best, work / time.count());
  }
  return best;
}

}  // namespace

double PeakOps(const MachineLimits& limits, DType type) {
  if (type <= DType::kF8E4M3) return limits.f32_ops;
  // Codes of 8 bits: sums of two products leave i16.
  const bool wide = type == DType::kQ8_0 || type == DType::kIQ4_NL || type == DType::kIQ4_XS;
  return wide ? limits.wide_int8_ops : limits.int8_ops;
}

double PeakOps(const MachineLimits& limits, ComputeType type) {
  return type == ComputeType::kBF16 ? limits.bf16_ops : limits.f32_ops;
}

MachineLimits MeasureLimits(const Exec& exec) {
  const Probes& probes = ProbesOf(exec.isa());
  const Buffer buffer(static_cast<size_t>(kReadBytes));
  const int workers = exec.threads();
  int64_t sums[256] = {};
  const auto keep = [&](int worker, int64_t value) { sums[worker % 256] += value; };
  const auto compute = [&](int64_t (*probe)(), double ops) {
    return Best(ops * workers, 40, [&] {
      exec.pool().For(workers, [&](int64_t, int worker) { keep(worker, probe()); });
    });
  };
  MachineLimits limits = {};
  limits.read_bytes = Best(kReadBytes, 6, [&] {
    exec.pool().For(kReadBytes / kPieceBytes, [&](int64_t piece, int worker) {
      keep(worker, probes.read(buffer.as<const uint8_t>() + piece * kPieceBytes, kPieceBytes));
    });
  });
  limits.f32_ops = compute(probes.f32, probes.f32_ops);
  limits.bf16_ops = compute(probes.bf16, probes.bf16_ops);
  limits.int8_ops = compute(probes.narrow, probes.narrow_ops);
  limits.wide_int8_ops = compute(probes.wide, probes.wide_ops);
  return limits;
}

MachineLimits Highest(const MachineLimits& a, const MachineLimits& b) {
  return {.read_bytes = std::max(a.read_bytes, b.read_bytes),
          .f32_ops = std::max(a.f32_ops, b.f32_ops),
          .bf16_ops = std::max(a.bf16_ops, b.bf16_ops),
          .int8_ops = std::max(a.int8_ops, b.int8_ops),
          .wide_int8_ops = std::max(a.wide_int8_ops, b.wide_int8_ops)};
}

}  // namespace hadal
