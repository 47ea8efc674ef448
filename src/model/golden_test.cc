// Against transformers: tools/golden/make_models.py made the checkpoints and the expected values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "formats/weight_file.h"
#include "model/model.h"
#include "tensor/quant.h"

namespace hadal {
namespace {

constexpr double kTolerance = 1e-4;
constexpr int kPrompts = 3;

const Exec& TestExec() {
  static const Exec exec(2, SupportedIsas().back());
  return exec;
}

struct Golden {
  std::vector<int32_t> prompt;
  std::vector<float> logprobs;      // [T, V]
  std::vector<int32_t> routing;     // [MoE layers, T, top_k], ids in ascending order
  std::vector<float> mtp_logprobs;  // [T - 1, V] or empty
};

template <typename T>
std::vector<T> ReadTensor(const WeightFile& file, const std::string& name) {
  const TensorInfo* t = file.Find(name);
  if (t == nullptr) return {};
  std::vector<T> out(t->bytes.size() / sizeof(T));
  std::memcpy(out.data(), t->bytes.data(), t->bytes.size());
  return out;
}

struct Case {
  std::unique_ptr<Model> model;
  std::vector<Golden> golden;
};

Case Open(const std::string& name) {
  const std::string stem = "src/model/testdata/" + name;
  Case c;
  Result<WeightFile> file = WeightFile::Open(stem);
  EXPECT_TRUE(file.ok()) << (file.ok() ? "" : file.error().message);
  if (!file.ok()) return c;
  Result<std::unique_ptr<Model>> model = Model::Load(TestExec(), *file);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
  if (!model.ok()) return c;
  c.model = std::move(model).value();
  Result<WeightFile> values = WeightFile::Open(stem + ".golden.safetensors");
  EXPECT_TRUE(values.ok()) << (values.ok() ? "" : values.error().message);
  if (!values.ok()) return c;
  for (int i = 0; i < kPrompts; ++i) {
    std::string at = ".";
    at += std::to_string(i);
    c.golden.push_back({ReadTensor<int32_t>(*values, "prompt" + at),
                        ReadTensor<float>(*values, "logprobs" + at),
                        ReadTensor<int32_t>(*values, "routing" + at),
                        ReadTensor<float>(*values, "mtp_logprobs" + at)});
  }
  return c;
}

// A cache whose blocks are handed out back to front.
struct Cache {
  explicit Cache(const ModelConfig& config) : kv(config, KvType::kF32, 4), table{3, 2, 1, 0} {}
  KvCache kv;
  std::vector<int32_t> table;
};

double WorstLogprob(View2<const float> logits, const float* expected) {
  double worst = 0;
  for (int64_t r = 0; r < logits.rows; ++r) {
    const float* row = logits.row(r);
    const double top = *std::max_element(row, row + logits.cols);
    double sum = 0;
    for (int64_t v = 0; v < logits.cols; ++v) sum += std::exp(row[v] - top);
    const double shift = top + std::log(sum);
    for (int64_t v = 0; v < logits.cols; ++v) {
      const double difference = std::fabs(row[v] - shift - expected[r * logits.cols + v]);
      worst = std::isnan(difference) ? 1e9 : std::max(worst, difference);
    }
  }
  return worst;
}

// Runs a prompt in chunks; `absorbed_from`: tokens from there on run in the absorbed form.
struct Schedule {
  const char* name;
  int64_t chunk;
  int64_t absorbed_from;
};

void Check(Case& c, const Golden& g, const Schedule& schedule) {
  SCOPED_TRACE(schedule.name);
  const ModelConfig& config = c.model->config();
  Cache cache(config);
  const auto total = static_cast<int64_t>(g.prompt.size());
  std::vector<std::vector<int32_t>> routing;
  double worst = 0;
  for (int64_t at = 0; at < total;) {
    int64_t n = std::min(schedule.chunk, total - at);
    const bool expanded = at < schedule.absorbed_from;
    if (expanded) n = std::min(n, schedule.absorbed_from - at);
    SeqInput seq;
    seq.blocks = cache.table.data();
    seq.start = at;
    seq.tokens = std::span(g.prompt).subspan(static_cast<size_t>(at), static_cast<size_t>(n));
    seq.expanded = expanded;
    seq.logits = n;
    RoutingTrace trace;
    const ForwardResult r = c.model->Forward({&seq, 1}, cache.kv, &trace);
    ASSERT_EQ(r.logits.rows, n);
    for (const int32_t bad : r.bad_layer) EXPECT_EQ(bad, -1);
    worst = std::max(worst, WorstLogprob(r.logits, g.logprobs.data() + at * config.vocab));
    routing.resize(trace.ids.size());
    for (size_t l = 0; l < routing.size(); ++l) {
      routing[l].insert(routing[l].end(), trace.ids[l].begin(), trace.ids[l].end());
    }
    at += n;
  }
  EXPECT_LT(worst, kTolerance);

  std::vector<int32_t> flat;
  const auto k = static_cast<std::ptrdiff_t>(std::max<int64_t>(1, config.gate.top_k));
  for (std::vector<int32_t>& ids : routing) {
    for (auto it = ids.begin(); it != ids.end(); it += k) std::sort(it, it + k);
    flat.insert(flat.end(), ids.begin(), ids.end());
  }
  EXPECT_EQ(flat, g.routing);
}

class GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, EveryScheduleGivesTheLogProbabilitiesAndRoutingOfTransformers) {
  Case c = Open(GetParam());
  ASSERT_EQ(c.golden.size(), kPrompts);
  const Schedule schedules[] = {
      {"whole", 1000, 1000},
      {"chunks of 1, expanded", 1, 1000},
      {"chunks of 3", 3, 1000},
      {"chunks of 7", 7, 1000},
      {"decode after 5", 1, 5},
      {"chunks of 7, absorbed after 20", 7, 20},
      {"absorbed from the start", 1000, 0},
  };
  for (const Golden& g : c.golden) {
    SCOPED_TRACE("prompt of " + std::to_string(g.prompt.size()));
    for (const Schedule& s : schedules) Check(c, g, s);
  }
}

INSTANTIATE_TEST_SUITE_P(Archs, GoldenTest,
                         testing::Values("deepseek_v3", "deepseek_v2", "deepseek_v2_lite",
                                         "deepseek_v3_fp8", "deepseek_v3_fp8_heads", "llama",
                                         "qwen2", "qwen3", "mixtral"),
                         [](const auto& info) { return std::string(info.param); });

// Several prompts in one batch, each in the form its own schedule says.
TEST(GoldenBatchTest, NeighboursInABatchDoNotMatter) {
  Case c = Open("deepseek_v3");
  ASSERT_EQ(c.golden.size(), kPrompts);
  const ModelConfig& config = c.model->config();
  const KvCache kv(config, KvType::kF32, 6);
  const std::vector<int32_t> tables[] = {{5}, {4, 2}, {0, 1, 3}};
  const bool expanded[] = {true, false, true};
  SeqInput seqs[kPrompts];
  for (size_t i = 0; i < kPrompts; ++i) {
    seqs[i].blocks = tables[i].data();
    seqs[i].tokens = c.golden[i].prompt;
    seqs[i].expanded = expanded[i];
    seqs[i].logits = static_cast<int64_t>(c.golden[i].prompt.size());
  }
  const ForwardResult r = c.model->Forward(seqs, kv);
  int64_t row = 0;
  for (const Golden& g : c.golden) {
    const auto n = static_cast<int64_t>(g.prompt.size());
    EXPECT_LT(WorstLogprob(r.logits.Rows(row, n), g.logprobs.data()), kTolerance);
    row += n;
  }
}

TEST(GoldenMtpTest, LogProbabilitiesOfTheTokenAfterTheNext) {
  Case c = Open("deepseek_v3");
  ASSERT_EQ(c.golden.size(), kPrompts);
  const ModelConfig& config = c.model->config();
  ASSERT_EQ(config.mtp_layers, 1);
  for (const Golden& g : c.golden) {
    if (g.mtp_logprobs.empty()) continue;
    Cache cache(config);
    const auto total = static_cast<int64_t>(g.prompt.size());
    SeqInput seq;
    seq.blocks = cache.table.data();
    seq.tokens = g.prompt;
    seq.logits = total;
    const ForwardResult main = c.model->Forward({&seq, 1}, cache.kv);
    // All but the last position at once, then the last alone from the cache and absorbed.
    const int64_t first = total - 2;
    seq.tokens = std::span(g.prompt).subspan(1, static_cast<size_t>(first));
    seq.logits = first;
    if (first > 0) {
      const ForwardResult r = c.model->ForwardMtp({&seq, 1}, main.hidden.Rows(0, first), cache.kv);
      EXPECT_LT(WorstLogprob(r.logits, g.mtp_logprobs.data()), kTolerance);
    }
    seq.start = first;
    seq.tokens = std::span(g.prompt).subspan(static_cast<size_t>(total - 1), 1);
    seq.logits = 1;
    seq.expanded = false;
    const ForwardResult r = c.model->ForwardMtp({&seq, 1}, main.hidden.Rows(first, 1), cache.kv);
    EXPECT_LT(WorstLogprob(r.logits, g.mtp_logprobs.data() + first * config.vocab), kTolerance);
    // The main model's results outlive the draft.
    EXPECT_LT(WorstLogprob(main.logits, g.logprobs.data()), kTolerance);
  }
}

}  // namespace
}  // namespace hadal
