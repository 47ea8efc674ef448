// Costs worked out: of a run that was, of one that is planned, of those that DeepSeek published.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "train/ledger.h"

namespace hadal {

// "14.8T", "62.9 B", "180K", "5e9", "4096": K, M, G or B, T are powers of a thousand.
Result<double> ParseQuantity(std::string_view text);

// A device to plan for. price < 0: none is known, so a plan names no money unless one is given.
struct Hardware {
  std::string name, description;
  double peak_flops = 0;    // dense, of the stated type
  std::string peak_type;    // "bf16", "f32"
  double memory_bytes = 0;  // of one device; 0: not stated
  double price_per_hour = -1;
  std::string price_source;
  int64_t cores = 0;  // of a CPU machine; 0: an accelerator
};
std::span<const Hardware> KnownHardware();
Result<Hardware> FindHardware(std::string_view name);

enum class ComputeWeights : uint8_t { kF32, kBf16, kFp8 };  // the copy that multiplies
enum class Moments : uint8_t { kF32, kBf16 };

struct PlanInput {
  ModelConfig config;
  double tokens = 0;
  int64_t seq_len = 4096;
  Hardware hardware;
  double mfu = 0.39;  // model FLOPs that are done / that the peak allows
  int64_t devices = 1;
  std::optional<double> price_per_hour;  // of a device; else the hardware's own
  ComputeWeights compute = ComputeWeights::kBf16;
  Moments moments = Moments::kF32;
};

struct MemoryLine {
  std::string what;
  double bytes_per_parameter = 0;
  double bytes = 0;
};

struct CostPlan {
  PlanInput input;
  ModelCounts counts;
  TrainFlops flops;
  double flops_per_token = 0, total_flops = 0;
  double device_hours = 0, days = 0, tokens_per_second = 0;  // of one; of all; of all
  std::optional<double> money;
  std::vector<MemoryLine> memory;  // weights, master copy, gradients, two moments
  double memory_bytes = 0;
  int64_t least_devices = 0;  // whose memory together holds it; 0: the hardware's is not stated
};
// kInvalid where a figure makes no plan: no tokens, an efficiency outside (0, 1], no device.
Result<CostPlan> MakePlan(const PlanInput& input);
std::string PlanText(const CostPlan& plan);

// One line of arithmetic: what is computed, how, the result, and what the source prints.
struct CostLine {
  std::string what, arithmetic;
  double value = 0;
  std::string unit, printed, note;  // printed is empty where the source has no such figure
};

struct PaperStage {
  std::string name, arithmetic;
  double gpu_hours = 0;            // as the source prints it (thousands, rounded)
  double dollars = 0;              // gpu_hours x price
  double unrounded_gpu_hours = 0;  // where the source says what it is made of; else as printed
};

struct PaperCost {
  std::string name, title, source;
  double price_per_gpu_hour = 2;
  std::vector<PaperStage> stages;
  double gpu_hours = 0, dollars = 0;
  double unrounded_gpu_hours = 0, unrounded_dollars = 0;
  std::vector<CostLine> checks;
  std::vector<std::string> excluded;
};
// "v3" (arXiv:2412.19437, Table 1) or "r1" (arXiv:2501.12948v2, Table 7).
Result<PaperCost> CostOfPaper(std::string_view name);
std::string PaperText(const PaperCost& paper);

// What a run folder cost: its ledger.json, and those of its stages where recipe.json names some.
struct StageCost {
  std::string name, folder;
  std::optional<Ledger> ledger;
  std::string problem;            // why there is no ledger
  std::optional<double> seconds;  // how long it took, where it left no ledger
};
struct RunCost {
  std::string folder;
  std::vector<StageCost> stages;  // empty for a run of one stage
  Ledger total;
};
Result<RunCost> CostOfRun(const std::string& run_dir, std::optional<double> price_per_core_hour);
std::string RunText(const RunCost& run);

}  // namespace hadal
