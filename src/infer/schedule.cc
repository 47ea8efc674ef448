// Which tokens of which sequences go into the next forward pass, and who gives way when blocks run
// out. Requests are served in the order they came: the oldest always goes on, so all end.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "infer/internal_engine.h"

namespace hadal {
namespace {

int64_t BlocksFor(int64_t tokens) { return (tokens + kKvBlock - 1) / kKvBlock; }

}  // namespace

void Engine::Impl::DropCancelled() {
  for (const RequestId id : cancelled) {
    const auto found = sequences.find(id);
    if (found == sequences.end()) continue;
    Sequence& seq = *found->second;
    seq.finish = FinishReason::kCancelled;
    Emit(seq);
    Remove(seq);
  }
  cancelled.clear();
}

// State of generated tokens of MLA models is computed in another form than a prompt's and differs
// in bits, so only prompt tokens are shared there.
int64_t Engine::Impl::ShareableTokens(const Sequence& seq) const {
  return mla ? seq.prompt_length : seq.known();
}

// Reads on from where the sequence stands as far as others have computed the same tokens. The last
// token is always left, for its logits.
void Engine::Impl::TakeCached(Sequence& seq) {
  if (!options.prefix_cache || Scoring(seq)) return;
  const int64_t limit = std::min(ShareableTokens(seq), seq.known() - 1) / kKvBlock;
  while (seq.shared < limit && seq.computed == seq.shared * kKvBlock) {
    const auto at = static_cast<size_t>(seq.shared);
    const int32_t parent = at == 0 ? PrefixCache::kRoot : seq.blocks[at - 1];
    const int32_t block = blocks.Find(parent, seq.block_tokens(seq.shared));
    if (block < 0) return;
    if (at < seq.blocks.size()) {
      blocks.Free(seq.blocks[at]);
      seq.blocks[at] = block;
    } else {
      seq.blocks.push_back(block);
    }
    ++seq.shared;
    seq.computed += kKvBlock;
    if (seq.generated() == 0) seq.cached_tokens += kKvBlock;
  }
}

void Engine::Impl::PublishBlocks(Sequence& seq) {
  if (!options.prefix_cache) return;
  const int64_t full = std::min(seq.computed, ShareableTokens(seq)) / kKvBlock;
  for (; seq.shared < full; ++seq.shared) {
    const auto at = static_cast<size_t>(seq.shared);
    const int32_t parent = at == 0 ? PrefixCache::kRoot : seq.blocks[at - 1];
    // When another sequence was first the tree's block, equal bit for bit, replaces this one.
    seq.blocks[at] = blocks.Publish(parent, seq.block_tokens(seq.shared), seq.blocks[at]);
  }
}

bool Engine::Impl::GrowTo(Sequence& seq, int64_t tokens) {
  while (static_cast<int64_t>(seq.blocks.size()) < BlocksFor(tokens)) {
    const int32_t block = blocks.Allocate();
    if (block < 0) return false;
    seq.blocks.push_back(block);
  }
  return true;
}

void Engine::Impl::ReleaseBlocks(Sequence& seq) {
  // Deepest first: of equally old blocks the end of a prefix is evicted before its beginning.
  for (size_t i = seq.blocks.size(); i-- > 0;) {
    if (i < static_cast<size_t>(seq.shared)) {
      blocks.Release(seq.blocks[i]);
    } else {
      blocks.Free(seq.blocks[i]);
    }
  }
  seq.blocks.clear();
  seq.shared = seq.computed = 0;
  seq.mtp_end = -1;
  seq.mtp_draft = -1;
}

// Back to the queue. What it has said stays said: its tokens are computed again, each in the form
// it had, and it goes on with the same bits.
void Engine::Impl::Preempt(Sequence& seq) {
  ReleaseBlocks(seq);
  if (!seq.scored) seq.prompt_logprobs.clear();
  if (seq.generated() == 0) seq.cached_tokens = 0;
  seq.running = false;
  running.pop_back();
  waiting.push_front(&seq);
  ++stats.preemptions;
}

bool Engine::Impl::AdmitOne(Sequence& seq) {
  const int64_t most = seq.prompt_length + seq.most_tokens + kMaxDraft;
  if (static_cast<int64_t>(seq.tokens.capacity()) < most || seq.sampled.capacity() == 0) {
    seq.tokens.reserve(static_cast<size_t>(most));
    seq.blocks.reserve(static_cast<size_t>(BlocksFor(most)));
    seq.sampled.reserve(kMaxDraft + 1);
    if (options.speculation != EngineOptions::Speculation::kOff) seq.lookup.Reserve(most);
  }
  TakeCached(seq);
  const int64_t wanted = BlocksFor(std::min(seq.known() + 1, context));
  if (wanted - static_cast<int64_t>(seq.blocks.size()) > blocks.available()) {
    ReleaseBlocks(seq);
    if (seq.generated() == 0) seq.cached_tokens = 0;
    return false;
  }
  CHECK(GrowTo(seq, std::min(seq.known() + 1, context)));
  return true;
}

void Engine::Impl::Admit() {
  while (!waiting.empty() && static_cast<int64_t>(running.size()) < options.max_sequences) {
    Sequence& seq = *waiting.front();
    if (!AdmitOne(seq)) return;
    waiting.pop_front();
    running.push_back(&seq);
    seq.running = true;
  }
}

int64_t Engine::Impl::DraftLength(int64_t decoding, DraftSource source) const {
  if (options.speculation == EngineOptions::Speculation::kAlways) return kMaxDraft;
  return policy.DraftLength(decoding, source);
}

void Engine::Impl::Draft(Sequence& seq, int64_t decoding) {
  if (options.speculation == EngineOptions::Speculation::kOff) return;
  const int32_t predicted = std::exchange(seq.mtp_draft, -1);
  const int64_t most = std::min(seq.most_tokens - seq.generated() - 1, kMaxDraft);
  if (most <= 0) return;
  int32_t guess[kMaxDraft];
  DraftSource source = DraftSource::kMtp;
  int64_t found =
      seq.lookup.Draft(seq.tokens, std::span(guess, static_cast<size_t>(most)), &source);
  if (found > 0) found = std::min(found, DraftLength(decoding, source));
  if (found == 0 && predicted >= 0) {
    source = DraftSource::kMtp;
    guess[0] = predicted;
    found = std::min<int64_t>(1, DraftLength(decoding, source));
  }
  // A guess is worth no one else's place.
  while (found > 0 && !GrowTo(seq, seq.known() + found)) --found;
  if (found == 0) return;
  seq.tokens.insert(seq.tokens.end(), guess, guess + found);
  seq.drafts = found;
  seq.source = source;
}

// False when the sequence had to give way itself.
bool Engine::Impl::PlanDecode(Sequence& seq, int64_t decoding) {
  while (!GrowTo(seq, seq.known())) {
    Sequence& youngest = *running.back();
    Preempt(youngest);
    if (&youngest == &seq) return false;
  }
  seq.drafts = 0;
  if (seq.computed >= seq.prompt_length) Draft(seq, decoding);
  seq.count = seq.rows = 1 + seq.drafts;
  return true;
}

// True when a sequence of this step computes the very block that this one needs next: a step later
// it can be read instead.
bool Engine::Impl::LedByAnother(const Sequence& seq) const {
  if (!options.prefix_cache || Scoring(seq) || seq.computed != seq.shared * kKvBlock) return false;
  if (std::min(ShareableTokens(seq), seq.known() - 1) < seq.computed + kKvBlock) return false;
  const auto parent = [](const Sequence& s) {
    return s.shared == 0 ? PrefixCache::kRoot : s.blocks[static_cast<size_t>(s.shared - 1)];
  };
  return std::ranges::any_of(batch, [&](const Sequence* other) {
    return other->shared == seq.shared && parent(*other) == parent(seq) &&
           other->computed + other->count >= seq.computed + kKvBlock &&
           ShareableTokens(*other) >= seq.computed + kKvBlock &&
           std::ranges::equal(other->block_tokens(seq.shared), seq.block_tokens(seq.shared));
  });
}

// Returns how many tokens of the budget were taken.
int64_t Engine::Impl::PlanPrompt(Sequence& seq, int64_t budget, int64_t row_budget) {
  TakeCached(seq);
  if (LedByAnother(seq)) return 0;
  int64_t count = std::min(seq.pending(), budget);
  // One form a pass: a replayed output follows its prompt in the next.
  if (seq.computed < seq.prompt_length) {
    count = std::min(count, seq.prompt_length - seq.computed);
  }
  const bool scoring = Scoring(seq);
  if (scoring) count = std::min(count, row_budget);
  if (count <= 0) return 0;
  seq.count = count;
  seq.drafts = 0;
  seq.rows = scoring ? count : (count == seq.pending() ? 1 : 0);
  return count;
}

void Engine::Impl::PlanBatch() {
  batch.clear();
  inputs.clear();
  const auto decodes = [](const Sequence* s) { return s->pending() == 1; };
  const int64_t decoding = std::ranges::count_if(running, decodes);
  // Preemption takes from the end of `running`, never what is planned already.
  for (size_t i = 0; i < running.size(); ++i) {
    Sequence& seq = *running[i];
    if (decodes(&seq) && !Scoring(seq) && PlanDecode(seq, decoding)) batch.push_back(&seq);
  }
  int64_t budget = options.prefill_chunk;
  // Rows of logits that scoring may ask for: 64 MiB of them.
  int64_t row_budget = std::max<int64_t>(16, (int64_t{16} << 20) / model.config().vocab);
  for (size_t i = 0; i < running.size() && budget > 0; ++i) {
    Sequence& seq = *running[i];
    if (decodes(&seq) && !Scoring(seq)) continue;
    const int64_t taken = PlanPrompt(seq, budget, row_budget);
    if (taken == 0) continue;
    budget -= taken;
    if (seq.rows > 1) row_budget -= taken;
    batch.push_back(&seq);
  }
  int64_t row = 0;
  for (Sequence* seq : batch) {
    seq->first_row = row;
    row += seq->rows;
    inputs.push_back({.blocks = seq->blocks.data(),
                      .start = seq->computed,
                      .tokens = std::span(seq->tokens)
                                    .subspan(static_cast<size_t>(seq->computed),
                                             static_cast<size_t>(seq->count)),
                      .expanded = seq->computed < seq->prompt_length,
                      .logits = seq->rows});
  }
}

}  // namespace hadal
