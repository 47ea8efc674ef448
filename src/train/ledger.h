// What training cost: tokens, FLOPs, core-hours, joules where the machine tells, money at a price.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config.h"

namespace hadal {

// Floating-point operations of training, forward and backward, as the mathematics asks; recomputed
// activations and the optimiser are not counted. A multiply and an add are two.
//   per token  6 x parameters that multiply: active ones with the head and without the embedding
//              table (2 forward, 4 backward; norm weights are in the count, three in a million)
//   per pair   6 x layers x heads x (Dk + Dv) for each (query, key) pair that causal attention
//              scores: 2 Dk + 2 Dv forward, twice that backward; MLA in its expanded form
//   mtp        the same of the MTP layers: block, eh_proj [D, 2D], and the head once more
struct TrainFlops {
  double per_token = 0, per_pair = 0;
  double mtp_per_token = 0, mtp_per_pair = 0;

  // pairs: the sum over documents of n (n + 1) / 2.
  double Of(double tokens, double pairs, bool mtp = true) const;
  // The mean of a token in sequences of seq_len tokens: (seq_len + 1) / 2 pairs a token.
  double PerToken(int64_t seq_len, bool mtp = true) const;
};
TrainFlops CountTrainFlops(const ModelConfig& config);
double TrainFlopsPerToken(const ModelConfig& config, int64_t seq_len);  // MTP included

struct LedgerMachine {
  std::string host, cpu;
  int64_t cores = 0;
  double available_core_seconds = 0;  // cores x wall time: what a rented machine bills
  std::optional<double> joules;       // of the whole machine meanwhile; absent when not readable
};

struct Ledger {
  int64_t tokens = 0;
  double train_flops = 0;
  double core_seconds = 0;  // user and system time of the processes
  double wall_seconds = 0;
  uint64_t peak_rss_bytes = 0;  // ranks that ran side by side are added
  int64_t sessions = 1;         // starts of the program: 1 + resumes
  int64_t ranks = 1;
  std::vector<LedgerMachine> machines;
  std::string energy_source;  // which counters gave the joules
  std::optional<double> price_per_core_hour;
  std::string currency = "USD";

  double core_hours() const { return core_seconds / 3600; }
  double available_core_hours() const;
  std::optional<double> joules() const;        // absent unless every machine told
  std::optional<double> money() const;         // core_hours x price; absent without a price
  std::optional<double> rented_money() const;  // available_core_hours x price

  std::string ToJson() const;  // with the derived figures, which reading ignores
  static Result<Ledger> FromJson(std::string_view text);
};
Result<Ledger> ReadLedger(const std::string& path);
Status WriteLedger(const Ledger& ledger, const std::string& path);  // atomic

// One after the other (a resumed run, stages of a recipe): times, tokens and joules add up, the
// peak of memory is the larger. A side without joules makes the joules of that machine absent: a
// sum with a hole would be a guess.
Ledger MergeSessions(const Ledger& before, const Ledger& after);
// Side by side (ranks of one job): tokens, FLOPs, core time and memory add up, wall time is the
// longest; ranks on one host share its cores and its energy counters, which count once.
Ledger MergeRanks(std::span<const Ledger> ranks);

// Where the system keeps its counters; tests give their own folders.
struct MeterOptions {
  std::string powercap = "/sys/class/powercap";
  std::string hwmon = "/sys/class/hwmon";
  std::optional<double> price_per_core_hour;
};

// Measures this process from construction on.
class LedgerMeter {
 public:
  explicit LedgerMeter(const MeterOptions& options = {});
  // After each step. Looks at the energy counters once in a while: they wrap within the hour.
  void Add(int64_t tokens, double train_flops);
  Ledger Read();

 private:
  struct Counter {
    std::string file;
    uint64_t range = 0;  // where it wraps; 0: never
    uint64_t last = 0;
  };
  void FindRapl(const std::string& folder);
  void FindHwmon(const std::string& folder);
  void AddCounter(const std::string& file, uint64_t range, const std::string& name);
  void PollEnergy();

  std::vector<Counter> counters_;
  bool energy_known_ = false;
  double microjoules_ = 0;
  double core_seconds_before_ = 0;
  std::chrono::steady_clock::time_point start_, last_poll_;
  Ledger ledger_;
};

}  // namespace hadal
