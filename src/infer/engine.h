// The engine's front door: submit, step, cancel. Token ids only. One thread steps it; Submit and
// Cancel may be called between steps from that thread (a server queues for it).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "infer/sampler.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

enum class FinishReason { kNone, kStopId, kStopString, kLength, kContext, kCancelled, kError };
// "", "stop", "stop", "length", "context", "cancelled", "error".
std::string_view FinishReasonName(FinishReason reason);

struct Request {
  std::vector<int32_t> prompt;  // at least one id
  SamplingParams sampling;
  int64_t max_tokens = -1;        // -1: until the context is full; 0: the prompt alone, for scoring
  std::vector<int32_t> stop_ids;  // with the model's own eos ids, unless ignore_eos
  std::vector<std::string> stop_strings;  // needs Engine's tokenizer; the match is not shown
  bool ignore_eos = false;
  bool prompt_logprobs = false;  // scoring: log-probability of each prompt token after the first
};

using RequestId = uint64_t;

// What a step produced for one request. `tokens` is usually one id, several after speculation; an
// id that ended the output is the last of them.
struct StepOutput {
  RequestId id;
  std::vector<SampledToken> tokens;
  std::vector<float> prompt_logprobs;  // once, with the first output, when asked for
  FinishReason finish = FinishReason::kNone;
  std::string error;          // finish == kError: which layer held NaN or Inf
  int64_t cached_tokens = 0;  // prompt tokens taken from the prefix cache
  // When a stop string ended the output: how many trailing bytes are to be dropped of the text of
  // all its ids (StreamDecoder without special tokens).
  int64_t stop_bytes = 0;
};

struct EngineOptions {
  // Tokens a sequence may hold, prompt and output; 0: the model's. Never more than kv_blocks hold.
  int64_t context = 0;
  int64_t kv_blocks = 0;  // 0: enough for max_sequences full contexts, within free memory
  int64_t max_sequences = 16;
  int64_t prefill_chunk = 512;  // prompt tokens a step may take in, over all sequences
  KvType kv_type = KvType::kF16;
  bool prefix_cache = true;
  // kAuto drafts where it was measured to pay; kAlways wherever there is a guess, whatever it
  // costs.
  enum class Speculation { kOff, kAuto, kAlways } speculation = Speculation::kAuto;
};

class Engine {
 public:
  // model and tokenizer outlive the engine; tokenizer may be null when no stop strings are used.
  static Result<std::unique_ptr<Engine>> Create(Model& model, const Tokenizer* tokenizer,
                                                const EngineOptions& options);
  ~Engine();

  // Errors: empty or too long prompt (states both lengths), ids outside the vocabulary, bad
  // sampling parameters, empty or too many stop strings.
  Result<RequestId> Submit(Request request);
  // One forward pass over whatever is ready: every sequence that decodes and up to prefill_chunk
  // prompt tokens. Outputs of this step, empty when idle. What a request gets depends on the
  // request alone: neither on the others nor on the options, `context` and `kv_type` apart.
  // The outputs live until the next call.
  std::span<const StepOutput> Step();
  void Cancel(RequestId id);  // its kCancelled output comes with the next Step
  bool idle() const;

  struct Stats {
    int64_t steps = 0, prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
    int64_t drafted_tokens = 0, accepted_tokens = 0;
    int64_t waiting = 0, running = 0, free_blocks = 0, cached_blocks = 0, preemptions = 0;
  };
  Stats stats() const;
  int64_t context() const;
  // Aborts unless every block is owned once, free or cached, and references add up: for tests.
  void CheckInvariants() const;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
