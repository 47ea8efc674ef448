#include "infer/engine.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <utility>

#include "base/check.h"
#include "infer/internal_engine.h"

namespace hadal {
namespace {

constexpr int64_t kMaxSequences = 4096;
constexpr int64_t kMaxBlocks = int64_t{1} << 30;

// Bytes that may still be taken: what the system calls available, within the cgroup's limit.
// 0 when neither can be read.
int64_t AvailableMemory() {
  int64_t available = 0;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key, unit; meminfo >> key;) {
    int64_t kib = 0;
    if (key == "MemAvailable:" && meminfo >> kib) available = kib * 1024;
  }
  int64_t limit = 0, used = 0;
  std::ifstream max_file("/sys/fs/cgroup/memory.max"), used_file("/sys/fs/cgroup/memory.current");
  if (max_file >> limit && used_file >> used) {
    available = std::min(available, std::max<int64_t>(limit - used, 0));
  }
  return available;
}

Error Invalid(std::string message) { return Error{Code::kInvalid, std::move(message)}; }

Status CheckRange(std::string_view name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return Invalid(std::string(name) + " is " + std::to_string(value) + ", must be in [" +
                 std::to_string(low) + ", " + std::to_string(high) + "]");
}

Status CheckIds(std::string_view what, std::span<const int32_t> ids, int64_t vocab) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab) continue;
    return Invalid("token " + std::to_string(ids[i]) + " at place " + std::to_string(i) + " of " +
                   std::string(what) + " is outside the vocabulary of " + std::to_string(vocab));
  }
  return {};
}

// How many blocks to keep, and how many tokens a sequence may hold then.
Result<EngineOptions> Resolve(const ModelConfig& config, EngineOptions o) {
  TRY(CheckRange("context", o.context, 0, config.context));
  TRY(CheckRange("kv_blocks", o.kv_blocks, 0, kMaxBlocks));
  TRY(CheckRange("max_sequences", o.max_sequences, 1, kMaxSequences));
  TRY(CheckRange("prefill_chunk", o.prefill_chunk, 1, 1 << 20));
  if (o.context == 0) o.context = config.context;
  const int64_t block_bytes = KvCache::BlockBytes(config, o.kv_type);
  const int64_t memory = AvailableMemory();
  if (o.kv_blocks == 0) {
    const int64_t full = (o.context + kKvBlock - 1) / kKvBlock;
    const int64_t wanted = std::min(kMaxBlocks, full * o.max_sequences);
    const int64_t room = memory > 0 ? memory / 2 / block_bytes : wanted;
    o.kv_blocks = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(room, 1));
  } else if (memory > 0 && o.kv_blocks > memory / block_bytes) {
    return Error{Code::kMemory, "kv_blocks is " + std::to_string(o.kv_blocks) + " of " +
                                    std::to_string(block_bytes) + " bytes, but only " +
                                    std::to_string(memory) +
                                    " bytes of memory are free; ask for fewer or less context"};
  }
  o.context = std::min(o.context, o.kv_blocks * kKvBlock);
  return o;
}

}  // namespace

std::string_view FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "";
    case FinishReason::kStopId:
      return "stop";
    case FinishReason::kStopString:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContext:
      return "context";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  return "";
}

Engine::Impl::Impl(Model& m, const Tokenizer* t, const EngineOptions& o)
    : model(m),
      tokenizer(t),
      options(o),
      context(o.context),
      mla(m.config().mla()),
      blocks(o.kv_blocks),
      cache(m.config(), o.kv_type, o.kv_blocks) {
  const auto most = static_cast<size_t>(o.max_sequences);
  running.reserve(most);
  batch.reserve(most);
  inputs.reserve(most);
  if (m.config().mtp_layers > 0) {
    mtp_batch.reserve(most);
    mtp_inputs.reserve(most);
    mtp_hidden.reserve(most * (kMaxDraft + 1) * static_cast<size_t>(m.config().width));
  }
  outputs.resize(most);
  for (StepOutput& out : outputs) out.tokens.reserve(kMaxDraft + 1);
  for (int i = 0; i < m.exec().threads(); ++i) samplers.emplace_back(m.config().vocab);
}

Result<RequestId> Engine::Impl::Submit(Request request) {
  const ModelConfig& config = model.config();
  const auto length = static_cast<int64_t>(request.prompt.size());
  if (length == 0) return Invalid("the prompt is empty, at least one token is needed");
  if (request.max_tokens < -1) {
    return Invalid("max_tokens is " + std::to_string(request.max_tokens) +
                   ", must be -1 (until the context is full) or more");
  }
  if (length > context || (length == context && request.max_tokens != 0)) {
    return Invalid("the prompt has " + std::to_string(length) + " tokens, the context holds " +
                   std::to_string(context) + " with the answer");
  }
  TRY(CheckIds("the prompt", request.prompt, config.vocab));
  TRY(CheckIds("stop_ids", request.stop_ids, config.vocab));
  TRY(request.sampling.Validate(config.vocab));

  auto seq = std::make_unique<Sequence>();
  if (!request.stop_strings.empty()) {
    if (tokenizer == nullptr) return Invalid("stop strings need a tokenizer");
    seq->stop = TRY(StopMatcher::Create(request.stop_strings));
    seq->decoder.emplace(*tokenizer);
  }
  seq->stop_ids = request.stop_ids;
  if (!request.ignore_eos) {
    seq->stop_ids.insert(seq->stop_ids.end(), config.eos_ids.begin(), config.eos_ids.end());
  }
  std::ranges::sort(seq->stop_ids);
  seq->id = next_id++;
  seq->prompt_length = length;
  seq->most_tokens = context - length;
  if (request.max_tokens >= 0) seq->most_tokens = std::min(seq->most_tokens, request.max_tokens);
  seq->scored = !request.prompt_logprobs;
  seq->tokens = std::move(request.prompt);
  seq->request = std::move(request);
  waiting.push_back(seq.get());
  const RequestId id = seq->id;
  sequences.emplace(id, std::move(seq));
  return id;
}

std::span<const StepOutput> Engine::Impl::Step() {
  output_count = 0;
  DropCancelled();
  Admit();
  PlanBatch();
  if (!batch.empty()) {
    const auto begin = std::chrono::steady_clock::now();
    const auto decoding = static_cast<int64_t>(batch.size());
    bool decode_only = true;
    for (const Sequence* seq : batch) {
      decode_only &= seq->computed >= seq->prompt_length && seq->count == 1 + seq->drafts;
    }
    const ForwardResult result = model.Forward(inputs, cache);
    model.exec().pool().For(decoding, [&](int64_t task, int worker) {
      Absorb(*batch[static_cast<size_t>(task)], result, samplers[static_cast<size_t>(worker)]);
    });
    const bool mtp = WantsMtp(decoding);
    int64_t drafted = 0;
    for (Sequence* seq : batch) {
      drafted += seq->drafted;
      const bool spoke = !seq->sampled.empty();
      if (Settle(*seq) && spoke && mtp) NoteForMtp(*seq, result);
    }
    RunMtp();
    ++stats.steps;
    if (decode_only) {
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      policy.RecordStep(decoding, drafted, took.count());
    }
  }
  return std::span(outputs).first(output_count);
}

Engine::Stats Engine::Impl::CurrentStats() const {
  Stats s = stats;
  s.waiting = static_cast<int64_t>(waiting.size());
  s.running = static_cast<int64_t>(running.size());
  s.free_blocks = blocks.free_blocks();
  s.cached_blocks = blocks.cached_blocks();
  return s;
}

Result<std::unique_ptr<Engine>> Engine::Create(Model& model, const Tokenizer* tokenizer,
                                               const EngineOptions& options) {
  const EngineOptions resolved = TRY(Resolve(model.config(), options));
  return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(model, tokenizer, resolved)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<RequestId> Engine::Submit(Request request) { return impl_->Submit(std::move(request)); }
std::span<const StepOutput> Engine::Step() { return impl_->Step(); }
void Engine::Cancel(RequestId id) {
  if (impl_->sequences.contains(id)) impl_->cancelled.push_back(id);
}
bool Engine::idle() const { return impl_->sequences.empty(); }
Engine::Stats Engine::stats() const { return impl_->CurrentStats(); }
int64_t Engine::context() const { return impl_->context; }

void Engine::CheckInvariants() const {
  const auto count = static_cast<size_t>(impl_->blocks.blocks());
  std::vector<int32_t> references(count, 0), owned(count, 0);
  for (const auto& [id, seq] : impl_->sequences) {
    CHECK(id == seq->id && seq->shared <= static_cast<int64_t>(seq->blocks.size()));
    CHECK(seq->running || seq->blocks.empty());
    for (size_t i = 0; i < seq->blocks.size(); ++i) {
      auto& uses = i < static_cast<size_t>(seq->shared) ? references : owned;
      ++uses[static_cast<size_t>(seq->blocks[i])];
    }
  }
  CHECK(impl_->sequences.size() == impl_->waiting.size() + impl_->running.size());
  CHECK(std::ranges::is_sorted(impl_->waiting, {}, &internal::Sequence::id));
  CHECK(std::ranges::is_sorted(impl_->running, {}, &internal::Sequence::id));
  impl_->blocks.CheckInvariants(references, owned);
}

}  // namespace hadal
