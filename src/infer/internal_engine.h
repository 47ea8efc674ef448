// The engine's inside: sequences, the scheduler's lists, one step's batch.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "infer/engine.h"
#include "infer/prefix_cache.h"
#include "infer/speculation.h"
#include "infer/stop.h"

namespace hadal::internal {

// A request on its way. Positions [0, computed) have their state in the cache; blocks [0, shared)
// are nodes of the prefix cache that this sequence references, the rest are its own.
struct Sequence {
  RequestId id = 0;
  Request request;
  int64_t prompt_length = 0;
  int64_t most_tokens = 0;        // of output
  std::vector<int32_t> tokens;    // prompt, output, then the guesses of the step in hand
  std::vector<int32_t> stop_ids;  // sorted
  std::vector<int32_t> blocks;
  int64_t shared = 0, computed = 0;
  int64_t cached_tokens = 0;
  bool running = false;

  std::optional<StopMatcher> stop;
  std::optional<StreamDecoder> decoder;
  std::vector<float> prompt_logprobs;
  bool scored = false;  // prompt_logprobs were handed out or not asked for
  PromptLookup lookup;

  // The step in hand: positions [computed, computed + count) go in, the last `drafts` of them
  // guessed; `rows` rows of logits come back from `first_row` on.
  int64_t count = 0, drafts = 0, rows = 0, first_row = 0;
  DraftSource source = DraftSource::kMatch2;
  int64_t drafted = 0, accepted = 0;  // of the step just done
  std::vector<SampledToken> sampled;
  FinishReason finish = FinishReason::kNone;
  int64_t stop_bytes = 0;
  std::string error;

  // Multi-token prediction: positions [mtp_start, mtp_end) have their state in the extra layer,
  // from block mtp_block on.
  int64_t mtp_start = 0, mtp_end = -1, mtp_block = 0;
  int32_t mtp_draft = -1;

  int64_t known() const { return static_cast<int64_t>(tokens.size()) - drafts; }
  int64_t generated() const { return known() - prompt_length; }
  int64_t pending() const { return known() - computed; }
  std::span<const int32_t> prompt() const {
    return {tokens.data(), static_cast<size_t>(prompt_length)};
  }
  std::span<const int32_t> output() const {
    return {tokens.data() + prompt_length, static_cast<size_t>(generated())};
  }
  std::span<const int32_t> block_tokens(int64_t block) const {
    return {tokens.data() + block * kKvBlock, static_cast<size_t>(kKvBlock)};
  }
};

}  // namespace hadal::internal

namespace hadal {

struct Engine::Impl {
  using Sequence = internal::Sequence;

  Impl(Model& m, const Tokenizer* t, const EngineOptions& o);

  // Front door (engine.cc).
  Result<RequestId> Submit(Request request);
  std::span<const StepOutput> Step();
  Stats CurrentStats() const;

  // What runs next (schedule.cc).
  void DropCancelled();
  void Admit();
  bool AdmitOne(Sequence& seq);
  void PlanBatch();
  bool PlanDecode(Sequence& seq, int64_t decoding);
  int64_t PlanPrompt(Sequence& seq, int64_t budget, int64_t row_budget);
  int64_t DraftLength(int64_t decoding, DraftSource source) const;
  void Draft(Sequence& seq, int64_t decoding);
  bool LedByAnother(const Sequence& seq) const;
  void TakeCached(Sequence& seq);
  void PublishBlocks(Sequence& seq);
  bool GrowTo(Sequence& seq, int64_t tokens);
  void Preempt(Sequence& seq);
  void ReleaseBlocks(Sequence& seq);
  int64_t ShareableTokens(const Sequence& seq) const;
  bool Scoring(const Sequence& seq) const {
    return seq.request.prompt_logprobs && !seq.scored && seq.computed < seq.prompt_length;
  }

  // What came out (absorb.cc).
  void Absorb(Sequence& seq, const ForwardResult& result, Sampler& sampler);
  void Score(Sequence& seq, const ForwardResult& result, Sampler& sampler);
  void Sample(Sequence& seq, const ForwardResult& result, Sampler& sampler);
  bool RowFails(Sequence& seq, const ForwardResult& result, int64_t row, int64_t position);
  void Accept(Sequence& seq, SampledToken token);
  bool Settle(Sequence& seq);
  void Emit(Sequence& seq);
  void Remove(Sequence& seq);

  // Drafts by the extra layer (mtp.cc).
  bool WantsMtp(int64_t decoding) const;
  void NoteForMtp(Sequence& seq, const ForwardResult& result);
  void RunMtp();

  Model& model;
  const Tokenizer* tokenizer;
  const EngineOptions options;
  const int64_t context;
  const bool mla;
  PrefixCache blocks;
  KvCache cache;
  SpeculationPolicy policy;

  RequestId next_id = 1;
  std::unordered_map<RequestId, std::unique_ptr<Sequence>> sequences;
  std::deque<Sequence*> waiting;   // by id: whoever came first goes first
  std::vector<Sequence*> running;  // by id too: the last is the youngest
  std::vector<RequestId> cancelled;

  std::vector<Sequence*> batch;  // of the step in hand
  std::vector<SeqInput> inputs;
  std::vector<Sequence*> mtp_batch;
  std::vector<SeqInput> mtp_inputs;
  std::vector<float> mtp_hidden;  // [rows, width]
  std::vector<Sampler> samplers;  // one a worker
  std::vector<StepOutput> outputs;
  size_t output_count = 0;
  Stats stats;
};

}  // namespace hadal
