// hadal bench: speed against the machine's limits and against other programs, in one run.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "base/terminal.h"
#include "cli/bench_peers.h"
#include "cli/bench_shape.h"
#include "cli/bench_train.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/param_reader.h"
#include "cli/session.h"
#include "kernels/limits.h"
#include "train/ledger.h"

namespace hadal::cli {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

struct Flags {
  ModelFlags model;
  std::string shape, type = "Q4_0", write;
  std::vector<std::string> peers, batched_peers;
  int64_t prompt = 512, generate = 128, parallel = 16, rounds = 3;
  uint64_t seed = 0;
  bool limits = false, json = false;
  TrainBench train;
};

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct Subject {
  std::string name, path;  // path: empty for a random model
  std::unique_ptr<Exec> exec;
  std::unique_ptr<Model> model;
  bool has_tokenizer = false;
};

Result<Subject> Open(const Flags& flags) {
  Subject s;
  s.exec = TRY(MakeExec(flags.model.threads));
  if (!flags.shape.empty() && flags.write.empty()) {
    const DType type = TRY(ParseType(flags.type));
    s.name = flags.shape + " " + std::string(Info(type).name);
    s.model = TRY(Model::Random(*s.exec, TRY(ShapeByName(flags.shape)), type, flags.seed));
    return s;
  }
  if (!flags.write.empty()) {
    const std::string shape = flags.shape.empty() ? "v2-lite" : flags.shape;
    TRY(WriteRandomGguf(s.exec->pool(), TRY(ShapeByName(shape)), TRY(ParseType(flags.type)),
                        flags.seed, flags.write));
  }
  s.path = flags.write.empty() ? TRY(FindModel(flags.model.model)) : flags.write;
  s.name = std::filesystem::path(s.path).stem().string();
  const WeightFile file = TRY(WeightFile::Open(s.path));
  s.model = TRY(Model::Load(*s.exec, file));
  s.has_tokenizer = LoadTokenizer(file).ok();
  return s;
}

// One request of `prompt` random ids and `generate` tokens, its end token ignored.
Request RandomRequest(const Model& model, int64_t prompt, int64_t generate, uint64_t seed) {
  Request r;
  Rng rng(seed);
  for (int64_t i = 0; i < prompt; ++i) {
    r.prompt.push_back(
        static_cast<int32_t>(rng.Below(static_cast<uint64_t>(model.config().vocab))));
  }
  r.sampling.temperature = 0;
  r.max_tokens = generate;
  r.ignore_eos = true;
  return r;
}

// `count` sequences: tokens a second of all together, after each has its first token.
Result<double> DecodeSpeed(Model& model, int64_t prompt, int64_t generate, int64_t count) {
  EngineOptions options;
  options.context = prompt + generate + 2;
  options.max_sequences = count;
  options.prefix_cache = false;
  options.speculation = EngineOptions::Speculation::kOff;
  const auto engine = TRY(Engine::Create(model, nullptr, options));
  for (int64_t i = 0; i < count; ++i) {
    TRY(engine->Submit(RandomRequest(model, prompt, generate + 1, static_cast<uint64_t>(i) + 1)));
  }
  int64_t started = 0, tokens = 0;
  Clock::time_point start;
  while (!engine->idle()) {
    const bool timed = started == count;
    if (timed && tokens == 0) start = Clock::now();
    for (const StepOutput& out : engine->Step()) {
      if (out.finish == FinishReason::kError) return Error{Code::kNumeric, out.error};
      if (timed)
        tokens += static_cast<int64_t>(out.tokens.size());
      else
        started += !out.tokens.empty();
    }
  }
  return tokens > 0 ? static_cast<double>(tokens) / SecondsSince(start) : 0.0;
}

// Adds the tokens a second of three prompts.
Status PrefillSpeeds(Model& model, int64_t prompt, std::vector<double>& out) {
  EngineOptions options;
  options.context = prompt + 2;
  options.max_sequences = 1;
  options.prefix_cache = false;
  options.prefill_chunk = std::max<int64_t>(prompt, 16);
  const auto engine = TRY(Engine::Create(model, nullptr, options));
  TRY(Generate(*engine, RandomRequest(model, prompt, 1, 7), {}));  // memory is touched
  for (uint64_t seed = 8; seed < 11; ++seed) {
    const Answer answer = TRY(Generate(*engine, RandomRequest(model, prompt, 1, seed), {}));
    out.push_back(static_cast<double>(prompt) / answer.seconds);
  }
  return {};
}

// A new process from its start to its first token. Run twice: the first brings the file into the
// page cache, which may have lost it meanwhile.
Result<double> StartSeconds(const Subject& s) {
  double seconds = 0;
  for (int i = 0; i < 2; ++i) {
    const auto start = Clock::now();
    TRY(RunProgram({"/proc/self/exe", "complete", "--model", s.path, "--threads",
                    std::to_string(s.exec->threads()), "--temperature", "0", "--max-tokens", "1",
                    "Hello"}));
    seconds = SecondsSince(start);
  }
  return seconds;
}

struct Row {
  std::string name;
  std::vector<double> ours;
  double limit = 0;
  std::vector<std::pair<std::string, double>> peers = {};

  double Speed() const { return Median(ours); }
  // Limits are the highest of all rounds, and so is what is set beside them.
  double Best() const { return *std::max_element(ours.begin(), ours.end()); }
};

struct Samples {
  MachineLimits limits = {};
  std::vector<double> prefill, decode, batched, start;
  std::vector<std::vector<double>> peer_prefill, peer_decode, peer_batched;
};

Status RunRounds(const Flags& flags, const Subject& s, Samples& out) {
  out.peer_prefill.resize(flags.peers.size());
  out.peer_decode.resize(flags.peers.size());
  out.peer_batched.resize(flags.batched_peers.size());
  PeerJob job{.binary = {},
              .model = s.path,
              .threads = s.exec->threads(),
              .prompt = flags.prompt,
              .generate = flags.generate,
              .parallel = flags.parallel};
  TRY(DecodeSpeed(*s.model, 1, 8, 1));  // warm caches
  for (int64_t round = 0; round < flags.rounds; ++round) {
    out.limits = Highest(out.limits, MeasureLimits(*s.exec));
    TRY(PrefillSpeeds(*s.model, flags.prompt, out.prefill));
    out.limits = Highest(out.limits, MeasureLimits(*s.exec));
    out.decode.push_back(TRY(DecodeSpeed(*s.model, 1, flags.generate, 1)));
    out.batched.push_back(TRY(DecodeSpeed(*s.model, 16, flags.generate, flags.parallel)));
    if (s.has_tokenizer) out.start.push_back(TRY(StartSeconds(s)));
    for (size_t i = 0; i < flags.peers.size(); ++i) {
      job.binary = flags.peers[i];
      const PeerSpeeds peer = TRY(RunLlamaBench(job));
      out.peer_prefill[i].push_back(peer.prefill);
      out.peer_decode[i].push_back(peer.decode);
    }
    for (size_t i = 0; i < flags.batched_peers.size(); ++i) {
      job.binary = flags.batched_peers[i];
      out.peer_batched[i].push_back(TRY(RunBatchedBench(job)));
    }
  }
  return {};
}

// Of most weights; F32 where the type of the file is none of ours.
DType WeightType(const Flags& flags, const Subject& s) {
  const std::string& name = flags.shape.empty() ? s.model->config().stored_type : flags.type;
  return DTypeFromName(name).value_or(DType::kF32);
}

std::vector<Row> MakeRows(const Flags& flags, const Subject& s, const Samples& samples) {
  const MachineLimits& limits = samples.limits;
  const ModelConfig& config = s.model->config();
  const ModelCounts counts = Count(config);
  // The head works once a prompt, not once a token. Attention computes in f32: forward it takes a
  // third of what training counts, (n + 1) / 2 pairs a token.
  const auto flops = static_cast<double>(counts.flops_per_token - 2 * config.vocab * config.width);
  const double pairs = static_cast<double>(flags.prompt + 1) / 2;
  const double seconds = flops / PeakOps(limits, WeightType(flags, s)) +
                         CountTrainFlops(config).per_pair / 3 * pairs / limits.f32_ops;
  std::vector<Row> rows = {
      {fmt::format("prefill {}", flags.prompt), samples.prefill, 1 / seconds},
      {fmt::format("decode {}", flags.generate), samples.decode,
       limits.read_bytes / static_cast<double>(s.model->bytes_per_token())},
      {fmt::format("decode {} x {}", flags.parallel, flags.generate), samples.batched, 0}};
  for (size_t i = 0; i < flags.peers.size(); ++i) {
    rows[0].peers.emplace_back(flags.peers[i], Median(samples.peer_prefill[i]));
    rows[1].peers.emplace_back(flags.peers[i], Median(samples.peer_decode[i]));
  }
  for (size_t i = 0; i < flags.batched_peers.size(); ++i) {
    rows[2].peers.emplace_back(flags.batched_peers[i], Median(samples.peer_batched[i]));
  }
  return rows;
}

json ToJson(const MachineLimits& limits, int threads) {
  return {{"threads", threads},          {"read_bytes_per_second", limits.read_bytes},
          {"f32_flops", limits.f32_ops}, {"bf16_flops", limits.bf16_ops},
          {"int8_ops", limits.int8_ops}, {"wide_int8_ops", limits.wide_int8_ops}};
}

json ToJson(const std::vector<Row>& rows) {
  json list = json::array();
  for (const Row& r : rows) {
    json entry = {{"name", r.name}, {"tokens_per_second", r.Speed()}};
    if (r.limit > 0) {
      entry["limit"] = r.limit;
      entry["best_tokens_per_second"] = r.Best();
      entry["share_of_limit"] = r.Best() / r.limit;
    }
    for (const auto& [peer, speed] : r.peers) {
      entry["peers"].push_back(
          {{"peer", peer}, {"tokens_per_second", speed}, {"ratio", r.Speed() / speed}});
    }
    list.push_back(std::move(entry));
  }
  return list;
}

void PrintLimits(const MachineLimits& limits, int threads) {
  fmt::print(
      "limits of this machine, {} threads: read {:.1f} GB/s, f32 {:.0f} GFLOP/s, bf16 {:.0f} "
      "GFLOP/s, int8 {:.0f} GOP/s ({:.0f} for codes of 8 bits)\n",
      threads, limits.read_bytes / 1e9, limits.f32_ops / 1e9, limits.bf16_ops / 1e9,
      limits.int8_ops / 1e9, limits.wide_int8_ops / 1e9);
}

void PrintRows(const std::vector<Row>& rows, double start) {
  fmt::print("{:<18}{:>12}{:>12}{:>12}{:>8}\n", "", "tok/s", "best", "limit", "share");
  for (const Row& r : rows) {
    fmt::print("{:<18}{:>12.1f}{:>12.1f}", r.name, r.Speed(), r.Best());
    if (r.limit > 0) fmt::print("{:>12.1f}{:>7.0f}%", r.limit, 100 * r.Best() / r.limit);
    for (const auto& [peer, speed] : r.peers) {
      fmt::print("   {:.1f} in {} (ratio {:.2f})", speed, Printable(peer), r.Speed() / speed);
    }
    fmt::print("\n");
  }
  if (start > 0) fmt::print("{:<18}{:>10.2f} s\n", "start to token", start);
}

Status Run(const Flags& flags) {
  if (!flags.train.config.empty()) {
    TrainBench train = flags.train;
    train.threads = flags.model.threads;
    train.json = flags.json;
    if (!flags.peers.empty()) train.peer = flags.peers.front();
    return RunTrainBench(train);
  }
  if (flags.limits) {
    const auto exec = TRY(MakeExec(flags.model.threads));
    const MachineLimits limits = MeasureLimits(*exec);
    if (flags.json)
      fmt::print("{}\n", ToJson(limits, exec->threads()).dump(2));
    else
      PrintLimits(limits, exec->threads());
    return {};
  }
  const Subject s = TRY(Open(flags));
  if (s.path.empty() && (!flags.peers.empty() || !flags.batched_peers.empty())) {
    return Error{Code::kInvalid, "--peer needs a file: add --write FILE to --shape"};
  }
  if (flags.prompt + flags.generate + 32 > s.model->config().context) {
    return Error{Code::kInvalid,
                 fmt::format("--prompt and --generate exceed the model's context {}",
                             s.model->config().context)};
  }
  Samples samples;
  TRY(RunRounds(flags, s, samples));
  const std::vector<Row> rows = MakeRows(flags, s, samples);
  if (flags.json) {
    json out = {{"model", s.name},
                {"limits", ToJson(samples.limits, s.exec->threads())},
                {"results", ToJson(rows)},
                {"rounds", flags.rounds}};
    if (!samples.start.empty()) out["start_to_first_token_seconds"] = Median(samples.start);
    fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
    return {};
  }
  fmt::print("{}, median of {} rounds\n", Printable(s.name), flags.rounds);
  PrintLimits(samples.limits, s.exec->threads());
  PrintRows(rows, Median(samples.start));
  return {};
}

}  // namespace

void AddBench(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("bench", "Measure speed against the machine and its peers");
  verb->add_option("-m,--model", flags->model.model, "GGUF file, folder or name of a pulled model");
  AddThreads(*verb, flags->model.threads);
  verb->add_flag("--limits", flags->limits, "Measure the machine alone");
  verb->add_option("--prompt", flags->prompt, "Tokens of the prompt")->check(Range(1, 1 << 20));
  verb->add_option("--generate", flags->generate, "Tokens to generate")->check(Range(1, 1 << 20));
  verb->add_option("--parallel", flags->parallel, "Sequences at once")->check(Range(1, 1024));
  verb->add_option("--rounds", flags->rounds, "Interleaved rounds; the median counts")
      ->check(Range(1, 1000));
  verb->add_option("--shape", flags->shape, "Random weights instead of a model: v2-lite or smol");
  verb->add_option("--type", flags->type, "With --shape: type of the weights");
  verb->add_option("--write", flags->write, "With --shape: write it as GGUF and use the file");
  verb->add_option("--peer", flags->peers, "A llama-bench to run on the same file; repeatable");
  verb->add_option("--peer-batched", flags->batched_peers, "A llama-batched-bench; repeatable");
  verb->add_option("--train", flags->train.config, "Train this config.json instead");
  verb->add_option("--batch", flags->train.batch, "With --train: sequences a step")
      ->check(Range(1, 1 << 16));
  verb->add_option("--sequence", flags->train.sequence, "With --train: tokens a sequence")
      ->check(Range(2, 1 << 20));
  verb->add_option("--micro-tokens", flags->train.micro_tokens, "With --train: tokens a pass")
      ->check(Range(2, 1 << 24));
  verb->add_option("--steps", flags->train.steps, "With --train: steps measured")
      ->check(Range(1, 1000));
  verb->add_option("--compute", flags->train.compute, "With --train: f32, bf16 or fp8")
      ->check(OneOf({"f32", "bf16", "fp8"}));
  verb->add_option("--moments", flags->train.moments, "With --train: AdamW's in f32 or bf16")
      ->check(OneOf({"f32", "bf16"}));
  AddJson(*verb, flags->json);
  verb->footer(
      "Examples:\n"
      "  hadal bench --limits\n"
      "  hadal bench --model model.gguf --threads 2 --peer ./llama-bench\n"
      "  hadal bench --train config.json --peer tools/peers/train_torch.py\n"
      "  hadal bench --shape v2-lite --type Q4_0 --write v2-lite.gguf --peer ./llama-bench\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
