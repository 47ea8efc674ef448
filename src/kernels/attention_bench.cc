// Speed of attention against the machine's own limits, measured in the same run: f32 FMA for
// prefill, reading of the cache for decode. Prints one line a case.
//   attention_bench [threads [part of a case's name]]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/attention.h"
#include "kernels/ops.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hadal {
namespace {

// Wall time, or the thread's own with one thread: then a busy machine disturbs less.
double Now(const Exec& exec) {
  timespec t;
  clock_gettime(exec.threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The best of at least 5 runs.
double Seconds(const Exec& exec, const std::function<void()>& body) {
  double best = 1e9;
  const double start = Now(exec);
  for (int i = 0; i < 2000; ++i) {
    const double a = Now(exec);
    body();
    const double b = Now(exec);
    best = std::min(best, b - a);
    if (i >= 4 && b - start > 0.3) break;
  }
  return best;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) float FmaLoop(int64_t rounds) {
  __m256 acc[12];
  for (__m256& a : acc) a = _mm256_set1_ps(1.0f);
  const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (__m256& a : acc) a = _mm256_fmadd_ps(a, x, y);
  }
  __m256 sum = acc[0];
  for (int i = 1; i < 12; ++i) sum = _mm256_add_ps(sum, acc[i]);
  return _mm256_cvtss_f32(sum);
}
#endif

// Multiply-adds a second with 256-bit vectors on every thread.
double FmaPeak(const Exec& exec) {
#if defined(__x86_64__)
  if (exec.isa() == Isa::kScalar) return 0;
  constexpr int64_t kRounds = 200000;
  volatile float sink = 0;
  const double s = Seconds(exec, [&] {
    exec.pool().For(exec.threads(), [&](int64_t, int) { sink = FmaLoop(kRounds); });
  });
  return static_cast<double>(kRounds) * 12 * 8 * exec.threads() / s;
#else
  return 0;
#endif
}

struct Data {
  Data(int64_t sequences, int64_t length, int64_t block_bytes) : bytes(block_bytes) {
    const int64_t blocks = (length + 15) / 16;
    for (int64_t s = 0; s < sequences; ++s) {
      tables.emplace_back(static_cast<size_t>(blocks));
      std::iota(tables.back().begin(), tables.back().end(), static_cast<int32_t>(s * blocks));
    }
    memory = Buffer(static_cast<size_t>(sequences * blocks * block_bytes));
    Rng rng(1);
    auto* half = memory.as<uint16_t>();
    for (size_t i = 0; i < memory.bytes() / 2; ++i) {
      half[i] = static_cast<uint16_t>(0x3000 | (rng.Next32() & 0x83ff));
    }
  }
  KvStore store() const { return {memory.data(), KvType::kF16, bytes}; }
  int64_t bytes;
  std::vector<std::vector<int32_t>> tables;
  Buffer memory;
};

std::vector<float> Random(int64_t n) {
  Rng rng(2);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = static_cast<float>(rng.NextNormal()) * 0.1f;
  return v;
}

struct BenchCase {
  const char* name;
  bool mla;
  int64_t heads, kv_heads, k_dim, v_dim;  // latent: k_dim = latent + rope, v_dim = latent
  int64_t sequences, start, rows;
};

void Run(const Exec& exec, const BenchCase& c, double peak) {
  const GqaShape gqa = {c.heads, c.kv_heads, c.k_dim, c.v_dim, 0.1f};
  const MlaShape mla = {c.heads, c.v_dim, c.k_dim - c.v_dim, 0.1f};
  const int64_t block_bytes =
      c.mla ? MlaBlockBytes(mla, KvType::kF16) : GqaBlockBytes(gqa, KvType::kF16);
  const Data data(c.sequences, c.start + c.rows, block_bytes);
  const int64_t tokens = c.sequences * c.rows;
  const std::vector<float> q = Random(tokens * c.heads * c.k_dim);
  std::vector<float> out(static_cast<size_t>(tokens * c.heads * c.v_dim));
  std::vector<SeqSpan> spans;
  double pairs = 0;
  for (int64_t s = 0; s < c.sequences; ++s) {
    spans.push_back({data.tables[static_cast<size_t>(s)].data(), c.start, s * c.rows, c.rows});
    for (int64_t r = 0; r < c.rows; ++r) pairs += static_cast<double>(c.start + r + 1);
  }
  const View2<const float> qv(q.data(), tokens, c.heads * c.k_dim);
  const View2<float> ov(out.data(), tokens, c.heads * c.v_dim);
  const double s = Seconds(exec, [&] {
    if (c.mla) {
      MlaAttention(exec, spans, mla, qv, data.store(), ov);
    } else {
      GqaAttention(exec, spans, gqa, qv, data.store(), ov);
    }
  });
  const double fma = pairs * static_cast<double>(c.heads * (c.k_dim + c.v_dim)) / s;
  std::printf("%-34s %9.1f us %7.1f GFLOP/s  %5.1f %% of FMA  %6.1f GB/s of cache\n", c.name,
              s * 1e6, 2e-9 * fma, peak > 0 ? 100 * fma / peak : 0,
              1e-9 * static_cast<double>(data.memory.bytes()) / s);
}

void Rows(const Exec& exec) {
  constexpr int64_t kRows = 512, kCols = 1536;
  const std::vector<float> x = Random(kRows * kCols), w = Random(kCols);
  std::vector<float> y(x.size());
  const View2<const float> xv(x.data(), kRows, kCols);
  const View2<float> yv(y.data(), kRows, kCols);
  const double norm = Seconds(exec, [&] { RmsNorm(exec, xv, w, 1e-5f, yv); });
  const double gate = Seconds(exec, [&] { SwiGlu(exec, xv, xv, yv); });
  const double one = Seconds(exec, [&] { RmsNorm(exec, xv.Rows(0, 1), w, 1e-5f, yv.Rows(0, 1)); });
  std::printf("rows of 1536: RmsNorm x512 %.1f us, x1 %.2f us; SwiGlu x512 %.1f us\n", norm * 1e6,
              one * 1e6, gate * 1e6);
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  using namespace hadal;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  const std::string filter = argc > 2 ? argv[2] : "";
  const auto isa = ChooseIsa();
  if (!isa.ok()) {
    std::fprintf(stderr, "%s\n", isa.error().message.c_str());
    return 2;
  }
  const Exec exec(threads, *isa);
  const double peak = FmaPeak(exec);
  std::printf("%d threads, %s, 256-bit FMA peak %.1f GFLOP/s\n", exec.threads(),
              std::string(IsaName(*isa)).c_str(), 2e-9 * peak);
  for (const BenchCase& c : std::vector<BenchCase>{
           {"gqa 9/3 x64 prefill 512", false, 9, 3, 64, 64, 1, 0, 512},
           {"gqa 9/3 x64 prefill 64 at 448", false, 9, 3, 64, 64, 1, 448, 64},
           {"gqa 9/3 x64 prefill 512 at 3584", false, 9, 3, 64, 64, 1, 3584, 512},
           {"mla expanded 16 x192/128 prefill 512", false, 16, 16, 192, 128, 1, 0, 512},
           {"mla absorbed 16 x576/512 prefill 64", true, 16, 1, 576, 512, 1, 448, 64},
           {"gqa 9/3 x64 decode at 128", false, 9, 3, 64, 64, 1, 127, 1},
           {"gqa 9/3 x64 decode at 512", false, 9, 3, 64, 64, 1, 511, 1},
           {"gqa 9/3 x64 decode at 8192", false, 9, 3, 64, 64, 1, 8191, 1},
           {"gqa 32/8 x128 decode at 32768", false, 32, 8, 128, 128, 1, 32767, 1},
           {"gqa 9/3 x64 decode 16 seq at 512", false, 9, 3, 64, 64, 16, 511, 1},
           {"gqa 16/16 x128 decode at 4096", false, 16, 16, 128, 128, 1, 4095, 1},
           {"mla absorbed 16 decode at 128", true, 16, 1, 576, 512, 1, 127, 1},
           {"mla absorbed 16 decode at 1024", true, 16, 1, 576, 512, 1, 1023, 1},
           {"mla absorbed 16 decode 16 seq at 512", true, 16, 1, 576, 512, 16, 511, 1},
           {"mla absorbed 128 decode at 4096", true, 128, 1, 576, 512, 1, 4095, 1}}) {
    if (std::string(c.name).find(filter) != std::string::npos) Run(exec, c, peak);
  }
  if (filter.empty()) Rows(exec);
  return 0;
}
