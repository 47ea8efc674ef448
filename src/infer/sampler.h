// From logits to a token: penalties, bias, temperature, top-k, top-p, min-p, one draw.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hadal {

struct SamplingParams {
  float temperature = 0.6f;  // 0: greedy (ties to the lower id)
  float top_p = 0.95f;       // 1: off
  int32_t top_k = 0;         // 0: off
  float min_p = 0.0f;        // 0: off
  float repetition_penalty = 1.0f;  // 1: off; over prompt and output (CTRL, arXiv:1909.05858)
  float frequency_penalty = 0.0f, presence_penalty = 0.0f;  // over output, as OpenAI defines them
  std::vector<std::pair<int32_t, float>> logit_bias;
  uint64_t seed = 0;
  int32_t top_logprobs = -1;  // >= 0: log-probabilities of the chosen and that many best tokens

  Status Validate(int64_t vocab) const;  // ranges, NaN, ids in the vocabulary
};

struct TokenLogprob {
  int32_t id;
  float logprob;
};
struct SampledToken {
  int32_t id;
  float logprob = 0;               // log-softmax of the raw logits at the chosen token
  std::vector<TokenLogprob> top;   // of the raw logits, best first
};

// Order: logit bias, repetition, frequency and presence penalties, temperature, top-k, top-p,
// min-p, then one draw from Philox(seed, position): a token is a function of (logits, params,
// history, index) alone. Scratch is reused; nothing is allocated per token in steady state.
class Sampler {
 public:
  explicit Sampler(int64_t vocab);
  // history_*: the ids so far; index: how many tokens were generated before this one.
  SampledToken Sample(std::span<const float> logits, const SamplingParams& params,
                      std::span<const int32_t> prompt, std::span<const int32_t> output,
                      int64_t index);

 private:
  std::vector<float> work_;
  std::vector<std::pair<float, int32_t>> order_;
  std::vector<int32_t> counts_;
};

}  // namespace hadal
