#include "train/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace hadal {
namespace {

constexpr std::array<std::string_view, 4> kSchedules = {"constant", "linear", "cosine",
                                                        "warmup_stable_decay"};
constexpr std::array<std::string_view, 2> kOptimizers = {"adamw", "muon"};
constexpr std::array<std::string_view, 3> kCompute = {"f32", "bf16", "fp8"};
constexpr std::array<std::string_view, 2> kMoments = {"f32", "bf16"};
constexpr std::array<std::string_view, 2> kDirections = {"forward_kl", "reverse_kl"};
constexpr int64_t kMost = int64_t{1} << 40;

Status ReadSchedule(ConfigTable& table, ScheduleOptions& o) {
  auto t = TRY(table.Table("schedule"));
  if (!t) return {};
  o.kind = static_cast<ScheduleOptions::Kind>(TRY(t->Choice("kind", kSchedules, 2)));
  o.learning_rate = TRY(t->Number("learning_rate", 0, 10, o.learning_rate));
  o.final_ratio = TRY(t->Number("final_ratio", 0, 1, o.final_ratio));
  o.warmup_steps = TRY(t->Integer("warmup_steps", 0, kMost, o.warmup_steps));
  o.decay_fraction = TRY(t->Number("decay_fraction", 0, 1, o.decay_fraction));
  return t->Finish();
}

Status ReadOptimizer(ConfigTable& table, OptimizerOptions& o) {
  auto t = TRY(table.Table("optimizer"));
  if (!t) return {};
  o.kind = static_cast<OptimizerOptions::Kind>(TRY(t->Choice("kind", kOptimizers, 0)));
  o.beta1 = TRY(t->Number("beta1", 0, 0.9999, o.beta1));
  o.beta2 = TRY(t->Number("beta2", 0, 0.999999, o.beta2));
  o.eps = TRY(t->Number("eps", 1e-30, 1, o.eps));
  o.weight_decay = TRY(t->Number("weight_decay", 0, 10, o.weight_decay));
  o.clip = TRY(t->Number("clip", 0, 1e9, o.clip));
  o.moments = static_cast<MomentType>(TRY(t->Choice("moments", kMoments, 0)));
  o.muon_momentum = TRY(t->Number("muon_momentum", 0, 0.9999, o.muon_momentum));
  return t->Finish();
}

Status ReadLora(ConfigTable& table, LoraOptions& o) {
  auto t = TRY(table.Table("lora"));
  if (!t) return {};
  o.rank = TRY(t->Integer("rank", 1, 4096));
  o.alpha = TRY(t->Number("alpha", 0, 1e6, o.alpha));
  o.targets = TRY(t->Texts("targets"));
  return t->Finish();
}

Status ReadTeacher(ConfigTable& table, TeacherOptions& o) {
  auto t = TRY(table.Table("teacher"));
  if (!t) return {};
  o.model = TRY(t->Text("model", ""));
  o.logits = TRY(t->Text("logits", ""));
  if (o.model.empty() == o.logits.empty()) {
    return t->At("", "wants either `model`, a teacher to run, or `logits`, what one left");
  }
  o.top_k = TRY(t->Integer("top_k", 1, 4096, o.logits.empty() ? o.top_k : 0));
  o.weight = TRY(t->Number("weight", 0, 1, o.weight));
  o.temperature = TRY(t->Number("temperature", 0.01, 100, o.temperature));
  o.direction = static_cast<KlDirection>(TRY(t->Choice("direction", kDirections, 0)));
  return t->Finish();
}

Status ReadGroups(ConfigTable& table, std::vector<ParameterGroup>& groups) {
  auto tables = TRY(table.Tables("group"));
  for (ConfigTable& t : tables) {
    ParameterGroup g;
    g.match = TRY(t.Text("match"));
    g.lr_scale = TRY(t.Number("lr_scale", 0, 1e6, 1.0));
    g.decay_scale = TRY(t.Number("decay_scale", 0, 1e6, 1.0));
    TRY(t.Finish());
    groups.push_back(std::move(g));
  }
  return {};
}

Status CheckTogether(const ConfigTable& t, const TrainOptions& o) {
  if (o.batch_sequences % o.gradient_parts != 0) {
    return t.At("batch_sequences",
                fmt::format("{} sequences do not divide into gradient_parts = {} equal parts",
                            o.batch_sequences, o.gradient_parts));
  }
  if (o.micro_tokens < o.sequence_length) {
    return t.At("micro_tokens", fmt::format("{} is less than one sequence of {} tokens",
                                            o.micro_tokens, o.sequence_length));
  }
  if (o.schedule.warmup_steps > o.steps) {
    return t.At("schedule",
                fmt::format("warmup_steps {} exceeds steps {}", o.schedule.warmup_steps, o.steps));
  }
  if (o.lora.rank > 0 && o.optimizer.kind == OptimizerOptions::Kind::kMuon) {
    return t.At("lora", "adapters are trained with adamw; optimizer.kind is muon");
  }
  if (o.lora.rank > 0 && o.expert_parallel > 1) {
    return t.At("expert_parallel", "adapters are the same on every rank: 1 with a lora table");
  }
  return {};
}

}  // namespace

double LearningRate(const ScheduleOptions& o, int64_t step, int64_t steps) {
  if (step <= o.warmup_steps) {
    return o.learning_rate * static_cast<double>(step) / static_cast<double>(o.warmup_steps);
  }
  const double low = o.final_ratio;
  const double done = steps > o.warmup_steps ? static_cast<double>(step - o.warmup_steps) /
                                                   static_cast<double>(steps - o.warmup_steps)
                                             : 1.0;
  switch (o.kind) {
    case ScheduleOptions::Kind::kConstant:
      return o.learning_rate;
    case ScheduleOptions::Kind::kLinear:
      return o.learning_rate * (1 - (1 - low) * done);
    case ScheduleOptions::Kind::kCosine:
      return o.learning_rate * (low + (1 - low) * 0.5 * (1 + std::cos(std::numbers::pi * done)));
    case ScheduleOptions::Kind::kWarmupStableDecay: {
      const double falling = (done - (1 - o.decay_fraction)) / std::max(o.decay_fraction, 1e-9);
      return o.learning_rate * (1 - (1 - low) * std::clamp(falling, 0.0, 1.0));
    }
  }
  return o.learning_rate;
}

Result<TrainOptions> TrainOptions::Read(ConfigTable& t) {
  TrainOptions o;
  o.sequence_length = TRY(t.Integer("sequence_length", 2, 1 << 20, o.sequence_length));
  o.batch_sequences = TRY(t.Integer("batch_sequences", 1, 1 << 20, o.batch_sequences));
  o.micro_tokens =
      TRY(t.Integer("micro_tokens", 2, 1 << 24, std::max(o.micro_tokens, o.sequence_length)));
  o.gradient_parts = TRY(t.Integer("gradient_parts", 1, 1024, o.gradient_parts));
  o.expert_parallel = TRY(t.Integer("expert_parallel", 1, 1024, o.expert_parallel));
  o.recompute = TRY(t.Flag("recompute", false));
  o.steps = TRY(t.Integer("steps", 1, kMost, o.steps));
  o.seed = static_cast<uint64_t>(TRY(t.Integer("seed", 0, kMost, 1)));
  o.init_std = TRY(t.Number("init_std", 1e-6, 10, o.init_std));
  o.compute = static_cast<ComputeType>(TRY(t.Choice("compute", kCompute, 0)));
  o.mtp_weight = TRY(t.Number("mtp_weight", 0, 100, o.mtp_weight));
  o.balance_alpha = TRY(t.Number("balance_alpha", 0, 100, o.balance_alpha));
  o.bias_update_speed = TRY(t.Number("bias_update_speed", 0, 1, o.bias_update_speed));
  o.z_loss = TRY(t.Number("z_loss", 0, 1, o.z_loss));
  o.validate_every = TRY(t.Integer("validate_every", 0, kMost, o.validate_every));
  o.validate_sequences = TRY(t.Integer("validate_sequences", 1, kMost, o.validate_sequences));
  o.checkpoint_every = TRY(t.Integer("checkpoint_every", 0, kMost, o.checkpoint_every));
  o.keep_checkpoints = TRY(t.Integer("keep_checkpoints", 1, 1 << 20, o.keep_checkpoints));
  o.patience = TRY(t.Integer("patience", 0, kMost, o.patience));
  o.spike_factor = TRY(t.Number("spike_factor", 0, 1e6, o.spike_factor));
  TRY(ReadSchedule(t, o.schedule));
  TRY(ReadOptimizer(t, o.optimizer));
  TRY(ReadLora(t, o.lora));
  TRY(ReadTeacher(t, o.teacher));
  TRY(ReadGroups(t, o.groups));
  TRY(CheckTogether(t, o));
  return o;
}

std::string TrainOptions::Fingerprint() const {
  const ScheduleOptions& s = schedule;
  const OptimizerOptions& p = optimizer;
  std::string text = fmt::format(
      "T{} B{} M{} P{} S{} seed{} init{} c{} s{}:{}:{}:{}:{} o{}:{}:{}:{}:{}:{}:{}:{} mtp{} bal{} "
      "bias{} z{} spike{} lora{}:{}",
      sequence_length, batch_sequences, micro_tokens, gradient_parts, steps, seed, init_std,
      static_cast<int>(compute), static_cast<int>(s.kind), s.learning_rate, s.final_ratio,
      s.warmup_steps, s.decay_fraction, static_cast<int>(p.kind), p.beta1, p.beta2, p.eps,
      p.weight_decay, p.clip, static_cast<int>(p.moments), p.muon_momentum, mtp_weight,
      balance_alpha, bias_update_speed, z_loss, spike_factor, lora.rank, lora.alpha);
  for (const std::string& target : lora.targets) text.append(" ").append(target);
  for (const ParameterGroup& g : groups) {
    text.append(fmt::format(" g{}:{}:{}", g.match, g.lr_scale, g.decay_scale));
  }
  if (teacher.any()) {
    text.append(fmt::format(" t{}:{}:{}:{}", teacher.top_k, teacher.weight, teacher.temperature,
                            static_cast<int>(teacher.direction)));
  }
  return text;
}

}  // namespace hadal
