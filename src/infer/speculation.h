// Guessing the next tokens from those already there, and whether the guess is worth its time. Only
// speed depends on anything here: a guess is verified token by token before it counts.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace hadal {

inline constexpr int64_t kMaxDraft = 8;
inline constexpr int64_t kMaxSpeculativeBatch = 8;  // beyond it a step has no idle arithmetic left

// Where a draft came from: the length of the run of ids that was found again (2 to 4), or the
// model's own multi-token prediction.
enum class DraftSource : uint8_t { kMtp = 0, kMatch2, kMatch3, kMatch4 };
inline constexpr size_t kDraftSources = 4;

// Looks up the last ids of one sequence earlier in it. Positions with the same last two ids are
// chained, the latest first, so a look-up costs at most kMaxCandidates comparisons.
class PromptLookup {
 public:
  void Reserve(int64_t tokens);  // no allocation up to this length
  // Continuation of the latest longest match (2 to 4 ids) of the end of `tokens`, running into
  // itself where the text repeats. Writes up to out.size() ids; returns how many, 0 without a
  // match. `tokens` must extend what was given before.
  int64_t Draft(std::span<const int32_t> tokens, std::span<int32_t> out, DraftSource* source);

 private:
  static constexpr int kMaxCandidates = 32;
  static size_t Bucket(int32_t a, int32_t b);
  void Extend(std::span<const int32_t> tokens);

  std::vector<int32_t> heads_;     // latest position whose last two ids fall in the bucket
  std::vector<int32_t> previous_;  // the one before it, by position
};

// Decides how many ids to draft. A draft pays when its chance to be accepted is more than its share
// of time: chance > extra seconds a drafted row / seconds a token without drafts. Both are
// measured: chances a source, times a batch size. A source that does not pay is tried again now and
// then, ever more rarely.
class SpeculationPolicy {
 public:
  // For a step of `sequences` sequences; 0 when drafting does not pay.
  int64_t DraftLength(int64_t sequences, DraftSource source) const;
  // After a step of decoding alone: how many rows beyond one a sequence it had, and its time.
  void RecordStep(int64_t sequences, int64_t drafted, double seconds);
  void RecordDraft(DraftSource source, int64_t drafted, int64_t accepted);

 private:
  struct Source {
    double chance;  // of a drafted id whose predecessors were accepted
    bool on = true;
    int64_t next_probe = 0;  // step number
    int64_t probe_gap = 32;
  };
  struct Batch {
    double plain_s = 0;  // a step without drafts
    double row_s = 0;    // a drafted row
    int64_t plain_steps = 0, since_plain = 0;
  };
  // The chance at which drafting breaks even.
  static double BreakEven(const Batch& batch, int64_t sequences);

  std::array<Source, kDraftSources> sources_ = {
      {{.chance = 0.7}, {.chance = 0.4}, {.chance = 0.6}, {.chance = 0.7}}};
  std::array<Batch, kMaxSpeculativeBatch + 1> batches_{};
  int64_t steps_ = 0;
};

}  // namespace hadal
