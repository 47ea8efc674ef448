// Tiny models and a driver, for the tests of this module.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "infer/engine.h"

namespace hadal::testing {

inline constexpr int64_t kVocab = 128;
inline constexpr int64_t kContext = 256;

enum class Shape { kLlama, kQwen2, kDeepseekV3, kDeepseekMtp };

inline ModelConfig TinyConfig(Shape shape) {
  ModelConfig c;
  c.layers = 2;
  c.width = 64;
  c.vocab = kVocab;
  c.context = kContext;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 16;
  c.ffn = 128;
  if (shape == Shape::kLlama) {
    c.arch = Arch::kLlama;
    c.tied_embeddings = true;  // random weights repeat themselves then: work for speculation
  } else if (shape == Shape::kQwen2) {
    c.arch = Arch::kQwen2;
    c.qkv_bias = true;
  } else {
    c.arch = Arch::kDeepseekV3;
    c.kv_heads = c.heads;
    c.q_latent = 32;
    c.latent = 32;
    c.nope_dim = 16;
    c.rope_dim = 16;
    c.v_dim = 16;
    c.head_dim = c.nope_dim + c.rope_dim;
    c.rope_interleaved = true;
    c.gate = {.experts = 8,
              .top_k = 2,
              .groups = 4,
              .top_groups = 2,
              .score = GateShape::Score::kSigmoid,
              .group_score = GateShape::GroupScore::kTop2Sum,
              .normalise = true,
              .scale = 2.5f};
    c.gate_bias = true;
    c.expert_ffn = 32;
    c.shared_experts = 1;
    c.dense_layers = 1;
    c.tied_embeddings = shape == Shape::kDeepseekMtp;
    c.mtp_layers = shape == Shape::kDeepseekMtp ? 1 : 0;
  }
  return c;
}

inline std::unique_ptr<Model> TinyModel(const Exec& exec, Shape shape, DType type = DType::kF32,
                                        std::vector<int32_t> eos = {}) {
  ModelConfig config = TinyConfig(shape);
  config.eos_ids = std::move(eos);
  auto model = Model::Random(exec, config, type, 42);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
  return *std::move(model);
}

inline std::unique_ptr<Engine> NewEngine(Model& model, const EngineOptions& options,
                                         const Tokenizer* tokenizer = nullptr) {
  auto engine = Engine::Create(model, tokenizer, options);
  EXPECT_TRUE(engine.ok()) << (engine.ok() ? "" : engine.error().message);
  return *std::move(engine);
}

// Everything that a request got, over all steps.
struct Answer {
  std::vector<int32_t> ids;
  std::vector<uint32_t> logprobs, prompt_logprobs;  // bits
  FinishReason finish = FinishReason::kNone;
  std::string error;
  int64_t cached_tokens = 0, stop_bytes = 0;
  int outputs = 0;

  void Take(const StepOutput& out) {
    EXPECT_EQ(finish, FinishReason::kNone) << "output after the end";
    ++outputs;
    for (const SampledToken& t : out.tokens) {
      ids.push_back(t.id);
      logprobs.push_back(std::bit_cast<uint32_t>(t.logprob));
    }
    for (const float p : out.prompt_logprobs) prompt_logprobs.push_back(std::bit_cast<uint32_t>(p));
    finish = out.finish;
    error = out.error;
    cached_tokens = out.cached_tokens;
    stop_bytes = out.stop_bytes;
  }
  // What must not depend on anything but the request.
  bool Same(const Answer& o) const {
    return ids == o.ids && logprobs == o.logprobs && prompt_logprobs == o.prompt_logprobs &&
           finish == o.finish && stop_bytes == o.stop_bytes;
  }
};

using Answers = std::map<RequestId, Answer>;

inline Answers Drain(Engine& engine, int most_steps = 100'000) {
  Answers answers;
  for (int i = 0; !engine.idle(); ++i) {
    if (i >= most_steps) {
      ADD_FAILURE() << "the engine does not come to an end";
      break;
    }
    for (const StepOutput& out : engine.Step()) answers[out.id].Take(out);
  }
  return answers;
}

inline RequestId MustSubmit(Engine& engine, Request request) {
  auto id = engine.Submit(std::move(request));
  EXPECT_TRUE(id.ok()) << (id.ok() ? "" : id.error().message);
  return id.ok() ? *id : 0;
}

inline Answer RunAlone(Model& model, const Request& request, EngineOptions options = {},
                       const Tokenizer* tokenizer = nullptr) {
  options.max_sequences = 1;
  auto engine = NewEngine(model, options, tokenizer);
  const RequestId id = MustSubmit(*engine, request);
  return Drain(*engine)[id];
}

inline Request Greedy(std::vector<int32_t> prompt, int64_t max_tokens) {
  Request r;
  r.prompt = std::move(prompt);
  r.max_tokens = max_tokens;
  r.sampling.temperature = 0;
  return r;
}

inline std::vector<int32_t> RandomIds(Rng& rng, uint64_t count) {
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.Below(kVocab));
  return ids;
}

// Requests of all kinds; half of the prompts begin with one of two common prefixes.
inline std::vector<Request> MixedRequests(uint64_t seed, size_t count) {
  Rng rng(seed);
  const std::vector<int32_t> common[] = {RandomIds(rng, 50), RandomIds(rng, 33)};
  std::vector<Request> requests;
  for (size_t i = 0; i < count; ++i) {
    Request r;
    if (rng.Below(2) == 0) r.prompt = common[rng.Below(2)];
    const auto tail = RandomIds(rng, 1 + rng.Below(40));
    r.prompt.insert(r.prompt.end(), tail.begin(), tail.end());
    r.max_tokens = static_cast<int64_t>(1 + rng.Below(40));
    SamplingParams& s = r.sampling;
    s.seed = rng.Next64();
    s.temperature = rng.Below(3) == 0 ? 0.0f : rng.NextFloat() * 0.2f;
    if (rng.Below(3) == 0) s.top_k = 10;
    if (rng.Below(4) == 0) s.repetition_penalty = 1.3f;
    if (rng.Below(4) == 0) s.frequency_penalty = 0.5f;
    if (rng.Below(4) == 0) r.prompt_logprobs = true;
    if (rng.Below(2) == 0) s.top_logprobs = 0;
    requests.push_back(std::move(r));
  }
  return requests;
}

}  // namespace hadal::testing
