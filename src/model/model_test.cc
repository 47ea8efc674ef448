// Bits do not depend on the company a token keeps; errors name what is wrong; steps do not
// allocate.
#include "model/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>
#include <string>
#include <vector>

#include "base/rng.h"
#include "formats/weight_file.h"
#include "formats/writer.h"
#include "tensor/quant.h"

namespace {
std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};

void* Counted(size_t size) {
  if (counting.load(std::memory_order_relaxed)) ++allocations;
  void* p = std::malloc(size);
  if (p == nullptr) std::abort();
  return p;
}
}  // namespace

void* operator new(size_t size) { return Counted(size); }
void* operator new[](size_t size) { return Counted(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }

namespace hadal {
namespace {

// Widths of 256, so that every block type divides them.
ModelConfig Tiny(Arch arch) {
  ModelConfig c;
  c.arch = arch;
  c.layers = 2;
  c.width = 256;
  c.vocab = 48;
  c.context = 1024;
  c.heads = c.kv_heads = 2;
  c.head_dim = 128;
  c.ffn = 256;
  switch (arch) {
    case Arch::kLlama:
      c.heads = 4;
      c.head_dim = 64;
      break;
    case Arch::kQwen2:
      c.qkv_bias = true;
      c.tied_embeddings = true;
      break;
    case Arch::kQwen3:
      c.qk_norm = true;
      break;
    case Arch::kMixtral:
      c.gate.experts = 4;
      c.gate.top_k = 2;
      c.gate.normalise = true;
      c.expert_ffn = 256;
      break;
    case Arch::kDeepseekV2:
    case Arch::kDeepseekV3:
      c.head_dim = 0;
      c.latent = 256;
      c.nope_dim = 32;
      c.rope_dim = 16;
      c.v_dim = 128;
      c.rope_interleaved = true;
      c.dense_layers = 1;
      c.gate = {8, 2, 4, 2};
      c.gate.scale = 2.5f;
      c.expert_ffn = 256;
      c.shared_experts = 1;
      break;
  }
  if (arch == Arch::kDeepseekV3) {
    c.q_latent = 256;
    c.gate_bias = true;
    c.gate.score = GateShape::Score::kSigmoid;
    c.gate.group_score = GateShape::GroupScore::kTop2Sum;
    c.gate.normalise = true;
    c.mtp_layers = 1;
  }
  return c;
}

constexpr Arch kArchs[] = {Arch::kLlama,   Arch::kQwen2,      Arch::kQwen3,
                           Arch::kMixtral, Arch::kDeepseekV2, Arch::kDeepseekV3};

std::vector<int32_t> Tokens(const ModelConfig& c, int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> out(static_cast<size_t>(n));
  for (int32_t& t : out) t = static_cast<int32_t>(rng.Below(static_cast<uint64_t>(c.vocab)));
  return out;
}

std::unique_ptr<Model> MakeModel(const Exec& exec, const ModelConfig& config, DType type) {
  Result<std::unique_ptr<Model>> model = Model::Random(exec, config, type, 7);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
  return std::move(model).value();
}

// The logits of a prompt's last token, then of three tokens decoded one by one.
struct Answer {
  std::vector<float> logits;
  bool operator==(const Answer& o) const {
    return logits.size() == o.logits.size() &&
           std::memcmp(logits.data(), o.logits.data(), logits.size() * sizeof(float)) == 0;
  }
};
constexpr int64_t kDecoded = 3;

// `others` further sequences of differing lengths share every step of the sequence looked at.
Answer Reply(Model& model, const std::vector<int32_t>& tokens, int64_t chunk, int64_t others) {
  const ModelConfig& c = model.config();
  const auto total = static_cast<int64_t>(tokens.size());
  const int64_t blocks = (total + kKvBlock - 1) / kKvBlock;
  const int64_t other_blocks = 3;
  const KvCache cache(c, KvType::kF16, blocks + others * other_blocks);
  std::vector<int32_t> table;
  for (int64_t b = 0; b < blocks; ++b) table.push_back(static_cast<int32_t>(blocks - 1 - b));
  std::vector<std::vector<int32_t>> tables, texts;
  for (int64_t i = 0; i < others; ++i) {
    tables.emplace_back();
    for (int64_t b = 0; b < other_blocks; ++b) {
      tables.back().push_back(static_cast<int32_t>(blocks + i * other_blocks + b));
    }
    texts.push_back(Tokens(c, 1 + (i * 5) % 11, 100 + static_cast<uint64_t>(i)));
  }
  Answer answer;
  for (int64_t at = 0; at < total;) {
    const int64_t prompt = total - kDecoded;
    const int64_t n = at < prompt ? std::min(chunk, prompt - at) : 1;
    std::vector<SeqInput> seqs(static_cast<size_t>(others + 1));
    for (int64_t i = 0; i < others; ++i) {
      SeqInput& s = seqs[static_cast<size_t>(i < others / 2 ? i : i + 1)];
      s.blocks = tables[static_cast<size_t>(i)].data();
      s.tokens = texts[static_cast<size_t>(i)];
      s.expanded = i % 3 != 0;
    }
    SeqInput& mine = seqs[static_cast<size_t>(others / 2)];
    mine.blocks = table.data();
    mine.start = at;
    mine.tokens = std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(n));
    mine.expanded = at < prompt;
    mine.logits = at + n >= prompt ? 1 : 0;
    const ForwardResult r = model.Forward(seqs, cache);
    if (mine.logits == 1) {
      const float* row = r.logits.row(others / 2);
      answer.logits.insert(answer.logits.end(), row, row + c.vocab);
    }
    at += n;
  }
  return answer;
}

class BitwiseTest : public testing::TestWithParam<DType> {};

TEST_P(BitwiseTest, ThreadsBatchChunkAndIsaDoNotMatter) {
  for (const Arch arch : kArchs) {
    SCOPED_TRACE(ArchName(arch));
    const ModelConfig config = Tiny(arch);
    const std::vector<int32_t> tokens = Tokens(config, 70 + kDecoded, 1);
    const Isa best = SupportedIsas().back();
    const Exec exec(2, best);
    const auto model = MakeModel(exec, config, GetParam());
    const Answer expected = Reply(*model, tokens, 1000, 0);
    for (const float v : expected.logits) ASSERT_TRUE(std::isfinite(v));
    for (const int64_t chunk : {1, 64}) {
      EXPECT_TRUE(Reply(*model, tokens, chunk, 0) == expected) << "chunk " << chunk;
    }
    for (const int64_t batch : {7, 32}) {
      EXPECT_TRUE(Reply(*model, tokens, 64, batch - 1) == expected) << "batch " << batch;
    }
    for (const int threads : {1, 3}) {
      const Exec other(threads, best);
      EXPECT_TRUE(Reply(*MakeModel(other, config, GetParam()), tokens, 64, 0) == expected)
          << threads << " threads";
    }
    for (const Isa isa : SupportedIsas()) {
      if (isa == best) continue;
      const Exec other(2, isa);
      EXPECT_TRUE(Reply(*MakeModel(other, config, GetParam()), tokens, 64, 0) == expected)
          << IsaName(isa);
    }
  }
}

// Sanitizers see one type without blocks and one with: every type is for release.
#ifdef __SANITIZE_ADDRESS__
constexpr DType kBitwiseTypes[] = {DType::kF32, DType::kQ4_K};
#else
constexpr DType kBitwiseTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,
                                   DType::kQ8_0, DType::kQ4_0, DType::kQ4_K};
#endif
INSTANTIATE_TEST_SUITE_P(Types, BitwiseTest, testing::ValuesIn(kBitwiseTypes),
                         [](const auto& info) { return std::string(Info(info.param).name); });

// A prompt longer than the engine's chunk and than a tile of expanded keys.
TEST(LongPromptTest, ChunksOf1And64And512GiveTheSameBits) {
  for (const Arch arch : {Arch::kLlama, Arch::kDeepseekV3}) {
    SCOPED_TRACE(ArchName(arch));
    ModelConfig config = Tiny(arch);
    config.layers = 2;
    config.ffn = config.expert_ffn = 64;
    const Exec exec(2, SupportedIsas().back());
    const auto model = MakeModel(exec, config, DType::kF16);
    const std::vector<int32_t> tokens = Tokens(config, 600 + kDecoded, 2);
    const Answer expected = Reply(*model, tokens, 512, 0);
    EXPECT_TRUE(Reply(*model, tokens, 64, 0) == expected);
    if (arch == Arch::kLlama) {
      EXPECT_TRUE(Reply(*model, tokens, 1, 0) == expected);
    }
  }
}

TEST(ForwardTest, SecondStepOfASizeAllocatesNothing) {
  for (const Arch arch : kArchs) {
    SCOPED_TRACE(ArchName(arch));
    const ModelConfig config = Tiny(arch);
    const Exec exec(2, SupportedIsas().back());
    const auto model = MakeModel(exec, config, DType::kQ8_0);
    const KvCache cache(config, KvType::kF16, 8);
    const std::vector<int32_t> tokens = Tokens(config, 40, 3);
    const int32_t tables[2][3] = {{0, 1, 2}, {3, 4, 5}};
    SeqInput seqs[2];
    for (int i = 0; i < 2; ++i) {
      seqs[i].blocks = tables[i];
      seqs[i].tokens = tokens;
    }
    model->Forward(seqs, cache);
    for (int i = 0; i < 2; ++i) {
      seqs[i].tokens = std::span(tokens).first(1);
      seqs[i].expanded = false;
    }
    for (int64_t step = 0; step < 4; ++step) {
      seqs[0].start = seqs[1].start = 40 + step;
      allocations = 0;
      counting = step > 0;
      model->Forward(seqs, cache);
      counting = false;
      EXPECT_EQ(allocations.load(), 0) << "step " << step;
    }
  }
}

TEST(ForwardTest, NanIsTracedToItsLayerAndItsSequence) {
  ModelConfig config = Tiny(Arch::kLlama);
  config.layers = 3;
  const Exec exec(2, SupportedIsas().back());
  const auto model = MakeModel(exec, config, DType::kF32);
  KvCache cache(config, KvType::kF32, 4);
  const int32_t tables[2][1] = {{0}, {1}};
  const std::vector<int32_t> tokens = Tokens(config, 4, 4);
  SeqInput seqs[2];
  for (int i = 0; i < 2; ++i) {
    seqs[i].blocks = tables[i];
    seqs[i].tokens = tokens;
  }
  model->Forward(seqs, cache);
  // The second sequence's keys of layer 1 are spoilt, as by a broken cache file.
  const KvStore store = cache.layer(1);
  auto* block = reinterpret_cast<float*>(static_cast<std::byte*>(store.data) + store.block_bytes);
  std::fill_n(block, store.block_bytes / 4, std::nanf(""));
  for (SeqInput& s : seqs) {
    s.start = 4;
    s.tokens = std::span(tokens).first(1);
  }
  const ForwardResult r = model->Forward(seqs, cache);
  EXPECT_EQ(r.bad_layer[0], -1);
  EXPECT_EQ(r.bad_layer[1], 1);
  EXPECT_TRUE(std::isfinite(r.logits.row(0)[0]));
}

TEST(ForwardTest, StepsWithoutLogitsOnlyFillTheCache) {
  for (const Arch arch : {Arch::kQwen2, Arch::kDeepseekV2}) {
    const ModelConfig config = Tiny(arch);
    const Exec exec(1, SupportedIsas().back());
    const auto model = MakeModel(exec, config, DType::kF32);
    const KvCache cache(config, KvType::kF16, 2);
    const int32_t table[] = {0, 1};
    const std::vector<int32_t> tokens = Tokens(config, 20, 5);
    SeqInput seq;
    seq.blocks = table;
    seq.tokens = tokens;
    seq.logits = 0;
    EXPECT_EQ(model->Forward({&seq, 1}, cache).logits.rows, 0);
    EXPECT_EQ(model->Forward({}, cache).logits.rows, 0);
  }
}

TEST(ModelTest, BytesPerTokenCountsWhatADecodeStepReads) {
  const Exec exec(1, SupportedIsas().back());
  const ModelConfig dense = Tiny(Arch::kLlama);
  const auto llama = MakeModel(exec, dense, DType::kF32);
  const int64_t table = PackedMatrix::PackedBytes(DType::kF32, dense.vocab, dense.width);
  EXPECT_EQ(llama->bytes_per_token(), llama->weight_bytes() - table);
  const ModelConfig sparse = Tiny(Arch::kMixtral);
  const auto mixtral = MakeModel(exec, sparse, DType::kF32);
  const int64_t experts = 4 * 3 * PackedMatrix::PackedBytes(DType::kF32, 256, 256);
  EXPECT_EQ(mixtral->bytes_per_token(),
            mixtral->weight_bytes() - table - sparse.layers * experts / 2);
}

}  // namespace
}  // namespace hadal
