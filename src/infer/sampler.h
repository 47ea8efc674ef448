// From logits to a token: penalties, bias, temperature, top-k, top-p, min-p, one draw.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"

namespace hadal {

struct SamplingParams {
  float temperature = 0.6f;         // 0: greedy (ties to the lower id)
  float top_p = 0.95f;              // 1: off
  int32_t top_k = 0;                // 0: off
  float min_p = 0.0f;               // 0: off
  float repetition_penalty = 1.0f;  // 1: off; over prompt and output (CTRL, arXiv:1909.05858)
  float frequency_penalty = 0.0f, presence_penalty = 0.0f;  // over output, as OpenAI defines them
  std::vector<std::pair<int32_t, float>> logit_bias;        // an id given twice gets both
  uint64_t seed = 0;
  int32_t top_logprobs = -1;  // >= 0: log-probabilities of the chosen and that many best tokens

  // Ranges: temperature [0, 100], top_p and min_p [0, 1], top_k >= 0, repetition_penalty (0, 100],
  // frequency and presence [-2, 2], biases [-100, 100] on ids of the vocabulary, top_logprobs
  // [-1, 128]. NaN is in none of them. The error names the field and its value.
  Status Validate(int64_t vocab) const;
};

struct TokenLogprob {
  int32_t id;
  float logprob;
};
struct SampledToken {
  int32_t id;         // -1: the logits hold NaN or Inf
  float logprob = 0;  // log-softmax of the raw logits at the chosen token; 0 when not asked for
  std::vector<TokenLogprob> top;  // of the raw logits, best first, ties to the lower id
};

// Order: logit bias, repetition, frequency and presence penalties, temperature, top-k, top-p,
// min-p, then one draw from Philox(seed, index): a token is a function of (logits, params,
// history, index) alone. Scratch is reused; nothing is allocated per token in steady state, `top`
// apart.
//   repetition: z > 0 ? z / r : z * r for every id of prompt and output
//   frequency, presence: z -= frequency * count in output + presence * (count > 0)
//   top-k: the k largest z, ties to the lower id
//   top-p: the shortest run of what is left, best first (ties to the lower id), that holds at least
//          top_p of its probability; never empty
//   min-p: p >= min_p * (largest p)
// Exponentials are f32 within 2 units in the last place, their sums f64.
class Sampler {
 public:
  explicit Sampler(int64_t vocab);
  // history_*: the ids so far; index: how many tokens were generated before this one.
  SampledToken Sample(std::span<const float> logits, const SamplingParams& params,
                      std::span<const int32_t> prompt, std::span<const int32_t> output,
                      int64_t index);

  // log-softmax of the logits at `id`, the bits that Sample gives for the same token; NaN where a
  // logit is NaN or Inf.
  float Logprob(std::span<const float> logits, int32_t id);

 private:
  using Candidate = std::pair<float, int32_t>;  // logit, id

  void Shape(std::span<const float> logits, const SamplingParams& params,
             std::span<const int32_t> prompt, std::span<const int32_t> output);
  void KeepTopK(int32_t k);
  size_t KeepTopP(const SamplingParams& params, float max, bool gathered);
  int32_t DrawAll(double u);
  int32_t DrawKept(const SamplingParams& params, float max, size_t kept, double u) const;
  void FillTop(std::span<const float> logits, int32_t count, double lse, SampledToken& token);

  std::span<const float> shaped_;  // the logits, or work_ where bias or penalties changed them
  std::vector<float> work_;
  std::vector<float> weights_;    // exp((z - max) / temperature)
  std::vector<Candidate> order_;  // candidates, best first once sorted
  std::vector<int32_t> counts_;   // per id, zero between calls
  std::vector<double> sums_;      // of weights, one a block
};

}  // namespace hadal
