// What a forward pass gave: tokens, ends, errors, and the outputs that the caller sees.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "infer/internal_engine.h"

namespace hadal {

bool Engine::Impl::RowFails(Sequence& seq, const ForwardResult& result, int64_t row,
                            int64_t position) {
  const int32_t layer = result.bad_layer[static_cast<size_t>(row)];
  if (layer < 0) return false;
  seq.finish = FinishReason::kError;
  seq.error = "NaN or Inf in the output of layer " + std::to_string(layer) + " at position " +
              std::to_string(position);
  return true;
}

namespace {

void FailInHead(internal::Sequence& seq, int64_t position) {
  seq.finish = FinishReason::kError;
  seq.error = "NaN or Inf in the logits at position " + std::to_string(position) +
              ", from the output head: every layer before it was finite";
}

}  // namespace

void Engine::Impl::Score(Sequence& seq, const ForwardResult& result, Sampler& sampler) {
  for (int64_t i = 0; i < seq.rows; ++i) {
    const int64_t row = seq.first_row + i, position = seq.computed + i;
    if (RowFails(seq, result, row, position)) return;
    if (position + 1 >= seq.prompt_length) return;
    const auto logits = result.logits[row];
    const float logprob = sampler.Logprob({logits.data, static_cast<size_t>(logits.size)},
                                          seq.tokens[static_cast<size_t>(position + 1)]);
    if (std::isnan(logprob)) return FailInHead(seq, position);
    seq.prompt_logprobs.push_back(logprob);
  }
}

// Takes one more token of output and sees whether it was the last.
void Engine::Impl::Accept(Sequence& seq, SampledToken token) {
  const int32_t id = token.id;
  seq.tokens.push_back(id);
  seq.sampled.push_back(std::move(token));
  if (std::ranges::binary_search(seq.stop_ids, id)) {
    seq.finish = FinishReason::kStopId;
    return;
  }
  if (seq.stop && seq.stop->Feed(seq.decoder->Push(id), nullptr)) {
    const auto unfinished = static_cast<int64_t>(seq.decoder->Flush().size());
    seq.stop_bytes = seq.stop->fed_bytes() + unfinished - seq.stop->match_begin();
    seq.finish = FinishReason::kStopString;
    return;
  }
  if (seq.generated() < seq.most_tokens) return;
  const bool asked = seq.request.max_tokens >= 0 && seq.generated() >= seq.request.max_tokens;
  seq.finish = asked ? FinishReason::kLength : FinishReason::kContext;
}

// Draws a token from each row with its own index, as if the guesses had not been there; a row
// counts while the tokens drawn so far are the ones that were guessed.
void Engine::Impl::Sample(Sequence& seq, const ForwardResult& result, Sampler& sampler) {
  int32_t guess[kMaxDraft];
  const int64_t drafts = std::exchange(seq.drafts, 0);
  std::copy(seq.tokens.end() - drafts, seq.tokens.end(), guess);
  seq.tokens.resize(seq.tokens.size() - static_cast<size_t>(drafts));
  seq.computed += seq.count - drafts;
  seq.drafted = drafts;
  const int64_t first = seq.first_row + seq.rows - 1 - drafts;
  for (int64_t i = 0;; ++i) {
    if (RowFails(seq, result, first + i, seq.known() - 1)) return;
    if (seq.most_tokens == 0) {
      seq.finish = FinishReason::kLength;
      return;
    }
    const auto logits = result.logits[first + i];
    SampledToken token =
        sampler.Sample({logits.data, static_cast<size_t>(logits.size)}, seq.request.sampling,
                       seq.prompt(), seq.output(), seq.generated());
    if (token.id < 0) return FailInHead(seq, seq.known() - 1);
    const bool guessed = i < drafts && token.id == guess[i];
    Accept(seq, std::move(token));
    if (guessed) {
      ++seq.accepted;
      ++seq.computed;
    }
    if (!guessed || seq.finish != FinishReason::kNone) return;
  }
}

// Touches this sequence alone: sequences are absorbed in parallel.
void Engine::Impl::Absorb(Sequence& seq, const ForwardResult& result, Sampler& sampler) {
  seq.drafted = seq.accepted = 0;
  if (Scoring(seq)) {
    Score(seq, result, sampler);
    if (seq.finish != FinishReason::kNone) return;
  }
  if (seq.computed + seq.count < seq.known()) {
    seq.computed += seq.count;
  } else {
    Sample(seq, result, sampler);
  }
}

// False when the sequence is no more.
bool Engine::Impl::Settle(Sequence& seq) {
  if (seq.drafted > 0) {
    policy.RecordDraft(seq.source, seq.drafted, seq.accepted);
    stats.drafted_tokens += seq.drafted;
    stats.accepted_tokens += seq.accepted;
  }
  if (seq.finish != FinishReason::kError) PublishBlocks(seq);
  if (seq.sampled.empty() && seq.finish == FinishReason::kNone) return true;
  const bool first = static_cast<int64_t>(seq.sampled.size()) == seq.generated();
  if (first) {
    stats.prompt_tokens += seq.prompt_length;
    stats.cached_tokens += seq.cached_tokens;
  }
  stats.generated_tokens += static_cast<int64_t>(seq.sampled.size());
  const bool finished = seq.finish != FinishReason::kNone;
  Emit(seq);
  if (finished) Remove(seq);
  return !finished;
}

void Engine::Impl::Emit(Sequence& seq) {
  if (output_count == outputs.size()) {
    outputs.emplace_back();
    outputs.back().tokens.reserve(kMaxDraft + 1);
  }
  StepOutput& out = outputs[output_count++];
  out.id = seq.id;
  out.tokens.clear();
  std::swap(out.tokens, seq.sampled);
  out.prompt_logprobs.clear();
  if (!seq.scored && seq.computed >= seq.prompt_length) {
    std::swap(out.prompt_logprobs, seq.prompt_logprobs);
    seq.scored = true;
  }
  out.finish = seq.finish;
  out.error = seq.error;
  out.cached_tokens = seq.cached_tokens;
  out.stop_bytes = seq.stop_bytes;
}

void Engine::Impl::Remove(Sequence& seq) {
  ReleaseBlocks(seq);
  if (seq.running) {
    running.erase(std::ranges::find(running, &seq));
  } else {
    waiting.erase(std::ranges::lower_bound(waiting, seq.id, {}, &Sequence::id));
  }
  sequences.erase(seq.id);
}

}  // namespace hadal
