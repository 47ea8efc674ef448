// hadal cost: what a run cost, what one would, what DeepSeek's did.
#include "train/cost.h"

#include <fmt/format.h>

#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "kernels/limits.h"

namespace hadal::cli {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

struct Flags {
  std::string run, paper, config, tokens, hardware = "h800", compute = "bf16", moments = "f32";
  int64_t devices = 1, seq_len = 4096;
  std::optional<double> mfu, price;
  bool json = false;
};

void Print(const ordered_json& value) {
  fmt::print("{}\n", value.dump(2, ' ', false, ordered_json::error_handler_t::replace));
}

ordered_json ToJson(const PaperCost& paper) {
  ordered_json stages = ordered_json::array(), checks = ordered_json::array();
  for (const PaperStage& s : paper.stages) {
    stages.push_back({{"name", s.name},
                      {"gpu_hours", s.gpu_hours},
                      {"dollars", s.dollars},
                      {"unrounded_gpu_hours", s.unrounded_gpu_hours},
                      {"arithmetic", s.arithmetic}});
  }
  for (const CostLine& c : paper.checks) {
    checks.push_back({{"what", c.what},
                      {"arithmetic", c.arithmetic},
                      {"value", c.value},
                      {"unit", c.unit},
                      {"printed", c.printed},
                      {"note", c.note}});
  }
  return {{"paper", paper.name},
          {"title", paper.title},
          {"source", paper.source},
          {"price_per_gpu_hour", paper.price_per_gpu_hour},
          {"gpu_hours", paper.gpu_hours},
          {"dollars", paper.dollars},
          {"unrounded_gpu_hours", paper.unrounded_gpu_hours},
          {"unrounded_dollars", paper.unrounded_dollars},
          {"stages", std::move(stages)},
          {"checks", std::move(checks)},
          {"not_included", paper.excluded}};
}

ordered_json ToJson(const CostPlan& plan) {
  const PlanInput& in = plan.input;
  ordered_json memory = ordered_json::array();
  for (const MemoryLine& line : plan.memory) {
    memory.push_back({{"what", line.what},
                      {"bytes_per_parameter", line.bytes_per_parameter},
                      {"bytes", line.bytes}});
  }
  ordered_json out = {{"tokens", in.tokens},
                      {"sequence_length", in.seq_len},
                      {"total_parameters", plan.counts.total_parameters},
                      {"mtp_parameters", plan.counts.mtp_parameters},
                      {"active_parameters_without_embedding", plan.counts.active_without_embedding},
                      {"flops_per_token", plan.flops_per_token},
                      {"flops_per_token_without_mtp", plan.flops.PerToken(in.seq_len, false)},
                      {"flops", plan.total_flops},
                      {"hardware", in.hardware.name},
                      {"peak_flops", in.hardware.peak_flops},
                      {"peak_type", in.hardware.peak_type},
                      {"mfu", in.mfu},
                      {"devices", in.devices},
                      {"device_hours", plan.device_hours},
                      {"days", plan.days},
                      {"tokens_per_second", plan.tokens_per_second}};
  if (in.hardware.cores > 0) {
    out["core_hours"] = plan.device_hours * static_cast<double>(in.hardware.cores);
  }
  if (plan.money) {
    out["price_per_device_hour"] = in.price_per_hour.value_or(in.hardware.price_per_hour);
    out["dollars"] = *plan.money;
  }
  out["memory"] = std::move(memory);
  out["memory_bytes"] = plan.memory_bytes;
  if (plan.least_devices > 0) out["least_devices"] = plan.least_devices;
  return out;
}

ordered_json ToJson(const RunCost& run) {
  ordered_json out = ordered_json::parse(run.total.ToJson());
  if (run.stages.empty()) return out;
  ordered_json stages = ordered_json::array();
  for (const StageCost& stage : run.stages) {
    ordered_json entry = {{"name", stage.name}, {"folder", stage.folder}};
    if (stage.ledger) {
      entry["ledger"] = ordered_json::parse(stage.ledger->ToJson());
    } else {
      entry["problem"] = stage.problem;
      if (stage.seconds) entry["seconds"] = *stage.seconds;
    }
    stages.push_back(std::move(entry));
  }
  out["stages"] = std::move(stages);
  return out;
}

// This machine, measured now.
Result<Hardware> Here() {
  const Exec exec(0, TRY(ChooseIsa()));
  Hardware hardware;
  hardware.name = "here";
  hardware.description = fmt::format("this machine, {} cores", exec.threads());
  hardware.peak_flops = MeasureLimits(exec).f32_ops;
  hardware.peak_type = "f32, measured now";
  hardware.cores = exec.threads();
  return hardware;
}

Status RunPlan(const Flags& flags) {
  PlanInput in;
  const std::string path =
      fs::is_directory(flags.config) ? flags.config + "/config.json" : flags.config;
  auto config = ModelConfig::FromJson(TRY(ReadFile(path, 16 << 20)));
  if (!config.ok()) return Error{config.error().code, path + ": " + config.error().message};
  in.config = *std::move(config);
  if (flags.tokens.empty()) return Error{Code::kInvalid, "--tokens is needed, for example 14.8T"};
  in.tokens = TRY(ParseQuantity(flags.tokens));
  in.seq_len = flags.seq_len;
  in.hardware = flags.hardware == "here" ? TRY(Here()) : TRY(FindHardware(flags.hardware));
  // What V3 reached on its H800s; what our own kernels must reach at least on a CPU.
  in.mfu = flags.mfu.value_or(in.hardware.cores > 0 ? 0.45 : 0.39);
  in.devices = flags.devices;
  in.price_per_hour = flags.price;
  in.compute = flags.compute == "f32"    ? ComputeWeights::kF32
               : flags.compute == "bf16" ? ComputeWeights::kBf16
                                         : ComputeWeights::kFp8;
  in.moments = flags.moments == "f32" ? Moments::kF32 : Moments::kBf16;
  const CostPlan plan = TRY(MakePlan(in));
  if (flags.json) {
    ordered_json out = ToJson(plan);
    out["mfu_assumed"] = !flags.mfu.has_value();
    Print(out);
    return {};
  }
  fmt::print("{}", PlanText(plan));
  if (!flags.mfu) fmt::print("\nthe share of the peak is an assumption; --mfu sets it\n");
  return {};
}

Status Run(const Flags& flags) {
  const int wanted = !flags.run.empty() + !flags.paper.empty() + !flags.config.empty();
  if (wanted != 1) {
    return Error{Code::kInvalid,
                 "give one of a run's folder, --config for a plan, or --paper v3 or r1"};
  }
  if (!flags.config.empty()) return RunPlan(flags);
  if (!flags.paper.empty()) {
    const PaperCost paper = TRY(CostOfPaper(flags.paper));
    if (flags.json) {
      Print(ToJson(paper));
    } else {
      fmt::print("{}", PaperText(paper));
    }
    return {};
  }
  const RunCost run = TRY(CostOfRun(flags.run, flags.price));
  if (flags.json) {
    Print(ToJson(run));
  } else {
    fmt::print("{}", RunText(run));
  }
  return {};
}

}  // namespace

void AddCost(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("cost", "What training costs: of a run, a plan, a paper");
  verb->add_option("run", flags->run, "Folder of a run or of a recipe");
  verb->add_option("--paper", flags->paper, "v3 or r1: the published costs, worked out again");
  verb->add_option("--config", flags->config, "config.json of a model to plan for, or its folder");
  verb->add_option("--tokens", flags->tokens, "Tokens to train on, for example 14.8T");
  verb->add_option("--hardware", flags->hardware,
                   "h800, h100, h200, a100, b200, rtx4090, 2-core, or here: this machine, measured")
      ->capture_default_str();
  verb->add_option("--devices", flags->devices, "How many of them")
      ->check(Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  verb->add_option("--mfu", flags->mfu,
                   "Share of the peak that training reaches; 0.39 on GPUs, 0.45 on CPUs")
      ->check(Range(1e-6, 1.0));
  verb->add_option("--sequence", flags->seq_len, "Tokens of a sequence")
      ->check(Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  verb->add_option("--compute", flags->compute, "The weights that multiply: f32, bf16 or fp8")
      ->check(OneOf({"f32", "bf16", "fp8"}))
      ->capture_default_str();
  verb->add_option("--moments", flags->moments, "The optimiser's moments: f32 or bf16")
      ->check(OneOf({"f32", "bf16"}))
      ->capture_default_str();
  verb->add_option("--price", flags->price,
                   "Dollars an hour: of a core for a run, of a device for a plan")
      ->check(Range(0.0, std::numeric_limits<double>::max()));
  AddJson(*verb, flags->json);
  verb->footer(
      "Examples:\n"
      "  hadal cost runs/nano --price 0.02\n"
      "  hadal cost --config DeepSeek-V3/config.json --tokens 14.8T --devices 2048\n"
      "  hadal cost --paper v3\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
