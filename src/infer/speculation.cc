#include "infer/speculation.h"

#include <algorithm>

namespace hadal {
namespace {

constexpr size_t kHeads = 4096;
constexpr int64_t kPlainFirst = 4;   // steps without drafts before the first draft
constexpr int64_t kPlainEvery = 64;  // and now and then, because a step's time drifts
constexpr int64_t kMaxProbeGap = 1024;
constexpr double kTimeWeight = 0.1, kChanceWeight = 0.05;  // of a new measurement
constexpr double kRowGuess = 0.25;  // time of a drafted row, in plain rows, before it is measured

// A single wild measurement (another process took the core) moves the mean by little.
double Blend(double mean, double sample, double weight) {
  return mean + weight * (std::clamp(sample, mean * 0.5, mean * 2.0) - mean);
}

}  // namespace

size_t PromptLookup::Bucket(int32_t a, int32_t b) {
  const uint64_t key = (uint64_t{static_cast<uint32_t>(a)} << 32) | static_cast<uint32_t>(b);
  return (key * 0x9E3779B97F4A7C15ull) >> 52;
}

void PromptLookup::Reserve(int64_t tokens) {
  heads_.assign(kHeads, -1);
  previous_.clear();
  previous_.reserve(static_cast<size_t>(tokens));
}

void PromptLookup::Extend(std::span<const int32_t> tokens) {
  if (heads_.empty()) heads_.assign(kHeads, -1);
  for (size_t i = previous_.size(); i < tokens.size(); ++i) {
    if (i == 0) {
      previous_.push_back(-1);
      continue;
    }
    int32_t& head = heads_[Bucket(tokens[i - 1], tokens[i])];
    previous_.push_back(head);
    head = static_cast<int32_t>(i);
  }
}

int64_t PromptLookup::Draft(std::span<const int32_t> tokens, std::span<int32_t> out,
                            DraftSource* source) {
  Extend(tokens);
  const size_t n = tokens.size();
  if (n < 3) return 0;
  size_t best = 0, best_length = 1;
  int32_t at = previous_[n - 1];
  for (int tried = 0; at >= 1 && tried < kMaxCandidates && best_length < 4; ++tried) {
    const auto j = static_cast<size_t>(at);
    size_t length = 0;
    while (length < 4 && length <= j && tokens[j - length] == tokens[n - 1 - length]) ++length;
    if (length > best_length) {
      best_length = length;
      best = j;
    }
    at = previous_[j];
  }
  if (best_length < 2) return 0;
  *source = static_cast<DraftSource>(best_length - 1);
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t from = best + 1 + i;
    out[i] = from < n ? tokens[from] : out[from - n];
  }
  return static_cast<int64_t>(out.size());
}

double SpeculationPolicy::BreakEven(const Batch& batch, int64_t sequences) {
  return batch.row_s * static_cast<double>(sequences) / batch.plain_s;
}

int64_t SpeculationPolicy::DraftLength(int64_t sequences, DraftSource source) const {
  if (sequences > kMaxSpeculativeBatch) return 0;
  const Batch& batch = batches_[static_cast<size_t>(sequences)];
  if (batch.plain_steps < kPlainFirst || batch.since_plain >= kPlainEvery) return 0;
  const Source& s = sources_[static_cast<size_t>(source)];
  const double even = BreakEven(batch, sequences);
  const int64_t most = source == DraftSource::kMtp ? 1 : kMaxDraft;
  if (!s.on) return steps_ >= s.next_probe ? std::min<int64_t>(most, 2) : 0;
  // The length of the most tokens a second; at least one while hysteresis holds the source on.
  int64_t best = 1;
  double best_rate = 0, tokens = 1, chance = 1;
  for (int64_t length = 1; length <= most; ++length) {
    chance *= s.chance;
    tokens += chance;
    const double rate = tokens / (1 + static_cast<double>(length) * even);
    if (rate <= best_rate) break;
    best_rate = rate;
    best = length;
  }
  return best;
}

void SpeculationPolicy::RecordStep(int64_t sequences, int64_t drafted, double seconds) {
  ++steps_;
  if (sequences < 1 || sequences > kMaxSpeculativeBatch || !(seconds > 0)) return;
  Batch& batch = batches_[static_cast<size_t>(sequences)];
  if (drafted == 0) {
    // The first steps warm caches: only the last of them counts.
    batch.plain_s =
        batch.plain_steps < kPlainFirst ? seconds : Blend(batch.plain_s, seconds, kTimeWeight);
    if (batch.row_s == 0) batch.row_s = kRowGuess * seconds / static_cast<double>(sequences);
    ++batch.plain_steps;
    batch.since_plain = 0;
    return;
  }
  ++batch.since_plain;
  if (batch.plain_steps == 0) return;
  const double floor = 0.01 * batch.plain_s;
  const double row = (seconds - batch.plain_s) / static_cast<double>(drafted);
  batch.row_s = Blend(batch.row_s, std::max(row, floor), kTimeWeight);
  for (Source& s : sources_) {
    const double even = BreakEven(batch, sequences);
    // Between the two bounds the last decision stands.
    if (s.on && s.chance < 0.9 * even) {
      s.on = false;
      s.next_probe = steps_ + s.probe_gap;
    } else if (!s.on && s.chance > 1.1 * even) {
      s.on = true;
      s.probe_gap = 32;
    }
  }
}

void SpeculationPolicy::RecordDraft(DraftSource source, int64_t drafted, int64_t accepted) {
  Source& s = sources_[static_cast<size_t>(source)];
  for (int64_t i = 0; i < accepted; ++i) s.chance += kChanceWeight * (1 - s.chance);
  if (accepted < drafted) s.chance -= kChanceWeight * s.chance;
  if (!s.on && steps_ >= s.next_probe) {
    s.probe_gap = std::min(s.probe_gap * 2, kMaxProbeGap);
    s.next_probe = steps_ + s.probe_gap;
  }
}

}  // namespace hadal
