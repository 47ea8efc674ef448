// Flags that several verbs share, defined once so that they read and default the same everywhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/command_line.h"
#include "infer/sampler.h"

namespace hadal::cli {

struct ModelFlags {
  std::string model;    // empty: the default model
  int threads = 0;      // 0: all physical cores
  int64_t context = 0;  // 0: the model's, at most kDefaultContext
};
inline constexpr int64_t kDefaultContext = 8192;
void AddModelFlags(Verb& app, ModelFlags& flags);
void AddThreads(Verb& app, int& threads);
void AddJson(Verb& app, bool& json);

// What is not given is the model's own default (generation_config.json), else SamplingParams'.
struct SamplingFlags {
  std::optional<float> temperature, top_p, min_p, repetition_penalty, frequency_penalty,
      presence_penalty;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;
  int64_t max_tokens = -1;
};
void AddSamplingFlags(Verb& app, SamplingFlags& flags);
SamplingParams ApplyFlags(const SamplingFlags& flags, SamplingParams defaults);

}  // namespace hadal::cli
