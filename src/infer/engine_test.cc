#include "infer/engine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "formats/writer.h"
#include "infer/internal_testing.h"
#include "model/config.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: one test file

const Exec& SharedExec() {
  static const Exec exec(2, ChooseIsa().ok() ? *ChooseIsa() : Isa::kScalar);
  return exec;
}

class EngineTest : public ::testing::Test {
 protected:
  Model& model() {
    if (!model_) model_ = TinyModel(SharedExec(), Shape::kLlama);
    return *model_;
  }
  std::unique_ptr<Model> model_;
};

// One letter a token: ids 0..127 are the characters of ASCII.
Tokenizer AsciiTokenizer() {
  TokenizerSpec spec;
  spec.model = TokenizerSpec::Model::kSpm;
  for (int i = 0; i < static_cast<int>(kVocab); ++i) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(i));
    spec.tokens.emplace_back(name);
    spec.types.push_back(6);
    spec.scores.push_back(0);
  }
  spec.add_space_prefix = false;
  auto tokenizer = Tokenizer::FromSpec(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << (tokenizer.ok() ? "" : tokenizer.error().message);
  return *std::move(tokenizer);
}

std::string SubmitError(Engine& engine, const Request& request) {
  auto id = engine.Submit(request);
  return id.ok() ? "ok" : id.error().message;
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

TEST_F(EngineTest, BadRequestsAreRefusedWithWhatAndWhere) {
  EngineOptions options;
  options.context = 64;
  auto engine = NewEngine(model(), options);
  EXPECT_HAS(SubmitError(*engine, Greedy({}, 5)), "empty");
  const std::string full = SubmitError(*engine, Greedy(std::vector<int32_t>(64, 1), 5));
  EXPECT_HAS(full, "64 tokens");
  const std::string longer = SubmitError(*engine, Greedy(std::vector<int32_t>(100, 1), 0));
  EXPECT_HAS(longer, "100 tokens");
  EXPECT_HAS(longer, "holds 64");
  EXPECT_EQ(SubmitError(*engine, Greedy(std::vector<int32_t>(64, 1), 0)), "ok");
  EXPECT_HAS(SubmitError(*engine, Greedy({1, 128}, 5)), "128 at place 1");
  EXPECT_HAS(SubmitError(*engine, Greedy({-1}, 5)), "-1");
  EXPECT_HAS(SubmitError(*engine, Greedy({1}, -2)), "max_tokens is -2");
  Request r = Greedy({1}, 5);
  r.sampling.top_p = 7;
  EXPECT_HAS(SubmitError(*engine, r), "top_p is 7");
  r = Greedy({1}, 5);
  r.stop_ids = {4, 999};
  EXPECT_HAS(SubmitError(*engine, r), "stop_ids");
  r = Greedy({1}, 5);
  r.stop_strings = {"x"};
  EXPECT_HAS(SubmitError(*engine, r), "tokenizer");
}

TEST_F(EngineTest, BadOptionsAreRefused) {
  const auto message = [&](auto change) {
    EngineOptions options;
    change(options);
    auto engine = Engine::Create(model(), nullptr, options);
    return engine.ok() ? std::string("ok") : engine.error().message;
  };
  EXPECT_HAS(message([](EngineOptions& o) { o.context = 257; }), "context is 257");
  EXPECT_HAS(message([](EngineOptions& o) { o.context = -1; }), "context is -1");
  EXPECT_HAS(message([](EngineOptions& o) { o.max_sequences = 0; }), "max_sequences is 0");
  EXPECT_HAS(message([](EngineOptions& o) { o.prefill_chunk = 0; }), "prefill_chunk is 0");
  EXPECT_HAS(message([](EngineOptions& o) { o.kv_blocks = 1 << 30; }), "memory");
  EXPECT_EQ(message([](EngineOptions& o) { o.kv_blocks = 1; }), "ok");
}

TEST_F(EngineTest, EveryEndHasItsReason) {
  EngineOptions options;
  options.context = 40;
  const Answer length = RunAlone(model(), Greedy({1, 2, 3}, 7), options);
  EXPECT_EQ(length.finish, FinishReason::kLength);
  EXPECT_EQ(length.ids.size(), 7u);

  const Answer context = RunAlone(model(), Greedy({1, 2, 3}, -1), options);
  EXPECT_EQ(context.finish, FinishReason::kContext);
  EXPECT_EQ(context.ids.size(), 37u);
  const Answer exact = RunAlone(model(), Greedy({1, 2, 3}, 37), options);
  EXPECT_EQ(exact.finish, FinishReason::kLength);
  EXPECT_EQ(exact.ids, context.ids);

  Request stop = Greedy({1, 2, 3}, -1);
  stop.sampling.logit_bias = {{9, 100.0f}};
  stop.stop_ids = {50, 9};
  const Answer stopped = RunAlone(model(), stop, options);
  EXPECT_EQ(stopped.finish, FinishReason::kStopId);
  EXPECT_EQ(stopped.ids, std::vector<int32_t>{9});

  EXPECT_EQ(FinishReasonName(FinishReason::kStopId), "stop");
  EXPECT_EQ(FinishReasonName(FinishReason::kContext), "context");
}

TEST_F(EngineTest, TheModelsOwnEosStopsUnlessIgnored) {
  model_ = TinyModel(SharedExec(), Shape::kQwen2, DType::kF32, {9, 3});
  Request r = Greedy({1}, 4);
  r.sampling.logit_bias = {{9, 100.0f}};
  const Answer stopped = RunAlone(model(), r);
  EXPECT_EQ(stopped.finish, FinishReason::kStopId);
  EXPECT_EQ(stopped.ids.size(), 1u);
  r.ignore_eos = true;
  const Answer ignored = RunAlone(model(), r);
  EXPECT_EQ(ignored.finish, FinishReason::kLength);
  EXPECT_EQ(ignored.ids.size(), 4u);
}

TEST_F(EngineTest, APoolSmallerThanTheContextLimitsTheContext) {
  EngineOptions options;
  options.kv_blocks = 2;
  auto engine = NewEngine(model(), options);
  EXPECT_EQ(engine->context(), 32);
  EXPECT_HAS(SubmitError(*engine, Greedy(std::vector<int32_t>(33, 1), 1)), "33 tokens");
  const RequestId id = MustSubmit(*engine, Greedy({5, 6}, -1));
  const Answer a = Drain(*engine)[id];
  EXPECT_EQ(a.finish, FinishReason::kContext);
  EXPECT_EQ(a.ids.size(), 30u);
}

TEST_F(EngineTest, StopStringsSpanTokens) {
  const Tokenizer tokenizer = AsciiTokenizer();
  Request r = Greedy({10, 20}, 60);
  r.sampling.temperature = 1;
  r.sampling.logit_bias = {{'a', 60.0f}, {'b', 60.0f}};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    r.sampling.seed = seed;
    r.stop_strings.clear();
    const Answer whole = RunAlone(model(), r);
    const std::string text(whole.ids.begin(), whole.ids.end());
    ASSERT_EQ(text.find_first_not_of("ab"), std::string::npos);
    r.stop_strings = {"abba", "zzz", "bbb"};
    for (const auto speculation :
         {EngineOptions::Speculation::kOff, EngineOptions::Speculation::kAlways}) {
      EngineOptions options;
      options.speculation = speculation;
      const Answer cut = RunAlone(model(), r, options, &tokenizer);
      const size_t first = text.find("abba"), second = text.find("bbb");
      const size_t end = std::min(first == std::string::npos ? 1000 : first + 4,
                                  second == std::string::npos ? 1000 : second + 3);
      if (end == 1000) {
        EXPECT_EQ(cut.finish, FinishReason::kLength);
        EXPECT_EQ(cut.ids, whole.ids);
        continue;
      }
      EXPECT_EQ(cut.finish, FinishReason::kStopString);
      EXPECT_EQ(cut.ids.size(), end);
      EXPECT_EQ(cut.stop_bytes, end == first + 4 ? 4 : 3);
    }
  }
}

TEST_F(EngineTest, CancelFreesBlocksWhereverTheRequestStands) {
  EngineOptions options;
  options.max_sequences = 2;
  options.prefill_chunk = 8;
  options.prefix_cache = false;
  auto engine = NewEngine(model(), options);
  const int64_t all = engine->stats().free_blocks;
  const RequestId decoding = MustSubmit(*engine, Greedy({1}, -1));
  (void)engine->Step();
  (void)engine->Step();
  const RequestId prefilling = MustSubmit(*engine, Greedy(std::vector<int32_t>(100, 3), -1));
  const RequestId waiting = MustSubmit(*engine, Greedy({4}, -1));
  (void)engine->Step();
  EXPECT_EQ(engine->stats().running, 2);
  EXPECT_EQ(engine->stats().waiting, 1);
  for (const RequestId id : {decoding, prefilling, waiting}) {
    engine->Cancel(id);
    engine->Cancel(id);
  }
  engine->Cancel(12345);
  EXPECT_FALSE(engine->idle());
  const auto outputs = engine->Step();
  ASSERT_EQ(outputs.size(), 3u);
  for (const StepOutput& out : outputs) EXPECT_EQ(out.finish, FinishReason::kCancelled);
  EXPECT_TRUE(engine->idle());
  EXPECT_EQ(engine->stats().free_blocks, all);
  EXPECT_TRUE(engine->Step().empty());
}

TEST_F(EngineTest, DecodingNeverWaitsForPrompts) {
  EngineOptions options;
  options.prefill_chunk = 4;
  options.speculation = EngineOptions::Speculation::kOff;
  auto engine = NewEngine(model(), options);
  const RequestId first = MustSubmit(*engine, Greedy({1}, 60));
  (void)engine->Step();
  for (int i = 0; i < 4; ++i) MustSubmit(*engine, Greedy(std::vector<int32_t>(90, i), 2));
  for (int step = 0; step < 50; ++step) {
    bool seen = false;
    for (const StepOutput& out : engine->Step()) seen |= out.id == first && out.tokens.size() == 1;
    ASSERT_TRUE(seen) << "step " << step;
  }
}

TEST_F(EngineTest, RequestsWithOnePromptComputeItOnce) {
  for (const Shape shape : {Shape::kLlama, Shape::kDeepseekV3}) {
    model_ = TinyModel(SharedExec(), shape);
    Rng rng(8);
    const auto prompt = RandomIds(rng, 100);
    auto engine = NewEngine(model(), {});
    for (int i = 0; i < 8; ++i) {
      Request r = Greedy(prompt, 3);
      r.sampling.seed = static_cast<uint64_t>(i);
      MustSubmit(*engine, r);
    }
    Drain(*engine);
    EXPECT_EQ(engine->stats().prompt_tokens, 800);
    EXPECT_EQ(engine->stats().cached_tokens, 7 * 96);
  }
}

// The next turn of a conversation: its prompt holds the last answer. Generated state may be read
// again only where it equals a prompt's bit for bit.
TEST_F(EngineTest, AnswersEnterTheCacheOnlyWhereTheirStateIsAPrompts) {
  for (const Shape shape : {Shape::kLlama, Shape::kDeepseekV3}) {
    model_ = TinyModel(SharedExec(), shape);
    Rng rng(8);
    const Request first = Greedy(RandomIds(rng, 40), 61);
    auto engine = NewEngine(model(), {});
    const RequestId id = MustSubmit(*engine, first);
    const Answer answer = Drain(*engine)[id];
    Request next = first;
    next.prompt.insert(next.prompt.end(), answer.ids.begin(), answer.ids.end());
    next.prompt.push_back(7);
    const RequestId again = MustSubmit(*engine, next);
    const Answer got = Drain(*engine)[again];
    EXPECT_EQ(got.cached_tokens, shape == Shape::kLlama ? 96 : 32);
    EngineOptions plain;
    plain.prefix_cache = false;
    EXPECT_TRUE(got.Same(RunAlone(model(), next, plain)));
  }
}

TEST_F(EngineTest, TopLogprobsComeWithEveryToken) {
  Request r = Greedy({1, 2}, 5);
  r.sampling.top_logprobs = 4;
  auto engine = NewEngine(model(), {});
  MustSubmit(*engine, r);
  int64_t tokens = 0;
  while (!engine->idle()) {
    for (const StepOutput& out : engine->Step()) {
      for (const SampledToken& t : out.tokens) {
        ++tokens;
        ASSERT_EQ(t.top.size(), 4u);
        EXPECT_EQ(t.top[0].id, t.id);
        EXPECT_EQ(t.top[0].logprob, t.logprob);
        EXPECT_GE(t.top[0].logprob, t.top[3].logprob);
      }
    }
  }
  EXPECT_EQ(tokens, 5);
}

// A model whose token kPoison, and no other, makes Inf in layer 1: its embedding alone has
// channel 5, nothing in layer 0 writes there, and layer 1's first norm multiplies it by 3e38.
constexpr int32_t kPoison = 7;

std::unique_ptr<Model> PoisonedModel() {
  const ModelConfig config = TinyConfig(Shape::kQwen2);
  std::vector<TensorSpec> specs;
  for (const ParamSpec& p : ListParams(config)) specs.push_back({p.name, DType::kF32, p.shape});
  const auto folder =
      std::filesystem::temp_directory_path() / ("hadal_poisoned_" + std::to_string(::getpid()));
  std::filesystem::remove_all(folder);
  const auto fill = [&](size_t index, std::span<std::byte> out) -> Status {
    const TensorSpec& spec = specs[index];
    std::vector<float> v(out.size() / sizeof(float));
    Rng rng(1, index);
    const bool norm = spec.name.find("norm") != std::string::npos;
    for (float& x : v) x = norm ? 1.0f : 0.05f * static_cast<float>(rng.NextNormal());
    const auto width = static_cast<size_t>(config.width);
    const bool writes = spec.name == "model.layers.0.self_attn.o_proj.weight" ||
                        spec.name == "model.layers.0.mlp.down_proj.weight";
    if (writes)
      std::fill_n(v.begin() + 5 * static_cast<ptrdiff_t>(v.size() / width), v.size() / width, 0.0f);
    if (spec.name == "model.embed_tokens.weight") {
      for (size_t id = 0; id < static_cast<size_t>(kVocab); ++id) v[id * width + 5] = 0;
      v[kPoison * width + 5] = 100;
    }
    if (spec.name == "model.layers.1.input_layernorm.weight") v[5] = 3e38f;
    std::memcpy(out.data(), v.data(), out.size());
    return {};
  };
  const FolderText texts[] = {{"config.json", config.ToJson("float32")}};
  const Status written = WriteHuggingFaceFolder(folder.string(), specs, fill, texts);
  EXPECT_TRUE(written.ok()) << (written.ok() ? "" : written.error().message);
  auto file = WeightFile::Open(folder.string());
  EXPECT_TRUE(file.ok()) << (file.ok() ? "" : file.error().message);
  auto model = Model::Load(SharedExec(), *file);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
  std::filesystem::remove_all(folder);
  return *std::move(model);
}

TEST_F(EngineTest, InfinityEndsItsRequestAloneAndNamesTheLayer) {
  model_ = PoisonedModel();
  std::vector<Request> requests;
  Rng rng(2);
  for (int i = 0; i < 8; ++i) {
    auto prompt = RandomIds(rng, 20);
    std::ranges::replace(prompt, kPoison, 8);
    requests.push_back(Greedy(std::move(prompt), 12));
    requests.back().sampling.logit_bias = {{kPoison, -100.0f}};
  }
  std::vector<Answer> want;
  for (const Request& r : requests) want.push_back(RunAlone(model(), r));

  std::vector<Request> mixed = requests;
  mixed[2].prompt[5] = kPoison;                        // in the prompt
  mixed[5].sampling.logit_bias = {{kPoison, 100.0f}};  // as its first answer
  auto engine = NewEngine(model(), {});
  std::vector<RequestId> ids;
  for (const Request& r : mixed) ids.push_back(MustSubmit(*engine, r));
  Answers got = Drain(*engine);
  for (size_t i = 0; i < mixed.size(); ++i) {
    const Answer& a = got[ids[i]];
    if (i == 2 || i == 5) {
      EXPECT_EQ(a.finish, FinishReason::kError);
      EXPECT_HAS(a.error, "layer 1");
      EXPECT_EQ(a.ids, i == 2 ? std::vector<int32_t>{} : std::vector<int32_t>{kPoison});
    } else {
      EXPECT_TRUE(a.Same(want[i])) << i;
    }
  }
  engine->CheckInvariants();
}

}  // namespace
}  // namespace hadal
