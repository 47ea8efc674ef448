// The same weights under GGUF names load to the same model; what is wrong with a file is named.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "formats/weight_file.h"
#include "formats/writer.h"
#include "model/model.h"
#include "tensor/quant.h"

namespace hadal {
namespace {

const Exec& TestExec() {
  static const Exec exec(2, SupportedIsas().back());
  return exec;
}

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

std::vector<float> Widen(const TensorInfo& t) {
  std::vector<float> out(static_cast<size_t>(t.elements()));
  Dequantize(t.type, t.bytes.data(), out.data(), t.elements());
  return out;
}

// Rows of each head from halves to pairs, as GGUF wants llama's q and k.
void PairRows(Tensor& t, int64_t head_dim) {
  const std::vector<float> from = t.values;
  const int64_t cols = t.shape[1], half = head_dim / 2;
  for (int64_t row = 0; row < t.shape[0]; ++row) {
    const int64_t head = row / head_dim, i = row % head_dim;
    const int64_t source = head * head_dim + i / 2 + (i % 2) * half;
    std::copy_n(from.begin() + source * cols, cols, t.values.begin() + row * cols);
  }
}

// kv_b of all heads into the transposed keys and the values that newer files hold.
std::vector<Tensor> SplitKvB(const Tensor& t, const ModelConfig& c) {
  const std::string stem = t.name.substr(0, t.name.find("kv_b"));
  Tensor k{stem + "k_b.weight", {c.heads, c.latent, c.nope_dim}, {}};
  Tensor v{stem + "v_b.weight", {c.heads, c.v_dim, c.latent}, {}};
  for (int64_t h = 0; h < c.heads; ++h) {
    const float* head = t.values.data() + h * (c.nope_dim + c.v_dim) * c.latent;
    for (int64_t l = 0; l < c.latent; ++l) {
      for (int64_t n = 0; n < c.nope_dim; ++n) k.values.push_back(head[n * c.latent + l]);
    }
    v.values.insert(v.values.end(), head + c.nope_dim * c.latent,
                    head + (c.nope_dim + c.v_dim) * c.latent);
  }
  return {k, v};
}

std::vector<Tensor> GgufTensors(const WeightFile& file, const ModelConfig& c, bool split_kv_b) {
  std::vector<Tensor> out;
  const bool pairs = c.arch == Arch::kLlama || c.arch == Arch::kMixtral;
  for (const ParamSpec& spec : ListParams(c)) {
    Tensor t{spec.gguf_name, spec.shape, Widen(*file.Find(spec.name))};
    if (pairs && (spec.name.ends_with("q_proj.weight") || spec.name.ends_with("k_proj.weight"))) {
      PairRows(t, c.head_dim);
    }
    if (spec.expert > 0) {
      out.back().values.insert(out.back().values.end(), t.values.begin(), t.values.end());
    } else if (spec.expert == 0) {
      t.shape.insert(t.shape.begin(), c.gate.experts);
      out.push_back(t);
    } else if (split_kv_b && spec.gguf_name.ends_with("attn_kv_b.weight")) {
      for (Tensor& part : SplitKvB(t, c)) out.push_back(std::move(part));
    } else {
      out.push_back(std::move(t));
    }
  }
  return out;
}

MetaValue U(int64_t v) { return {4, 0, static_cast<uint64_t>(v)}; }
MetaValue F(double v) { return {6, 0, static_cast<double>(static_cast<float>(v))}; }
MetaValue S(std::string v) { return {8, 0, std::move(v)}; }

Metadata GgufMetadata(const ModelConfig& c) {
  const std::string name = c.mla()                    ? "deepseek2"
                           : c.arch == Arch::kMixtral ? "llama"
                                                      : std::string(ArchName(c.arch));
  Metadata m = {{"general.architecture", S(name)}};
  const std::string at = name + ".";
  m[at + "block_count"] = U(c.layers + c.mtp_layers);
  m[at + "nextn_predict_layers"] = U(c.mtp_layers);
  m[at + "context_length"] = U(c.context);
  m[at + "embedding_length"] = U(c.width);
  m[at + "feed_forward_length"] = U(c.ffn);
  m[at + "vocab_size"] = U(c.vocab);
  m[at + "attention.head_count"] = U(c.heads);
  m[at + "attention.head_count_kv"] = U(c.mla() ? 1 : c.kv_heads);
  m[at + "attention.layer_norm_rms_epsilon"] = F(c.norm_eps);
  m[at + "rope.freq_base"] = F(c.rope_base);
  if (c.gate.experts > 0) {
    m[at + "expert_count"] = U(c.gate.experts);
    m[at + "expert_used_count"] = U(c.gate.top_k);
  }
  if (!c.mla()) {
    m[at + "attention.key_length"] = U(c.head_dim);
    m[at + "attention.value_length"] = U(c.head_dim);
    return m;
  }
  if (c.q_latent > 0) m[at + "attention.q_lora_rank"] = U(c.q_latent);
  m[at + "attention.kv_lora_rank"] = U(c.latent);
  m[at + "attention.key_length_mla"] = U(c.q_head_dim());
  m[at + "attention.value_length_mla"] = U(c.v_dim);
  m[at + "rope.dimension_count"] = U(c.rope_dim);
  m[at + "rope.scaling.type"] = S("yarn");
  m[at + "rope.scaling.factor"] = F(c.rope_scaling.factor);
  m[at + "rope.scaling.original_context_length"] = U(c.rope_scaling.original_context);
  m[at + "rope.scaling.yarn_log_multiplier"] = F(0.1 * c.rope_scaling.mscale_all_dim);
  m[at + "leading_dense_block_count"] = U(c.dense_layers);
  m[at + "expert_feed_forward_length"] = U(c.expert_ffn);
  m[at + "expert_shared_count"] = U(c.shared_experts);
  m[at + "expert_group_count"] = U(c.gate.groups);
  m[at + "expert_group_used_count"] = U(c.gate.top_groups);
  m[at + "expert_weights_scale"] = F(c.gate.scale);
  m[at + "expert_weights_norm"] = {7, 0, c.gate.normalise};
  m[at + "expert_gating_func"] = U(c.gate.score == GateShape::Score::kSigmoid ? 2 : 1);
  return m;
}

class LoadTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = (std::filesystem::temp_directory_path() /
             ("hadal_load_test_" + std::to_string(::getpid()) + ".gguf"))
                .string();
  }
  void TearDown() override { std::filesystem::remove(path_); }

  void Write(const Metadata& metadata, const std::vector<Tensor>& tensors) {
    std::vector<TensorSpec> specs;
    for (const Tensor& t : tensors) specs.push_back({t.name, DType::kF32, t.shape});
    const Status written =
        WriteGguf(path_, metadata, specs, [&](size_t i, std::span<std::byte> out) -> Status {
          std::memcpy(out.data(), tensors[i].values.data(), out.size());
          return {};
        });
    ASSERT_TRUE(written.ok()) << written.error().message;
  }

  Result<std::unique_ptr<Model>> Load(const LoadOptions& options = {}) {
    Result<WeightFile> file = WeightFile::Open(path_);
    if (!file.ok()) return file.error();
    return Model::Load(TestExec(), *file, options);
  }

  std::string path_;
};

std::vector<float> Logits(Model& model, bool expanded) {
  const KvCache cache(model.config(), KvType::kF32, 2);
  const int32_t table[] = {1, 0};
  std::vector<int32_t> tokens;
  for (int32_t t = 0; t < 20; ++t) tokens.push_back(t * 7 % 64);
  SeqInput seq;
  seq.blocks = table;
  seq.tokens = tokens;
  seq.expanded = expanded;
  seq.logits = 20;
  const ForwardResult r = model.Forward({&seq, 1}, cache);
  return {r.logits.data, r.logits.data + r.logits.rows * r.logits.cols};
}

double Difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = a.size() == b.size() ? 0 : 1e9;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return worst;
}

TEST_F(LoadTest, GgufNamesGiveTheSameModel) {
  struct Row {
    const char* name;
    bool split_kv_b;
    double tolerance;  // pairs are summed in another order than halves
  };
  const Row rows[] = {{"deepseek_v3", false, 0},
                      {"deepseek_v3", true, 0},
                      {"mixtral", false, 1e-4},
                      {"qwen2", false, 0},
                      {"qwen3", false, 0}};
  for (const Row& row : rows) {
    SCOPED_TRACE(std::string(row.name) + (row.split_kv_b ? ", kv_b split" : ""));
    const Result<WeightFile> folder =
        WeightFile::Open(std::string("src/model/testdata/") + row.name);
    ASSERT_TRUE(folder.ok()) << folder.error().message;
    const Result<std::unique_ptr<Model>> expected = Model::Load(TestExec(), *folder);
    ASSERT_TRUE(expected.ok()) << expected.error().message;
    const ModelConfig& c = (*expected)->config();
    Write(GgufMetadata(c), GgufTensors(*folder, c, row.split_kv_b));
    const Result<std::unique_ptr<Model>> loaded = Load();
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    EXPECT_EQ((*loaded)->config().arch, c.arch);
    EXPECT_EQ((*loaded)->config().mtp_layers, c.mtp_layers);
    for (const bool expanded : {true, false}) {
      EXPECT_LE(Difference(Logits(**loaded, expanded), Logits(**expected, expanded)),
                row.tolerance);
    }
  }
}

TEST_F(LoadTest, WhatIsWrongIsNamed) {
  const Result<WeightFile> folder = WeightFile::Open("src/model/testdata/deepseek_v3");
  ASSERT_TRUE(folder.ok()) << folder.error().message;
  const Result<ModelConfig> config = ModelConfig::FromFile(*folder);
  ASSERT_TRUE(config.ok()) << config.error().message;
  const std::vector<Tensor> good = GgufTensors(*folder, *config, false);
  struct Row {
    const char* tensor;
    std::function<void(Tensor&)> spoil;
    Code code;
    std::vector<const char*> said;
  };
  const Row rows[] = {
      {"blk.1.attn_q_a.weight",
       [](Tensor& t) { t.name = "blk.1.attn_q_c.weight"; },
       Code::kNotFound,
       {"blk.1.attn_q_a.weight", "missing"}},
      {"blk.2.attn_output.weight",
       [](Tensor& t) {
         t.shape = {24, 48};
         t.values.resize(24 * 48);
       },
       Code::kCorrupt,
       {"blk.2.attn_output.weight", "[24,48]", "[48,48]"}},
      {"blk.1.ffn_up_exps.weight",
       [](Tensor& t) {
         t.shape[0] = 11;
         t.values.resize(11 * 8 * 48);
       },
       Code::kCorrupt,
       {"blk.1.ffn_up_exps.weight", "[11,8,48]", "[12,8,48]"}},
      {"blk.0.attn_norm.weight",
       [](Tensor& t) { t.values[3] = std::nanf(""); },
       Code::kNumeric,
       {"input_layernorm", "NaN"}},
      {"blk.0.ffn_down.weight",
       [](Tensor& t) { t.values[65] = HUGE_VALF; },
       Code::kNumeric,
       {"model.layers.0.mlp.down_proj"}},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.tensor);
    std::vector<Tensor> tensors = good;
    const auto it = std::find_if(tensors.begin(), tensors.end(),
                                 [&](const Tensor& t) { return t.name == row.tensor; });
    ASSERT_NE(it, tensors.end());
    row.spoil(*it);
    Write(GgufMetadata(*config), tensors);
    const Result<std::unique_ptr<Model>> loaded = Load();
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().code, row.code);
    for (const char* text : row.said) {
      EXPECT_NE(loaded.error().message.find(text), std::string::npos) << loaded.error().message;
    }
  }
}

TEST_F(LoadTest, MtpLayerMayBeAbsent) {
  const Result<WeightFile> folder = WeightFile::Open("src/model/testdata/deepseek_v3");
  ASSERT_TRUE(folder.ok()) << folder.error().message;
  ModelConfig c = *ModelConfig::FromFile(*folder);
  c.mtp_layers = 0;
  Metadata metadata = GgufMetadata(c);
  metadata["deepseek2.block_count"] = U(c.layers + 1);
  metadata["deepseek2.nextn_predict_layers"] = U(1);
  Write(metadata, GgufTensors(*folder, c, false));
  const Result<std::unique_ptr<Model>> loaded = Load();
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ((*loaded)->config().mtp_layers, 0);
}

TEST_F(LoadTest, ProgressReachesTheEndAndCancels) {
  const Result<WeightFile> folder = WeightFile::Open("src/model/testdata/qwen2");
  ASSERT_TRUE(folder.ok()) << folder.error().message;
  struct Seen {
    int64_t done = 0, total = 0, stop_at = INT64_MAX;
  } seen;
  LoadOptions options;
  options.progress_user = &seen;
  options.progress = [](void* user, int64_t done, int64_t total) {
    auto& s = *static_cast<Seen*>(user);
    EXPECT_GE(done, s.done);
    s.done = done;
    s.total = total;
    return done < s.stop_at;
  };
  EXPECT_TRUE(Model::Load(TestExec(), *folder, options).ok());
  EXPECT_EQ(seen.done, seen.total);
  seen = {0, 0, 1000};
  const Result<std::unique_ptr<Model>> cancelled = Model::Load(TestExec(), *folder, options);
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().code, Code::kCancelled);
  EXPECT_LT(seen.done, seen.total);
}

TEST_F(LoadTest, FewerLayersOnRequest) {
  const Result<WeightFile> folder = WeightFile::Open("src/model/testdata/llama");
  ASSERT_TRUE(folder.ok()) << folder.error().message;
  LoadOptions options;
  options.max_layers = 1;
  const Result<std::unique_ptr<Model>> model = Model::Load(TestExec(), *folder, options);
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ((*model)->config().layers, 1);
  EXPECT_EQ(Logits(**model, true).size(), 20u * 192u);
}

// "The capital of France is" goes on with " Paris": a published file, read as it is.
TEST(RealFileTest, SmolLm2KnowsParis) {
  const char* path = std::getenv("HADAL_SMOLLM2");
  if (path == nullptr) GTEST_SKIP() << "HADAL_SMOLLM2 does not name the GGUF file";
  const Result<WeightFile> file = WeightFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.error().message;
  const Result<std::unique_ptr<Model>> model = Model::Load(TestExec(), *file);
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(Count((*model)->config()).total_parameters, 134515008);
  const KvCache cache((*model)->config(), KvType::kF16, 1);
  const int32_t table[] = {0};
  const int32_t tokens[] = {504, 3575, 282, 4649, 314};
  SeqInput seq;
  seq.blocks = table;
  seq.tokens = tokens;
  const ForwardResult r = (*model)->Forward({&seq, 1}, cache);
  const float* row = r.logits.row(0);
  EXPECT_EQ(std::max_element(row, row + r.logits.cols) - row, 7042);
}

}  // namespace
}  // namespace hadal
