// What a request gets depends on the request alone, bit for bit.
#include <gtest/gtest.h>

#include <algorithm>

#include "infer/internal_testing.h"

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: one test file

struct Case {
  Shape shape;
  DType type;
};

class EngineBits : public ::testing::TestWithParam<Case> {
 protected:
  EngineBits() : exec_(2, ChooseIsa().ok() ? *ChooseIsa() : Isa::kScalar) {
    model_ = TinyModel(exec_, GetParam().shape, GetParam().type);
  }

  // The plainest way: alone, no cache, no speculation, one chunk.
  std::vector<Answer> Solo(const std::vector<Request>& requests) {
    std::vector<Answer> answers;
    EngineOptions options;
    options.prefix_cache = false;
    options.speculation = EngineOptions::Speculation::kOff;
    for (const Request& r : requests) answers.push_back(RunAlone(*model_, r, options));
    return answers;
  }

  Engine::Stats ExpectSame(const std::vector<Request>& requests, const std::vector<Answer>& want,
                           const EngineOptions& options, const char* what) {
    auto engine = NewEngine(*model_, options);
    std::vector<RequestId> ids;
    for (const Request& r : requests) ids.push_back(MustSubmit(*engine, r));
    Answers got = Drain(*engine);
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_TRUE(got[ids[i]].Same(want[i])) << what << ": request " << i;
    }
    engine->CheckInvariants();
    return engine->stats();
  }

  Exec exec_;
  std::unique_ptr<Model> model_;
};

TEST_P(EngineBits, AloneOrAmongManyInAnyChunking) {
  const std::vector<Request> requests = MixedRequests(1, 32);
  const std::vector<Answer> want = Solo(requests);
  for (const int64_t chunk : {1, 64, 512}) {
    for (const bool cache : {false, true}) {
      EngineOptions options;
      options.max_sequences = 32;
      options.prefill_chunk = chunk;
      options.prefix_cache = cache;
      options.speculation = EngineOptions::Speculation::kOff;
      const Engine::Stats stats = ExpectSame(requests, want, options, "batch");
      EXPECT_EQ(stats.cached_tokens > 0, cache);
    }
  }
}

// The definition, without an engine: the prompt in one pass, then one token at a time.
TEST_P(EngineBits, EqualsAPlainLoopOverTheModel) {
  Rng rng(10);
  const Request request = Greedy(RandomIds(rng, 41), 40);
  const KvCache cache(model_->config(), KvType::kF16, 8);
  const std::vector<int32_t> blocks = {5, 2, 7, 0, 1, 6, 3, 4};
  std::vector<int32_t> tokens = request.prompt, said;
  for (int64_t start = 0; said.size() < 40; start = static_cast<int64_t>(tokens.size()) - 1) {
    const SeqInput input = {.blocks = blocks.data(),
                            .start = start,
                            .tokens = std::span(tokens).subspan(static_cast<size_t>(start)),
                            .expanded = start == 0,
                            .logits = 1};
    const auto logits = model_->Forward({&input, 1}, cache).logits[0];
    said.push_back(
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    tokens.push_back(said.back());
  }
  EXPECT_EQ(RunAlone(*model_, request).ids, said);
}

TEST_P(EngineBits, PrefixCacheHitOrMiss) {
  const std::vector<Request> requests = MixedRequests(2, 12);
  const std::vector<Answer> want = Solo(requests);
  EngineOptions options;
  options.max_sequences = 4;
  options.prefill_chunk = 48;
  auto engine = NewEngine(*model_, options);
  int64_t hits = 0;
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < requests.size(); ++i) {
      const RequestId id = MustSubmit(*engine, requests[i]);
      const Answer got = Drain(*engine)[id];
      EXPECT_TRUE(got.Same(want[i])) << "round " << round << " request " << i;
      const auto length = static_cast<int64_t>(requests[i].prompt.size());
      if (round > 0 && !requests[i].prompt_logprobs) {
        EXPECT_EQ(got.cached_tokens, (length - 1) / kKvBlock * kKvBlock);
      }
      hits += got.cached_tokens;
    }
  }
  EXPECT_EQ(engine->stats().cached_tokens, hits);
}

TEST_P(EngineBits, AfterPreemption) {
  const std::vector<Request> requests = MixedRequests(3, 16);
  const std::vector<Answer> want = Solo(requests);
  for (const bool cache : {false, true}) {
    for (const auto speculation :
         {EngineOptions::Speculation::kOff, EngineOptions::Speculation::kAlways}) {
      EngineOptions options;
      options.max_sequences = 8;
      options.kv_blocks = 24;
      options.prefill_chunk = 32;
      options.prefix_cache = cache;
      options.speculation = speculation;
      const Engine::Stats stats = ExpectSame(requests, want, options, "preempted");
      EXPECT_GT(stats.preemptions, 0);
      EXPECT_EQ(stats.free_blocks + stats.cached_blocks, 24);
    }
  }
}

TEST_P(EngineBits, WithAndWithoutSpeculation) {
  std::vector<Request> requests = MixedRequests(4, 8);
  for (Request& r : requests) r.max_tokens = 80;
  const std::vector<Answer> want = Solo(requests);
  for (const int64_t sequences : {1, 3, 8}) {
    for (const auto speculation :
         {EngineOptions::Speculation::kAuto, EngineOptions::Speculation::kAlways}) {
      EngineOptions options;
      options.max_sequences = sequences;
      options.speculation = speculation;
      const Engine::Stats stats = ExpectSame(requests, want, options, "speculation");
      if (speculation == EngineOptions::Speculation::kAlways) {
        EXPECT_GT(stats.drafted_tokens, 0);
        EXPECT_LT(stats.accepted_tokens, stats.drafted_tokens);
      }
    }
  }
}

// Text without repetitions leaves nothing to look up: the drafts are the extra layer's.
TEST_P(EngineBits, PredictionLayerDraftsWhereThereIsOne) {
  Rng rng(9);
  Request request = Greedy(RandomIds(rng, 32), 60);
  request.sampling.temperature = 5;
  request.sampling.top_p = 1;
  EngineOptions options;
  options.speculation = EngineOptions::Speculation::kOff;
  const Answer want = RunAlone(*model_, request, options);
  options.speculation = EngineOptions::Speculation::kAlways;
  const Engine::Stats stats = ExpectSame({request}, {want}, options, "prediction");
  EXPECT_TRUE(model_->config().mtp_layers == 0 || stats.drafted_tokens > 50);
}

// Where generated tokens run in the same form as a prompt's, scoring a text gives the very bits
// with which it was sampled.
TEST_P(EngineBits, ScoringGivesTheBitsOfSampling) {
  Rng rng(5);
  Request request = Greedy(RandomIds(rng, 37), 50);
  request.sampling.temperature = 1;
  request.sampling.top_logprobs = 0;
  const Answer sampled = RunAlone(*model_, request);
  Request score = request;
  score.max_tokens = 0;
  score.prompt_logprobs = true;
  score.prompt.insert(score.prompt.end(), sampled.ids.begin(), sampled.ids.end());
  EngineOptions options;
  options.prefill_chunk = 23;
  const Answer scored = RunAlone(*model_, score, options);
  ASSERT_EQ(scored.prompt_logprobs.size(), 86u);
  EXPECT_TRUE(scored.ids.empty());
  EXPECT_EQ(scored.finish, FinishReason::kLength);
  if (model_->config().mla()) return;
  const std::vector<uint32_t> tail(scored.prompt_logprobs.end() - 50, scored.prompt_logprobs.end());
  EXPECT_EQ(tail, sampled.logprobs);
}

// Random requests, cancellations and pools too small for them, thousands of steps.
TEST_P(EngineBits, ScheduleFuzz) {
  const std::vector<Request> requests = MixedRequests(6, 24);
  const std::vector<Answer> want = Solo(requests);
#ifdef __SANITIZE_ADDRESS__
  constexpr uint64_t kSeeds = 2;
#else
  constexpr uint64_t kSeeds = 6;
#endif
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Rng rng(seed);
    EngineOptions options;
    options.context = 160;
    options.kv_blocks = static_cast<int64_t>(10 + rng.Below(20));
    options.max_sequences = static_cast<int64_t>(1 + rng.Below(10));
    options.prefill_chunk = static_cast<int64_t>(1 + rng.Below(70));
    options.prefix_cache = rng.Below(4) != 0;
    options.speculation = static_cast<EngineOptions::Speculation>(rng.Below(3));
    auto engine = NewEngine(*model_, options);
    std::map<RequestId, size_t> which;
    std::map<RequestId, bool> asked_to_stop;
    Answers answers;
    for (int step = 0; step < 400 || !engine->idle(); ++step) {
      ASSERT_LT(step, 20'000);
      while (step < 400 && rng.Below(4) == 0) {
        const size_t i = rng.Below(requests.size());
        which[MustSubmit(*engine, requests[i])] = i;
      }
      if (rng.Below(12) == 0 && !which.empty()) {
        const RequestId id = 1 + rng.Below(which.rbegin()->first + 2);
        asked_to_stop[id] = true;
        engine->Cancel(id);
      }
      for (const StepOutput& out : engine->Step()) answers[out.id].Take(out);
      engine->CheckInvariants();
    }
    for (const auto& [id, i] : which) {
      const Answer& got = answers[id];
      if (got.finish == FinishReason::kCancelled) {
        ASSERT_TRUE(asked_to_stop[id]);
        ASSERT_TRUE(std::equal(got.ids.begin(), got.ids.end(), want[i].ids.begin()));
        continue;
      }
      ASSERT_TRUE(got.Same(want[i])) << "seed " << seed << " request " << i;
    }
    const Engine::Stats stats = engine->stats();
    EXPECT_EQ(stats.running + stats.waiting, 0);
    EXPECT_EQ(stats.free_blocks + stats.cached_blocks, options.kv_blocks);
  }
}

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  constexpr const char* kNames[] = {"llama", "qwen2", "deepseek_v3", "deepseek_v3_mtp"};
  return std::string(kNames[static_cast<size_t>(info.param.shape)]) + "_" +
         std::string(Info(info.param.type).name);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EngineBits,
                         ::testing::Values(Case{Shape::kLlama, DType::kQ8_0},
                                           Case{Shape::kDeepseekMtp, DType::kF32}),
                         CaseName);
// Under sanitizers one case of either attention: these are for release.
#ifndef __SANITIZE_ADDRESS__
INSTANTIATE_TEST_SUITE_P(MoreShapes, EngineBits,
                         ::testing::Values(Case{Shape::kLlama, DType::kF32},
                                           Case{Shape::kQwen2, DType::kBF16},
                                           Case{Shape::kDeepseekV3, DType::kF32},
                                           Case{Shape::kDeepseekV3, DType::kQ4_0}),
                         CaseName);
#endif

}  // namespace
}  // namespace hadal
