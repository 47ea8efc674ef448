#include "cli/flags.h"

#include "cli/command_line.h"

namespace hadal::cli {

void AddThreads(Verb& app, int& threads) {
  app.add_option("--threads", threads, "Threads; 0: all physical cores")
      ->check(Range(0, 1024))
      ->capture_default_str();
}

void AddModelFlags(Verb& app, ModelFlags& flags) {
  app.add_option("-m,--model", flags.model,
                 "GGUF file, Hugging Face folder or name of a pulled model; without it "
                 "SmolLM2-135M-Instruct, pulled on first use");
  app.add_option("-c,--context", flags.context,
                 "Tokens a conversation may hold; 0: the model's, at most 8192")
      ->check(Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  AddThreads(app, flags.threads);
}

void AddJson(Verb& app, bool& json) { app.add_flag("--json", json, "Print JSON for programs"); }

void AddSamplingFlags(Verb& app, SamplingFlags& flags) {
  app.add_option("-n,--max-tokens", flags.max_tokens,
                 "Tokens to generate at most; -1: until the context is full")
      ->check(Range(int64_t{-1}, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--temperature", flags.temperature, "0: always the likeliest token");
  app.add_option("--top-p", flags.top_p, "Keep the likeliest tokens of this total probability");
  app.add_option("--top-k", flags.top_k, "Keep this many likeliest tokens; 0: all");
  app.add_option("--min-p", flags.min_p, "Drop tokens below this share of the likeliest");
  app.add_option("--seed", flags.seed, "The same seed gives the same answer");
  app.add_option("--repetition-penalty", flags.repetition_penalty, "1: off");
  app.add_option("--frequency-penalty", flags.frequency_penalty, "0: off");
  app.add_option("--presence-penalty", flags.presence_penalty, "0: off");
}

SamplingParams ApplyFlags(const SamplingFlags& flags, SamplingParams params) {
  if (flags.temperature) params.temperature = *flags.temperature;
  if (flags.top_p) params.top_p = *flags.top_p;
  if (flags.top_k) params.top_k = *flags.top_k;
  if (flags.min_p) params.min_p = *flags.min_p;
  if (flags.repetition_penalty) params.repetition_penalty = *flags.repetition_penalty;
  if (flags.frequency_penalty) params.frequency_penalty = *flags.frequency_penalty;
  if (flags.presence_penalty) params.presence_penalty = *flags.presence_penalty;
  if (flags.seed) params.seed = *flags.seed;
  return params;
}

}  // namespace hadal::cli
