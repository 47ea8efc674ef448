#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "base/rng.h"
#include "tensor/half.h"

namespace hadal {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<float> Random(int64_t n, uint64_t seed, float scale = 1.0f) {
  Rng rng(seed);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = scale * static_cast<float>(rng.NextNormal());
  return v;
}

// Equal bits; any NaN equals any NaN.
bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y) ||
           (std::isnan(x) && std::isnan(y));
  });
}

// Sequences in one paged cache whose every byte starts as NaN, block numbers shuffled by `seed`.
struct Cache {
  Cache(const std::vector<int64_t>& lengths, int64_t bytes_a_block, KvType kv_type, uint64_t seed)
      : type(kv_type), block_bytes(bytes_a_block) {
    int32_t blocks = 0;
    for (const int64_t n : lengths) blocks += static_cast<int32_t>((n + 15) / 16);
    std::vector<int32_t> numbers(static_cast<size_t>(blocks));
    std::iota(numbers.begin(), numbers.end(), 0);
    Rng rng(seed);
    for (size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[rng.Below(i)]);
    auto next = numbers.begin();
    for (const int64_t n : lengths) {
      tables.emplace_back(next, next + (n + 15) / 16);
      next += (n + 15) / 16;
    }
    memory = Buffer(static_cast<size_t>(blocks * block_bytes) + 1);
    if (type == KvType::kF32) {
      std::fill_n(memory.as<float>(), blocks * block_bytes / 4, kNaN);
    } else {
      std::fill_n(memory.as<uint16_t>(), blocks * block_bytes / 2, uint16_t{0x7e00});
    }
  }
  KvStore store() const { return {memory.data(), type, block_bytes}; }

  KvType type;
  int64_t block_bytes;
  std::vector<std::vector<int32_t>> tables;
  Buffer memory;
};

// Cuts every sequence into chunks and yields batches: round c holds chunk c of each sequence.
template <typename Round>
void ForChunks(const std::vector<int64_t>& lengths, int64_t chunk, const Round& round) {
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  if (chunk == 0) chunk = std::max<int64_t>(longest, 1);
  for (int64_t start = 0; start < longest; start += chunk) {
    std::vector<int64_t> rows;
    for (const int64_t n : lengths) rows.push_back(std::clamp<int64_t>(n - start, 0, chunk));
    round(start, rows);
  }
}

// Either attention over all tokens of some sequences, written and attended chunk by chunk.
struct Case {
  bool mla;
  GqaShape gqa;
  MlaShape latent;
  std::vector<int64_t> lengths;
  KvType type = KvType::kF16;

  int64_t q_cols() const {
    return mla ? latent.heads * (latent.latent + latent.rope) : gqa.heads * gqa.k_dim;
  }
  int64_t out_cols() const { return mla ? latent.heads * latent.latent : gqa.heads * gqa.v_dim; }
  int64_t k_cols() const { return mla ? latent.latent + latent.rope : gqa.kv_heads * gqa.k_dim; }
  int64_t v_cols() const { return mla ? 0 : gqa.kv_heads * gqa.v_dim; }
  int64_t tokens() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); }
  int64_t block_bytes() const {
    return mla ? MlaBlockBytes(latent, type) : GqaBlockBytes(gqa, type);
  }
};

struct Inputs {
  explicit Inputs(const Case& c)
      : q(Random(c.tokens() * c.q_cols(), 1)),
        k(Random(c.tokens() * c.k_cols(), 2)),
        v(Random(c.tokens() * c.v_cols(), 3)) {}
  std::vector<float> q, k, v;
};

// Rows of the result are in sequence order, whatever the chunking. exec null: the reference.
std::vector<float> Attend(const Exec* exec, const Case& c, const Inputs& in, int64_t chunk,
                          uint64_t seed) {
  const Exec writer(1, Isa::kScalar);
  const Exec& on = exec != nullptr ? *exec : writer;
  Cache cache(c.lengths, c.block_bytes(), c.type, seed);
  std::vector<float> result(static_cast<size_t>(c.tokens() * c.out_cols()));
  ForChunks(c.lengths, chunk, [&](int64_t start, const std::vector<int64_t>& rows) {
    const int64_t batch = std::accumulate(rows.begin(), rows.end(), int64_t{0});
    std::vector<SeqSpan> spans;
    std::vector<float> q, k, v, out(static_cast<size_t>(batch * c.out_cols()), kNaN);
    int64_t first_token = 0, row = 0;
    for (size_t s = 0; s < rows.size(); ++s) {
      spans.push_back({cache.tables[s].data(), rows[s] == 0 ? 0 : start, row, rows[s]});
      const int64_t at = first_token + start;
      const auto append = [&](std::vector<float>& to, const std::vector<float>& from,
                              int64_t cols) {
        if (rows[s] == 0) return;
        to.insert(to.end(), from.begin() + at * cols, from.begin() + (at + rows[s]) * cols);
      };
      append(q, in.q, c.q_cols());
      append(k, in.k, c.k_cols());
      append(v, in.v, c.v_cols());
      row += rows[s];
      first_token += c.lengths[s];
    }
    const View2<const float> qv(q.data(), batch, c.q_cols()), kv(k.data(), batch, c.k_cols());
    const View2<float> ov(out.data(), batch, c.out_cols());
    if (c.mla) {
      MlaWrite(on, spans, c.latent, kv, cache.store());
      exec != nullptr ? MlaAttention(on, spans, c.latent, qv, cache.store(), ov)
                      : MlaAttentionRef(spans, c.latent, qv, cache.store(), ov);
    } else {
      GqaWrite(on, spans, c.gqa, kv, {v.data(), batch, c.v_cols()}, cache.store());
      exec != nullptr ? GqaAttention(on, spans, c.gqa, qv, cache.store(), ov)
                      : GqaAttentionRef(spans, c.gqa, qv, cache.store(), ov);
    }
    first_token = 0;
    for (size_t s = 0; s < rows.size(); ++s) {
      if (rows[s] > 0) {
        std::copy_n(out.begin() + spans[s].first_row * c.out_cols(), rows[s] * c.out_cols(),
                    result.begin() + (first_token + start) * c.out_cols());
      }
      first_token += c.lengths[s];
    }
  });
  return result;
}

void ExpectEverywhereTheSame(const Case& c, const std::vector<int64_t>& chunks) {
  const Inputs in(c);
  const std::vector<float> want = Attend(nullptr, c, in, 0, 1);
  for (const float x : want) ASSERT_TRUE(std::isfinite(x));
  for (const Isa isa : SupportedIsas()) {
    for (const int threads : {1, 2, 3}) {
      const Exec exec(threads, isa);
      uint64_t seed = 10;
      for (const int64_t chunk : chunks) {
        if (isa == Isa::kScalar && chunk == 1 && threads > 1) continue;  // slow, and covered
        EXPECT_TRUE(SameBits(want, Attend(&exec, c, in, chunk, seed++)))
            << IsaName(isa) << " threads " << threads << " chunk " << chunk;
      }
    }
  }
}

TEST(GqaAttention, OneResultForEveryIsaThreadsChunkingAndTable) {
  ExpectEverywhereTheSame(
      {.mla = false,
       .gqa = {.heads = 9, .kv_heads = 3, .k_dim = 64, .v_dim = 64, .scale = 0.125f},
       .latent = {},
       .lengths = {150, 33, 0, 1}},
      {1, 7, 64, 0});
}

TEST(GqaAttention, ExpandedLatentShape) {
  ExpectEverywhereTheSame(
      {.mla = false,
       .gqa = {.heads = 4, .kv_heads = 4, .k_dim = 192, .v_dim = 128, .scale = 0.0722f},
       .latent = {},
       .lengths = {70}},
      {1, 7, 64, 0});
}

TEST(GqaAttention, OddSizes) {
  for (const auto& [heads, kv_heads, k_dim, v_dim] : std::vector<std::array<int64_t, 4>>{
           {7, 1, 5, 3}, {4, 2, 33, 47}, {16, 1, 16, 16}, {1, 1, 1, 1}, {14, 2, 20, 40}}) {
    for (const KvType type : {KvType::kF16, KvType::kF32}) {
      ExpectEverywhereTheSame({.mla = false,
                               .gqa = {.heads = heads,
                                       .kv_heads = kv_heads,
                                       .k_dim = k_dim,
                                       .v_dim = v_dim,
                                       .scale = 0.3f},
                               .latent = {},
                               .lengths = {37, 16, 17},
                               .type = type},
                              {1, 7, 0});
    }
  }
}

TEST(GqaAttention, LongSequenceEndsInSmallTiles) {
  const Case c = {.mla = false,
                  .gqa = {.heads = 3, .kv_heads = 1, .k_dim = 16, .v_dim = 16, .scale = 0.25f},
                  .latent = {},
                  .lengths = {9000}};
  // The rows of the last chunk against the reference; the others fill the cache.
  const Inputs in(c);
  Cache cache(c.lengths, c.block_bytes(), c.type, 5);
  const Exec exec(2, SupportedIsas().back());
  const SeqSpan all = {cache.tables[0].data(), 0, 0, 9000};
  GqaWrite(exec, {&all, 1}, c.gqa, {in.k.data(), 9000, 16}, {in.v.data(), 9000, 16}, cache.store());
  for (const int64_t rows : {1, 5, 40}) {
    const SeqSpan last = {cache.tables[0].data(), 9000 - rows, 0, rows};
    const View2<const float> q(in.q.data(), rows, 48);
    std::vector<float> want(static_cast<size_t>(rows * 48)), got(want.size());
    GqaAttentionRef({&last, 1}, c.gqa, q, cache.store(), {want.data(), rows, 48});
    GqaAttention(exec, {&last, 1}, c.gqa, q, cache.store(), {got.data(), rows, 48});
    EXPECT_TRUE(SameBits(want, got)) << rows;
  }
}

TEST(MlaAttention, OneResultForEveryIsaThreadsChunkingAndTable) {
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    ExpectEverywhereTheSame({.mla = true,
                             .gqa = {},
                             .latent = {.heads = 16, .latent = 128, .rope = 16, .scale = 0.1f},
                             .lengths = {50, 3, 0, 17},
                             .type = type},
                            {1, 7, 0});
  }
}

// More weights than are kept at once: the heads of each sequence by themselves.
TEST(MlaAttention, LongSequencesOneStepEach) {
  const Case c = {.mla = true,
                  .gqa = {},
                  .latent = {.heads = 20, .latent = 16, .rope = 4, .scale = 0.25f},
                  .lengths = {9000, 100, 8200}};
  const Inputs in(c);
  Cache cache(c.lengths, c.block_bytes(), c.type, 5);
  const Exec exec(2, SupportedIsas().back());
  std::vector<SeqSpan> steps;
  int64_t row = 0;
  for (size_t s = 0; s < c.lengths.size(); ++s) {
    const SeqSpan all = {cache.tables[s].data(), 0, 0, c.lengths[s]};
    MlaWrite(exec, {&all, 1}, c.latent, {in.k.data() + row * 20, c.lengths[s], 20}, cache.store());
    row += c.lengths[s];
    steps.push_back({all.blocks, c.lengths[s] - 1, static_cast<int64_t>(s), 1});
  }
  const View2<const float> q(in.q.data(), 3, c.q_cols());
  std::vector<float> want(static_cast<size_t>(3 * c.out_cols())), got(want.size());
  MlaAttentionRef(steps, c.latent, q, cache.store(), {want.data(), 3, c.out_cols()});
  MlaAttention(exec, steps, c.latent, q, cache.store(), {got.data(), 3, c.out_cols()});
  EXPECT_TRUE(SameBits(want, got));
}

TEST(MlaAttention, OddSizes) {
  for (const auto& [heads, latent, rope] :
       std::vector<std::array<int64_t, 3>>{{1, 5, 2}, {5, 33, 7}, {40, 16, 4}}) {
    ExpectEverywhereTheSame(
        {.mla = true,
         .gqa = {},
         .latent = {.heads = heads, .latent = latent, .rope = rope, .scale = 0.3f},
         .lengths = {37, 16}},
        {1, 7, 0});
  }
}

TEST(MlaAttention, ReadGivesBackWhatWasWritten) {
  const MlaShape shape = {.heads = 1, .latent = 20, .rope = 6, .scale = 1};
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    Cache cache({45}, MlaBlockBytes(shape, type), type, 3);
    const std::vector<float> kv = Random(45 * 26, 4);
    const Exec exec(2, SupportedIsas().back());
    const SeqSpan seq = {cache.tables[0].data(), 0, 0, 45};
    MlaWrite(exec, {&seq, 1}, shape, {kv.data(), 45, 26}, cache.store());
    std::vector<float> back(kv.size());
    MlaRead(exec, seq.blocks, 45, shape, cache.store(), {back.data(), 45, 26});
    for (size_t i = 0; i < kv.size(); ++i) {
      EXPECT_EQ(back[i], type == KvType::kF32 ? kv[i] : F16ToF32(F32ToF16(kv[i])));
    }
  }
}

// The absorbed form equals keys and values expanded from the latent, in double precision.
TEST(MlaAttention, AbsorbedEqualsExpanded) {
  constexpr int64_t kHeads = 3, kLatent = 24, kRope = 8, kNope = 10, kV = 12, kTokens = 30;
  const std::vector<float> up_k = Random(kHeads * kNope * kLatent, 1, 0.2f);
  const std::vector<float> up_v = Random(kHeads * kV * kLatent, 2, 0.2f);
  const std::vector<float> kv = Random(kTokens * (kLatent + kRope), 3);
  const std::vector<float> q = Random(kTokens * kHeads * (kNope + kRope), 4);
  const MlaShape shape = {.heads = kHeads, .latent = kLatent, .rope = kRope, .scale = 0.2f};
  std::vector<float> absorbed(kTokens * kHeads * (kLatent + kRope));
  for (int64_t th = 0; th < kTokens * kHeads; ++th) {
    const float* from = q.data() + th * (kNope + kRope);
    float* to = absorbed.data() + th * (kLatent + kRope);
    for (int64_t l = 0; l < kLatent; ++l) {
      for (int64_t d = 0; d < kNope; ++d) {
        to[l] += from[d] * up_k[static_cast<size_t>((th % kHeads * kNope + d) * kLatent + l)];
      }
    }
    std::copy_n(from + kNope, kRope, to + kLatent);
  }
  Cache cache({kTokens}, MlaBlockBytes(shape, KvType::kF32), KvType::kF32, 1);
  const Exec exec(2, SupportedIsas().back());
  const SeqSpan seq = {cache.tables[0].data(), 0, 0, kTokens};
  MlaWrite(exec, {&seq, 1}, shape, {kv.data(), kTokens, kLatent + kRope}, cache.store());
  std::vector<float> z(kTokens * kHeads * kLatent);
  MlaAttention(exec, {&seq, 1}, shape, {absorbed.data(), kTokens, kHeads * (kLatent + kRope)},
               cache.store(), {z.data(), kTokens, kHeads * kLatent});

  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t h = 0; h < kHeads; ++h) {
      const float* query = q.data() + (t * kHeads + h) * (kNope + kRope);
      std::vector<double> weight;
      double sum = 0;
      for (int64_t j = 0; j <= t; ++j) {
        const float* row = kv.data() + j * (kLatent + kRope);
        double score = 0;
        for (int64_t d = 0; d < kNope; ++d) {
          double key = 0;
          for (int64_t l = 0; l < kLatent; ++l) {
            key += double{up_k[static_cast<size_t>((h * kNope + d) * kLatent + l)]} * row[l];
          }
          score += query[d] * key;
        }
        for (int64_t d = 0; d < kRope; ++d) score += double{query[kNope + d]} * row[kLatent + d];
        weight.push_back(std::exp(0.2 * score));
        sum += weight.back();
      }
      for (int64_t v = 0; v < kV; ++v) {
        double want = 0, got = 0;
        for (int64_t l = 0; l < kLatent; ++l) {
          const double b = up_v[static_cast<size_t>((h * kV + v) * kLatent + l)];
          for (int64_t j = 0; j <= t; ++j) {
            want += weight[static_cast<size_t>(j)] / sum * b *
                    kv[static_cast<size_t>(j * (kLatent + kRope) + l)];
          }
          got += b * z[static_cast<size_t>((t * kHeads + h) * kLatent + l)];
        }
        EXPECT_NEAR(got, want, 1e-5);
      }
    }
  }
}

// NaN in the keys or values of token 20 reaches the rows from 20 on, and no other sequence.
TEST(GqaAttention, NaNStaysWithTheRowsThatSeeIt) {
  const Case c = {.mla = false,
                  .gqa = {.heads = 2, .kv_heads = 1, .k_dim = 16, .v_dim = 16, .scale = 0.25f},
                  .latent = {},
                  .lengths = {40, 25}};
  Inputs in(c);
  const std::vector<float> clean = Attend(nullptr, c, in, 0, 1);
  for (const bool in_value : {false, true}) {
    Inputs bad = in;
    (in_value ? bad.v : bad.k)[20 * 16 + 3] = kNaN;
    bad.q[5 * 32] = std::numeric_limits<float>::infinity();
    for (const Isa isa : SupportedIsas()) {
      const Exec exec(2, isa);
      const std::vector<float> got = Attend(&exec, c, bad, 0, 2);
      EXPECT_TRUE(SameBits(Attend(nullptr, c, bad, 0, 1), got));
      for (int64_t t = 0; t < 65; ++t) {
        if (t >= 20 && t < 40) {
          EXPECT_TRUE(std::isnan(got[static_cast<size_t>(t * 32 + 3)])) << t;
        } else if (t != 5) {
          EXPECT_TRUE(SameBits({clean.begin() + t * 32, clean.begin() + (t + 1) * 32},
                               {got.begin() + t * 32, got.begin() + (t + 1) * 32}))
              << t;
        }
      }
    }
  }
}

TEST(GqaAttention, NoRowsDoNothing) {
  const Exec exec(2, SupportedIsas().back());
  const GqaShape shape = {.heads = 2, .kv_heads = 1, .k_dim = 16, .v_dim = 16, .scale = 1};
  const SeqSpan empty = {nullptr, 0, 0, 0};
  float guard = 7;
  GqaAttention(exec, {}, shape, {nullptr, 0, 32}, {}, {&guard, 0, 32});
  GqaAttention(exec, {&empty, 1}, shape, {nullptr, 0, 32}, {}, {&guard, 0, 32});
  GqaWrite(exec, {&empty, 1}, shape, {nullptr, 0, 16}, {nullptr, 0, 16}, {});
  EXPECT_EQ(guard, 7);
}

TEST(KvStore, BytesOfABlock) {
  EXPECT_EQ(GqaBlockBytes({.heads = 9, .kv_heads = 3, .k_dim = 64, .v_dim = 64, .scale = 1},
                          KvType::kF16),
            3 * 16 * 128 * 2);
  EXPECT_EQ(MlaBlockBytes({.heads = 16, .latent = 512, .rope = 64, .scale = 1}, KvType::kF32),
            16 * 576 * 4);
}

TEST(KvStore, WriteRoundsTheSameOnEveryIsa) {
  const GqaShape shape = {.heads = 1, .kv_heads = 1, .k_dim = 64, .v_dim = 64, .scale = 1};
  std::vector<float> k = Random(64, 8), v = Random(64, 9, 1e-5f);
  k[0] = kNaN, k[1] = -kNaN, k[2] = 1e30f, k[3] = -1e-30f, k[4] = 65519.996f, k[5] = 65520.0f;
  k[6] = std::bit_cast<float>(0x7fabcdefu);
  for (const Isa isa : SupportedIsas()) {
    const Exec exec(1, isa);
    Cache cache({1}, GqaBlockBytes(shape, KvType::kF16), KvType::kF16, 1);
    const SeqSpan seq = {cache.tables[0].data(), 0, 0, 1};
    GqaWrite(exec, {&seq, 1}, shape, {k.data(), 1, 64}, {v.data(), 1, 64}, cache.store());
    const auto* stored = cache.memory.as<uint16_t>();
    for (size_t d = 0; d < 64; ++d) {
      EXPECT_EQ(stored[d * 16], F32ToF16(k[d])) << IsaName(isa) << d;
      EXPECT_EQ(stored[16 * 64 + d], F32ToF16(v[d])) << IsaName(isa) << d;
      EXPECT_EQ(stored[d * 16 + 1], 0x7e00);
    }
  }
}

TEST(GqaAttention, SteadyStateTakesNoNewScratch) {
  const Case c = {.mla = false,
                  .gqa = {.heads = 4, .kv_heads = 2, .k_dim = 32, .v_dim = 32, .scale = 0.2f},
                  .latent = {},
                  .lengths = {100}};
  const Inputs in(c);
  const Exec exec(2, SupportedIsas().back());
  Attend(&exec, c, in, 10, 1);
  const auto capacities = [&] {
    return std::vector<size_t>{exec.shared().capacity(), exec.scratch(0).capacity()};
  };
  const std::vector<size_t> before = capacities();
  Attend(&exec, c, in, 10, 2);
  EXPECT_EQ(before, capacities());
}

}  // namespace
}  // namespace hadal
