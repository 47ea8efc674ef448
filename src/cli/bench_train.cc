#include "cli/bench_train.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "base/terminal.h"
#include "cli/session.h"
#include "kernels/limits.h"
#include "train/ledger.h"
#include "train/trainer.h"

namespace hadal::cli {
namespace {

using json = nlohmann::json;

struct Measured {
  double tokens_per_second = 0, flops_per_second = 0, peak = 0;
  uint64_t rss = 0;
  int64_t parameters = 0;
};

// Whole sequences of one document, as the peer has them.
std::vector<PackedSequence> RandomBatch(const TrainBench& o, int64_t vocab) {
  Rng rng(1);
  std::vector<PackedSequence> batch(static_cast<size_t>(o.batch));
  for (PackedSequence& s : batch) {
    s.document_first = {0};
    for (int64_t i = 0; i < o.sequence; ++i) {
      s.tokens.push_back(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(vocab))));
      s.loss.push_back(i > 0 ? 1 : 0);
    }
  }
  return batch;
}

Result<Measured> Measure(const TrainBench& o) {
  const ModelConfig config = TRY(ModelConfig::FromJson(TRY(ReadFile(o.config, 1 << 20))));
  const auto exec = TRY(MakeExec(o.threads));
  const auto world = TRY(World::Start());
  Measured m;
  TrainOptions options;
  options.sequence_length = o.sequence;
  options.batch_sequences = o.batch;
  options.micro_tokens = std::max(o.micro_tokens, o.sequence);
  options.gradient_parts = 1;
  options.steps = 1 << 20;
  options.compute = o.compute == "fp8"    ? ComputeType::kF8
                    : o.compute == "bf16" ? ComputeType::kBF16
                                          : ComputeType::kF32;
  m.peak = PeakOps(MeasureLimits(*exec), options.compute);
  options.optimizer.moments = o.moments == "bf16" ? MomentType::kBF16 : MomentType::kF32;
  options.mtp_weight = 0;  // transformers has no MTP layer to compare with
  const auto model = TRY(TrainableModel::Create(*exec, config, options.compute));
  model->parameters().Initialise(*exec, 1, 0.02f);
  m.parameters = model->parameters().count();
  const auto trainer = TRY(Trainer::Create(*exec, *world, *model, options));
  const std::vector<PackedSequence> batch = RandomBatch(o, config.vocab);
  std::vector<double> seconds;
  for (int64_t step = 0; step < o.steps + 1; ++step) {
    const auto begin = std::chrono::steady_clock::now();
    TRY(trainer->Step(batch));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (step > 0) seconds.push_back(took.count());
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const auto tokens = static_cast<double>(o.batch * o.sequence);
  const auto n = static_cast<double>(o.sequence);
  m.tokens_per_second = tokens / median;
  m.flops_per_second =
      CountTrainFlops(config).Of(tokens, static_cast<double>(o.batch) * n * (n + 1) / 2, false) /
      median;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  m.rss = static_cast<uint64_t>(usage.ru_maxrss) << 10;
  return m;
}

// One JSON line a variant.
Result<std::vector<json>> RunPeer(const TrainBench& o, int threads) {
  const std::string command = fmt::format("{} '{}' {} {} {} {} 2>/dev/null", o.peer, o.config,
                                          o.batch, o.sequence, o.steps, threads);
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return Error{Code::kIo, "cannot start " + o.peer};
  std::string text;
  std::array<char, 4096> piece;
  while (fgets(piece.data(), static_cast<int>(piece.size()), pipe) != nullptr) {
    text += piece.data();
  }
  const int status = pclose(pipe);
  std::vector<json> variants;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const json line = json::parse(text.substr(at, end - at), nullptr, false);
    if (line.is_object() && line.contains("name")) variants.push_back(line);
    at = end + 1;
  }
  if (status != 0 || variants.empty()) {
    return Error{Code::kInvalid, o.peer + ": gave no figures; does it run by itself?"};
  }
  return variants;
}

}  // namespace

Status RunTrainBench(const TrainBench& o) {
  const Measured ours = TRY(Measure(o));
  std::vector<json> peers;
  if (!o.peer.empty()) {
    peers = TRY(RunPeer(o, o.threads > 0 ? o.threads : UsableCores()));
  }
  double best = 0;
  uint64_t least = 0;
  for (const json& p : peers) {
    best = std::max(best, p.value("tokens_per_second", 0.0));
    const uint64_t rss = p.value("peak_rss_bytes", uint64_t{0});
    if (rss > 0 && (least == 0 || rss < least)) least = rss;
  }
  const double share = ours.flops_per_second / ours.peak;
  if (o.json) {
    json out = {{"config", o.config},
                {"parameters", ours.parameters},
                {"compute", o.compute},
                {"moments", o.moments},
                {"tokens_per_second", ours.tokens_per_second},
                {"flops_per_second", ours.flops_per_second},
                {"share_of_peak", share},
                {"peak_rss_bytes", ours.rss},
                {"peers", peers}};
    if (best > 0) out["ratio"] = ours.tokens_per_second / best;
    if (least > 0) out["memory_ratio"] = static_cast<double>(ours.rss) / static_cast<double>(least);
    fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
    return {};
  }
  fmt::print("{}: {:.2f}M parameters, batch {} x {}\n", Printable(o.config),
             static_cast<double>(ours.parameters) / 1e6, o.batch, o.sequence);
  fmt::print("{:<16}{:>10.0f} tok/s  {:>6.1f} GFLOP/s  {:.0f}% of the {} peak  {:.0f} MB\n",
             "hadal " + o.compute + (o.moments == "bf16" ? ", m bf16" : ""), ours.tokens_per_second,
             ours.flops_per_second / 1e9, 100 * share, o.compute == "bf16" ? "bf16" : "f32",
             static_cast<double>(ours.rss) / 1e6);
  for (const json& p : peers) {
    const std::string name = Printable(p.value("name", ""));
    const double speed = p.value("tokens_per_second", 0.0);
    if (speed <= 0) {
      fmt::print("{:<16}  {}\n", name, Printable(p.value("error", "no figure")));
      continue;
    }
    fmt::print("{:<16}{:>10.0f} tok/s  ratio {:.2f}  {:.0f} MB\n", name, speed,
               ours.tokens_per_second / speed,
               static_cast<double>(p.value("peak_rss_bytes", uint64_t{0})) / 1e6);
  }
  return {};
}

}  // namespace hadal::cli
