#include "train/cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <set>

#include "base/progress.h"
#include "base/terminal.h"
#include "train/figures.h"
#include "train/internal_run.h"

namespace hadal {
namespace {

// Peaks are the makers' dense figures; that of the CPU was measured by this program's own loops.
const Hardware kHardware[] = {
    {"h800", "NVIDIA H800 SXM", 989e12, "bf16", 80e9, 2, "the rent DeepSeek assumes", 0},
    {"h100", "NVIDIA H100 SXM", 989e12, "bf16", 80e9, -1, "", 0},
    {"h200", "NVIDIA H200 SXM", 989e12, "bf16", 141e9, -1, "", 0},
    {"a100", "NVIDIA A100 SXM 80 GB", 312e12, "bf16", 80e9, -1, "", 0},
    {"b200", "NVIDIA B200 in an HGX board", 2250e12, "bf16", 180e9, -1, "", 0},
    {"rtx4090", "NVIDIA GeForce RTX 4090", 165.2e12, "bf16", 24e9, -1, "", 0},
    {"2-core", "2 cores of a Zen 4 server part", 453e9, "bf16", 0, -1, "", 2},
};

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool HasLedger(const std::string& folder) {
  std::error_code error;
  return std::filesystem::exists(folder + "/ledger.json", error);
}

void AddMemory(CostPlan& plan) {
  const ModelCounts& n = plan.counts;
  const auto parameters = static_cast<double>(n.total_parameters + n.mtp_parameters);
  const auto add = [&](const char* what, double bytes) {
    plan.memory.push_back({what, bytes, bytes * parameters});
    plan.memory_bytes += bytes * parameters;
  };
  // The f32 master weights multiply themselves when the compute type is f32.
  if (plan.input.compute == ComputeWeights::kBf16) add("bf16 weights", 2);
  if (plan.input.compute == ComputeWeights::kFp8) add("fp8 weights, block scales", 1 + 4.0 / 16384);
  add("f32 master weights", 4);
  add("f32 gradients", 4);
  const bool half = plan.input.moments == Moments::kBf16;
  add(half ? "two bf16 moments" : "two f32 moments", half ? 4 : 8);
  if (plan.input.hardware.memory_bytes > 0) {
    plan.least_devices =
        static_cast<int64_t>(std::ceil(plan.memory_bytes / plan.input.hardware.memory_bytes));
  }
}

Status CheckPlan(const PlanInput& in) {
  if (!(in.tokens >= 1) || in.tokens > 1e18) {
    return Error{Code::kInvalid,
                 fmt::format("{} tokens make no plan, for example 14.8T", in.tokens)};
  }
  if (!(in.mfu > 0 && in.mfu <= 1)) {
    return Error{Code::kInvalid,
                 fmt::format("an efficiency of {} is not above 0 and at most 1", in.mfu)};
  }
  if (in.devices < 1) {
    return Error{Code::kInvalid, fmt::format("{} devices, at least 1", in.devices)};
  }
  if (in.seq_len < 1 || in.seq_len > (int64_t{1} << 30)) {
    return Error{Code::kInvalid, fmt::format("sequences of {} tokens", in.seq_len)};
  }
  if (!(in.hardware.peak_flops > 0)) return Error{Code::kInvalid, "hardware without a peak"};
  if (in.price_per_hour && !(*in.price_per_hour >= 0)) {
    return Error{Code::kInvalid, fmt::format("a price of {} an hour", *in.price_per_hour)};
  }
  return {};
}

void Row(std::string& out, const char* what, const std::string& value,
         const std::string& how = "") {
  out += fmt::format("{:<26}{:>18}", what, value);
  if (!how.empty()) out += "  " + how;
  out += '\n';
}

std::string LedgerLines(const Ledger& l) {
  std::string out;
  Row(out, "tokens", Grouped(l.tokens));
  Row(out, "training FLOPs", fmt::format("{:.4g}", l.train_flops), "forward and backward");
  Row(out, "core-hours", HumanNumber(l.core_hours()),
      "user and system time of " + std::string(l.ranks == 1 ? "the process" : "all ranks"));
  Row(out, "wall time", HumanTime(l.wall_seconds),
      l.sessions > 1 ? fmt::format("{} sessions", l.sessions) : "");
  if (l.wall_seconds > 0) {
    Row(out, "tokens a second", HumanCount(static_cast<double>(l.tokens) / l.wall_seconds));
    Row(out, "FLOP/s", HumanCount(l.train_flops / l.wall_seconds) + "FLOP/s");
  }
  if (const auto joules = l.joules()) {
    Row(out, "energy", fmt::format("{:.4g} kWh", *joules / 3.6e6), Printable(l.energy_source));
  } else {
    Row(out, "energy", "not readable", "this machine does not tell");
  }
  Row(out, "peak memory", HumanBytes(static_cast<double>(l.peak_rss_bytes)));
  for (const LedgerMachine& m : l.machines) {
    out += fmt::format("{:<26}{} ({} cores)\n", "machine", Printable(m.cpu), m.cores);
  }
  const std::string currency = Printable(l.currency);
  if (const auto money = l.money()) {
    Row(out, "money", HumanMoney(*money, currency),
        fmt::format("{} core-hours × {}", HumanNumber(l.core_hours()),
                    HumanMoney(*l.price_per_core_hour, currency)));
    Row(out, "  as rented", HumanMoney(*l.rented_money(), currency),
        fmt::format("{} core-hours available meanwhile", HumanNumber(l.available_core_hours())));
  } else {
    Row(out, "money", "no price given", "--price sets that of a core-hour");
  }
  return out;
}

}  // namespace

Result<double> ParseQuantity(std::string_view text) {
  const auto bad = [&] {
    return Error{Code::kInvalid,
                 fmt::format("'{}' is not a quantity such as 14.8T, 500B, 1.5M or 4096",
                             Printable(std::string(text.substr(0, 40))))};
  };
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value) || value < 0) return bad();
  std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  if (unit.empty()) return value;
  if (unit.size() != 1) return bad();
  switch (std::toupper(static_cast<unsigned char>(unit[0]))) {
    case 'K':
      return value * 1e3;
    case 'M':
      return value * 1e6;
    case 'G':
    case 'B':
      return value * 1e9;
    case 'T':
      return value * 1e12;
    default:
      return bad();
  }
}

std::span<const Hardware> KnownHardware() { return kHardware; }

Result<Hardware> FindHardware(std::string_view name) {
  std::string names;
  for (const Hardware& hardware : kHardware) {
    if (hardware.name == Lower(name)) return hardware;
    names += (names.empty() ? "" : ", ") + hardware.name;
  }
  return Error{Code::kNotFound, fmt::format("hardware '{}' is unknown; there are {} and here",
                                            Printable(std::string(name.substr(0, 40))), names)};
}

Result<CostPlan> MakePlan(const PlanInput& input) {
  TRY(CheckPlan(input));
  CostPlan plan;
  plan.input = input;
  plan.counts = Count(input.config);
  plan.flops = CountTrainFlops(input.config);
  plan.flops_per_token = plan.flops.PerToken(input.seq_len);
  plan.total_flops = plan.flops_per_token * input.tokens;
  const double rate = input.hardware.peak_flops * input.mfu;
  plan.device_hours = plan.total_flops / rate / 3600;
  plan.days = plan.device_hours / static_cast<double>(input.devices) / 24;
  plan.tokens_per_second = rate * static_cast<double>(input.devices) / plan.flops_per_token;
  if (input.price_per_hour) {
    plan.money = plan.device_hours * *input.price_per_hour;
  } else if (input.hardware.price_per_hour >= 0) {
    plan.money = plan.device_hours * input.hardware.price_per_hour;
  }
  AddMemory(plan);
  return plan;
}

std::string PlanText(const CostPlan& plan) {
  const PlanInput& in = plan.input;
  const auto giga = [](double flops) { return fmt::format("{:.4g}", flops / 1e9); };
  std::string out;
  Row(out, "total parameters", Grouped(plan.counts.total_parameters));
  if (plan.counts.mtp_parameters > 0) {
    Row(out, "  of MTP besides", Grouped(plan.counts.mtp_parameters));
  }
  Row(out, "active without embedding", Grouped(plan.counts.active_without_embedding));
  out += '\n';
  Row(out, "GFLOP a token", giga(plan.flops_per_token), "forward and backward");
  Row(out, "  parameters", giga(plan.flops.per_token), "6 × active without embedding");
  Row(out, "  attention", giga(plan.flops.per_pair * 0.5 * static_cast<double>(in.seq_len + 1)),
      fmt::format("{:.5g} MFLOP a pair × ({} + 1)/2 pairs", plan.flops.per_pair / 1e6, in.seq_len));
  if (plan.flops.mtp_per_token > 0) {
    Row(out, "  MTP", giga(plan.flops_per_token - plan.flops.PerToken(in.seq_len, false)),
        "one more block, eh_proj and head");
  }
  Row(out, "tokens", HumanCount(in.tokens));
  Row(out, "training FLOPs", fmt::format("{:.4g}", plan.total_flops));
  out += '\n';
  out += fmt::format("{:<26}{}, {}FLOP/s {}\n", "hardware", in.hardware.description,
                     HumanCount(in.hardware.peak_flops), in.hardware.peak_type);
  Row(out, "share of the peak", HumanShare(in.mfu));
  Row(out, "device-hours", HumanCount(plan.device_hours), "FLOPs / (peak × share × 3600)");
  if (in.hardware.cores > 0) {
    Row(out, "core-hours", HumanCount(plan.device_hours * static_cast<double>(in.hardware.cores)));
  }
  Row(out, "devices", Grouped(in.devices));
  Row(out, "time", HumanTime(plan.days * 86400));
  Row(out, "tokens a second", HumanCount(plan.tokens_per_second), "all devices");
  if (plan.money) {
    const double price = in.price_per_hour.value_or(in.hardware.price_per_hour);
    Row(out, "money", HumanMoney(*plan.money),
        fmt::format("at ${} a device-hour{}", price,
                    in.price_per_hour ? "" : ", " + in.hardware.price_source));
  } else {
    Row(out, "money", "no price known", "--price sets that of a device-hour");
  }
  out += "\nmemory of weights and optimiser, all devices together, activations apart\n";
  for (const MemoryLine& line : plan.memory) {
    Row(out, ("  " + line.what).c_str(), HumanBytes(line.bytes),
        fmt::format("{:.4g} bytes a parameter", line.bytes_per_parameter));
  }
  Row(out, "  total", HumanBytes(plan.memory_bytes),
      plan.least_devices > 0 ? fmt::format("at least {} devices", Grouped(plan.least_devices))
                             : "");
  return out;
}

Result<RunCost> CostOfRun(const std::string& run_dir, std::optional<double> price_per_core_hour) {
  if (price_per_core_hour && !(*price_per_core_hour >= 0)) {
    return Error{Code::kInvalid, fmt::format("a price of {} an hour", *price_per_core_hour)};
  }
  RunCost run;
  run.folder = run_dir;
  std::set<std::string> seen;  // stages that share a folder share its ledger: it counts once
  std::optional<Ledger> sum;
  for (const internal::Stage& stage : TRY(internal::ReadStages(run_dir)).stages) {
    StageCost cost{stage.name, stage.run_dir, std::nullopt, "", std::nullopt};
    if (stage.folder.empty()) {
      cost.problem = "no folder of its own inside the run";
    } else if (!seen.insert(stage.folder).second) {
      cost.problem = "counted with the stage above that has the same folder";
    } else if (!HasLedger(stage.folder)) {
      cost.problem = "no training, so no ledger";
      cost.seconds = internal::StageSeconds(stage.folder);
    } else if (auto ledger = ReadLedger(stage.folder + "/ledger.json"); ledger.ok()) {
      if (price_per_core_hour) ledger->price_per_core_hour = price_per_core_hour;
      sum = sum ? MergeSessions(*sum, *ledger) : *ledger;
      cost.ledger = *std::move(ledger);
    } else {
      cost.problem = ledger.error().message;
    }
    run.stages.push_back(std::move(cost));
  }
  if (!sum && !HasLedger(run_dir)) {
    return Error{Code::kNotFound, run_dir + ": no ledger.json; is this the folder of a run?"};
  }
  run.total = sum ? *std::move(sum) : TRY(ReadLedger(run_dir + "/ledger.json"));
  if (price_per_core_hour) run.total.price_per_core_hour = price_per_core_hour;
  return run;
}

std::string RunText(const RunCost& run) {
  std::string out = LedgerLines(run.total);
  if (run.stages.empty()) return out;
  out += fmt::format("\n{:<24}{:>12}{:>14}{:>12}{:>12}\n", "stage", "tokens", "FLOPs", "core-hours",
                     "time");
  for (const StageCost& stage : run.stages) {
    const std::string name = Printable(stage.name);
    if (!stage.ledger) {
      out += stage.seconds ? fmt::format("{:<24}{:>50}\n", name, HumanTime(*stage.seconds))
                           : fmt::format("{:<24}  {}\n", name, Printable(stage.problem));
      continue;
    }
    const Ledger& l = *stage.ledger;
    out += fmt::format("{:<24}{:>12}{:>14.3g}{:>12}{:>12}\n", name,
                       HumanCount(static_cast<double>(l.tokens)), l.train_flops,
                       HumanNumber(l.core_hours()), HumanTime(l.wall_seconds));
  }
  return out;
}

}  // namespace hadal
