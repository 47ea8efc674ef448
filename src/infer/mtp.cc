// Drafts from the model's own multi-token prediction layer (arXiv:2412.19437 §2.2): from the hidden
// state at p and the token at p+1 it guesses the token at p+2.
//
// The layer has its own part of the cache blocks. It would need the hidden state of every prompt
// token, which costs the output head on each; instead its context begins where the answer does.
// Rotary positions count from there too, since only distances matter to attention. It writes to
// blocks of this sequence alone, never to shared ones.
#include <algorithm>

#include "infer/internal_engine.h"

namespace hadal {
namespace {

int32_t Largest(View1<const float> logits) {
  int32_t best = -1;
  float value = -3.4e38f;
  for (int64_t i = 0; i < logits.size; ++i) {
    if (!(logits[i] > value)) continue;  // NaN is never chosen
    value = logits[i];
    best = static_cast<int32_t>(i);
  }
  return best;
}

}  // namespace

bool Engine::Impl::WantsMtp(int64_t decoding) const {
  return model.config().mtp_layers > 0 && options.speculation != EngineOptions::Speculation::kOff &&
         DraftLength(decoding, DraftSource::kMtp) > 0;
}

// Notes a sequence that goes on: its tokens at base + 1 ... base + count are certain, with hidden
// states for the positions before them.
void Engine::Impl::NoteForMtp(Sequence& seq, const ForwardResult& result) {
  const int64_t count = seq.accepted + 1, base = seq.known() - 1 - count;
  // The last row of a prompt of whole blocks: the next block may not be there yet.
  if (base < seq.shared * kKvBlock) return;
  if (seq.mtp_end != base || seq.mtp_block != seq.shared || seq.mtp_start > base) {
    seq.mtp_start = base;
    seq.mtp_block = seq.shared;
  }
  seq.mtp_end = base + count;
  const int64_t first = seq.first_row + seq.rows - 1 - seq.drafted;
  for (int64_t i = 0; i < count; ++i) {
    const auto row = result.hidden[first + i];
    mtp_hidden.insert(mtp_hidden.end(), row.begin(), row.end());
  }
  mtp_batch.push_back(&seq);
  mtp_inputs.push_back(
      {.blocks = seq.blocks.data() + seq.mtp_block,
       .start = base - seq.mtp_start,
       .tokens =
           std::span(seq.tokens).subspan(static_cast<size_t>(base + 1), static_cast<size_t>(count)),
       .expanded = false,
       .logits = 1});
}

void Engine::Impl::RunMtp() {
  if (mtp_batch.empty()) return;
  const int64_t width = model.config().width;
  const auto rows = static_cast<int64_t>(mtp_hidden.size()) / width;
  const ForwardResult guess =
      model.ForwardMtp(mtp_inputs, View2<const float>(mtp_hidden.data(), rows, width), cache);
  for (size_t i = 0; i < mtp_batch.size(); ++i) {
    mtp_batch[i]->mtp_draft = Largest(guess.logits[static_cast<int64_t>(i)]);
  }
  mtp_batch.clear();
  mtp_inputs.clear();
  mtp_hidden.clear();
}

}  // namespace hadal
