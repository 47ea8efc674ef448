#include "train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "comm/leaf_tree.h"
#include "kernels/moe_backward.h"
#include "kernels/optimizer.h"
#include "train/lora.h"
#include "train/teacher.h"

namespace hadal {
namespace {

constexpr double kGradNormMemory = 0.98;  // of the running mean that the spike guard compares with

// Sequences of a pass laid out as the model takes them.
struct Pass {
  std::vector<int32_t> tokens, first;
  std::vector<float> weights;
  TrainBatch batch() const { return {tokens, first, weights}; }
};

Pass LayOut(std::span<const PackedSequence> sequences) {
  Pass p;
  for (const PackedSequence& s : sequences) {
    const auto base = static_cast<int32_t>(p.tokens.size());
    for (const int32_t f : s.document_first) p.first.push_back(base + f);
    p.tokens.insert(p.tokens.end(), s.tokens.begin(), s.tokens.end());
    for (const uint8_t l : s.loss) p.weights.push_back(l == 0 ? 0.0f : 1.0f);
  }
  return p;
}

// Cuts sequences into passes of at most micro_tokens, a function of the sequences alone.
std::vector<std::span<const PackedSequence>> Passes(std::span<const PackedSequence> sequences,
                                                    int64_t micro_tokens) {
  std::vector<std::span<const PackedSequence>> out;
  size_t begin = 0;
  int64_t tokens = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto n = static_cast<int64_t>(sequences[i].tokens.size());
    if (i > begin && tokens + n > micro_tokens) {
      out.push_back(sequences.subspan(begin, i - begin));
      begin = i;
      tokens = 0;
    }
    tokens += n;
  }
  if (begin < sequences.size()) out.push_back(sequences.subspan(begin));
  return out;
}

int64_t Targets(std::span<const PackedSequence> sequences) {
  int64_t targets = 0;
  for (const PackedSequence& s : sequences) {
    targets += std::count_if(s.loss.begin(), s.loss.end(), [](uint8_t l) { return l != 0; });
  }
  return targets;
}

bool InsideLayer(std::string_view name) { return name.find(".layers.") != std::string_view::npos; }

}  // namespace

struct Trainer::Impl {
  Impl(const Exec& exec, World& world, TrainableModel& model, const TrainOptions& options)
      : exec(exec), world(world), model(model), options(options) {}

  const Exec& exec;
  World& world;
  TrainableModel& model;
  TrainOptions options;
  TrainerState state;
  std::unique_ptr<Teacher> teacher;
  std::unique_ptr<Lora> lora;
  Buffer moment1, moment2;         // of [shard.begin, shard.end), or of everything
  Range shard;                     // of the flat parameters, kept up to date by this rank
  std::unique_ptr<LeafTree> tree;  // over the parts of this rank
  struct Rule {
    bool trained = true, muon = false;
    double lr = 1, decay = 1;
  };
  std::vector<Rule> rules;  // by parameter

  bool sharded() const { return options.optimizer.kind == OptimizerOptions::Kind::kAdamW; }
  int64_t moment_bytes() const {
    return sharded() ? MomentBytes(options.optimizer.moments) : MomentBytes(MomentType::kF32);
  }
  Moments At(const Buffer& b, int64_t element) const {
    const MomentType type = sharded() ? options.optimizer.moments : MomentType::kF32;
    return {b.data() + (element - shard.begin) * moment_bytes(), type};
  }

  void MakeRules();
  Status Gradients(std::span<const PackedSequence> batch, StepRecord& record);
  Result<double> GradNorm();
  Status NotFinite();
  void Update(double lr, double grad_scale);
  void UpdateMuon(int64_t index, double lr, double grad_scale);
  void UpdateRouterBias(const StepRecord& record);
};

void Trainer::Impl::MakeRules() {
  for (const Parameters::Entry& e : model.parameters().entries()) {
    Rule rule;
    rule.trained = e.trained;
    // Norms and biases are not decayed.
    rule.decay = e.matrix() ? 1 : 0;
    for (const ParameterGroup& g : options.groups) {
      if (e.spec.name.find(g.match) == std::string::npos) continue;
      rule.lr = g.lr_scale;
      rule.decay *= g.decay_scale;
      rule.trained = rule.trained && g.lr_scale > 0;
      break;
    }
    rule.muon = !sharded() && e.matrix() && InsideLayer(e.spec.name) &&
                !e.spec.name.ends_with(".gate.weight");
    rules.push_back(rule);
  }
}

Trainer::Trainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Trainer::~Trainer() = default;
const TrainerState& Trainer::state() const { return impl_->state; }
void Trainer::RestoreState(const TrainerState& state) { impl_->state = state; }

Result<std::unique_ptr<Trainer>> Trainer::Create(const Exec& exec, World& world,
                                                 TrainableModel& model,
                                                 const TrainOptions& options) {
  if (options.gradient_parts % world.size() != 0) {
    return Error{Code::kInvalid,
                 fmt::format("gradient_parts = {} does not divide over {} ranks; choose a multiple",
                             options.gradient_parts, world.size())};
  }
  auto impl = std::make_unique<Impl>(exec, world, model, options);
  if (!options.teacher.model.empty()) {
    impl->teacher = TRY(Teacher::Load(exec, options.teacher, model.config().vocab));
  }
  if (options.lora.rank > 0) {
    impl->lora = TRY(Lora::Create(exec, model.parameters(), options));
  } else {
    const int64_t size = model.parameters().size();
    impl->shard =
        impl->sharded() ? world.Shard(size, kParameterBlock, world.rank()) : Range{0, size};
    const int64_t bytes = (impl->shard.end - impl->shard.begin) * impl->moment_bytes();
    impl->moment1 = Buffer(static_cast<size_t>(bytes));
    impl->moment2 = Buffer(static_cast<size_t>(bytes));
  }
  impl->tree =
      std::make_unique<LeafTree>(model.parameters().size(), options.gradient_parts / world.size());
  impl->MakeRules();
  TRY(model.Publish());
  return std::unique_ptr<Trainer>(new Trainer(std::move(impl)));
}

Status Trainer::Impl::Gradients(std::span<const PackedSequence> batch, StepRecord& record) {
  const int64_t targets = Targets(batch);
  if (targets == 0) {
    return Error{Code::kInvalid,
                 fmt::format("step {}: no token of the batch is a target; is the loss mask of the "
                             "data empty?",
                             state.step + 1)};
  }
  int64_t documents = 0;
  for (const PackedSequence& s : batch) {
    documents += static_cast<int64_t>(s.document_first.size());
    record.tokens += static_cast<int64_t>(s.tokens.size());
  }
  Objective objective;
  objective.loss_scale = 1.0 / static_cast<double>(targets);
  objective.mtp_scale = options.mtp_weight / static_cast<double>(targets);
  objective.balance_alpha = options.balance_alpha;
  objective.balance_scale = 1.0 / static_cast<double>(documents);
  objective.recompute = options.recompute;
  objective.z_loss = static_cast<float>(options.z_loss);
  objective.distill.direction = options.teacher.direction;
  objective.distill.temperature = static_cast<float>(options.teacher.temperature);
  objective.distill_weight = options.teacher.weight;

  const std::span<float> g = model.parameters().gradients();
  std::fill(g.begin(), g.end(), 0.0f);
  const int64_t parts = options.gradient_parts, local = parts / world.size();
  const size_t part_size = batch.size() / static_cast<size_t>(parts);
  enum { kLoss, kMtp, kMtpWeight, kBalance, kSums };
  std::vector<double> sums(static_cast<size_t>(parts * kSums));
  std::vector<int64_t> counts;
  for (int64_t i = 0; i < local; ++i) {
    const int64_t part = world.rank() * local + i;
    const auto mine = batch.subspan(static_cast<size_t>(part) * part_size, part_size);
    for (const auto& sequences : Passes(mine, options.micro_tokens)) {
      const Pass pass = LayOut(sequences);
      TeacherTopK top_k;
      if (teacher != nullptr) {
        top_k = teacher->TopK(pass.batch());
        objective.teacher = &top_k;
      }
      const PassResult r = TRY(model.Accumulate(pass.batch(), objective));
      const auto at = static_cast<size_t>(part * kSums);
      sums[at + kLoss] += r.loss;
      sums[at + kMtp] += r.mtp_loss;
      sums[at + kMtpWeight] += r.mtp_weight;
      sums[at + kBalance] += r.balance_loss;
      record.expert_tokens.resize(std::max(record.expert_tokens.size(), r.expert_tokens.size()));
      for (size_t l = 0; l < r.expert_tokens.size(); ++l) {
        auto& layer = record.expert_tokens[l];
        layer.resize(r.expert_tokens[l].size());
        for (size_t e = 0; e < layer.size(); ++e) layer[e] += r.expert_tokens[l][e];
      }
    }
    tree->Add(i, g);
    if (i + 1 < local) std::fill(g.begin(), g.end(), 0.0f);
  }
  world.AllReduce(std::span<double>(sums));
  for (auto& layer : record.expert_tokens) world.AllReduce(std::span<int64_t>(layer));
  const auto total = [&](size_t which) {
    std::vector<double> values;
    for (int64_t p = 0; p < parts; ++p) {
      values.push_back(sums[static_cast<size_t>(p * kSums) + which]);
    }
    TreeSum(values, 1, parts);
    return values[0];
  };
  record.loss = total(kLoss) / static_cast<double>(targets);
  const double mtp_weight = total(kMtpWeight);
  record.mtp_loss = mtp_weight > 0 ? total(kMtp) / mtp_weight : 0;
  record.balance_loss = total(kBalance) / static_cast<double>(documents);
  world.ReduceScatter(g, kParameterBlock);
  if (!sharded() || lora != nullptr) world.AllGather(g, kParameterBlock);
  return {};
}

// Which tensor's gradient is not finite. Every rank looks at what it holds.
Status Trainer::Impl::NotFinite() {
  const Parameters& p = model.parameters();
  for (size_t i = 0; i < p.entries().size(); ++i) {
    const View2<float> g = p.gradient(static_cast<int64_t>(i));
    for (int64_t r = 0; r < g.rows; ++r) {
      for (int64_t c = 0; c < g.cols; ++c) {
        if (!std::isfinite(g.row(r)[c])) {
          return Error{Code::kNumeric,
                       fmt::format("step {}: the gradient of {} holds {} at [{}, {}]; a lower "
                                   "learning rate or clip may help",
                                   state.step + 1, p.entries()[i].spec.name,
                                   std::isnan(g.row(r)[c]) ? "NaN" : "Inf", r, c)};
        }
      }
    }
  }
  return Error{Code::kNumeric,
               fmt::format("step {}: a gradient on another rank is not finite", state.step + 1)};
}

Result<double> Trainer::Impl::GradNorm() {
  const std::span<float> g = model.parameters().gradients();
  std::vector<double> blocks(g.size() / kParameterBlock);
  const Range mine = world.Shard(static_cast<int64_t>(g.size()), kParameterBlock, world.rank());
  const auto first = static_cast<size_t>(mine.begin / kParameterBlock);
  const auto count = static_cast<size_t>((mine.end - mine.begin) / kParameterBlock);
  static_assert(kParameterBlock == kNormBlock);
  NormBlocks(exec, g.subspan(static_cast<size_t>(mine.begin), count * kParameterBlock),
             std::span(blocks).subspan(first, count));
  world.AllReduce(std::span<double>(blocks));
  double sum = 0;
  for (const double b : blocks) sum += b;
  if (!std::isfinite(sum)) TRY(NotFinite());
  return std::sqrt(sum);
}

void Trainer::Impl::UpdateMuon(int64_t index, double lr, double grad_scale) {
  const Parameters& p = model.parameters();
  const Parameters::Entry& e = p.entries()[static_cast<size_t>(index)];
  const Rule& rule = rules[static_cast<size_t>(index)];
  MuonOptions o;
  o.lr = static_cast<float>(lr * rule.lr);
  o.momentum = static_cast<float>(options.optimizer.muon_momentum);
  o.weight_decay = static_cast<float>(options.optimizer.weight_decay * rule.decay);
  o.scale = MuonOptions::Scale::kMatchRms;
  o.grad_scale = static_cast<float>(grad_scale);
  const View2<float> buffer(moment1.as<float>() + e.offset, e.rows, e.cols);
  Muon(exec, p.value(index), p.gradient(index), buffer, o);
}

void Trainer::Impl::Update(double lr, double grad_scale) {
  const Parameters& p = model.parameters();
  const OptimizerOptions& opt = options.optimizer;
  for (size_t i = 0; i < p.entries().size(); ++i) {
    const Parameters::Entry& e = p.entries()[i];
    const Rule& rule = rules[i];
    if (!rule.trained) continue;
    if (rule.muon) {
      UpdateMuon(static_cast<int64_t>(i), lr, grad_scale);
      continue;
    }
    const int64_t begin = std::max(e.offset, shard.begin);
    const int64_t end = std::min(e.offset + e.size(), shard.end);
    if (begin >= end) continue;
    AdamWOptions o;
    o.lr = static_cast<float>(lr * rule.lr);
    o.beta1 = static_cast<float>(opt.beta1);
    o.beta2 = static_cast<float>(opt.beta2);
    o.eps = static_cast<float>(opt.eps);
    o.weight_decay = static_cast<float>(opt.weight_decay * rule.decay);
    o.step = state.step + 1;
    o.grad_scale = static_cast<float>(grad_scale);
    const auto at = static_cast<size_t>(begin), n = static_cast<size_t>(end - begin);
    AdamW(exec, p.values().subspan(at, n), p.gradients().subspan(at, n), At(moment1, begin),
          At(moment2, begin), o);
  }
  if (sharded()) world.AllGather(p.values(), kParameterBlock);
}

// Auxiliary-loss-free balancing (arXiv:2412.19437 §2.1.2): the bias moves by a fixed step against
// the load of the whole batch.
void Trainer::Impl::UpdateRouterBias(const StepRecord& record) {
  if (options.bias_update_speed <= 0) return;
  const Parameters& p = model.parameters();
  size_t layer = 0;
  for (size_t i = 0; i < p.entries().size(); ++i) {
    if (p.entries()[i].trained) continue;
    if (layer >= record.expert_tokens.size()) return;  // the MTP layer did not run
    const View2<float> bias = p.value(static_cast<int64_t>(i));
    UpdateGateBias(record.expert_tokens[layer++], static_cast<float>(options.bias_update_speed),
                   {bias.data, static_cast<size_t>(bias.cols)});
  }
}

Result<StepRecord> Trainer::Step(std::span<const PackedSequence> batch) {
  Impl& m = *impl_;
  CHECK(static_cast<int64_t>(batch.size()) == m.options.batch_sequences);
  StepRecord record;
  TRY(m.Gradients(batch, record));
  record.step = m.state.step + 1;
  record.total_tokens = m.state.tokens + record.tokens;
  record.lr = LearningRate(m.options.schedule, record.step, m.options.steps);
  record.grad_norm = TRY(m.GradNorm());
  record.max_over_mean_load = MaxOverMean(record.expert_tokens);
  const double mean = m.state.mean_grad_norm;
  record.skipped =
      m.options.spike_factor > 0 && mean > 0 && record.grad_norm > m.options.spike_factor * mean;
  if (record.skipped) {
    ++m.state.skipped;
    record.note = fmt::format("skipped: gradient norm {:.4g} is over {:.3g} times its mean {:.4g}",
                              record.grad_norm, m.options.spike_factor, mean);
  } else {
    const double clip = m.options.optimizer.clip;
    const double scale = clip > 0 && record.grad_norm > clip ? clip / record.grad_norm : 1;
    if (m.lora != nullptr) {
      m.lora->Update(m.state.step + 1, record.lr, scale);
    } else {
      m.Update(record.lr, scale);
    }
    m.UpdateRouterBias(record);
    TRY(m.model.Publish());
  }
  m.state.mean_grad_norm =
      mean == 0
          ? record.grad_norm
          : kGradNormMemory * mean + (1 - kGradNormMemory) * std::min(record.grad_norm, 3 * mean);
  m.state.step = record.step;
  m.state.tokens = record.total_tokens;
  return record;
}

Result<Trainer::Validation> Trainer::Validate(std::span<const PackedSequence> sequences) {
  Impl& m = *impl_;
  const auto passes = Passes(sequences, m.options.micro_tokens);
  std::vector<double> losses(passes.size());
  std::vector<int64_t> counts(2 * passes.size());
  for (size_t i = 0; i < passes.size(); ++i) {
    if (static_cast<int>(i % static_cast<size_t>(m.world.size())) != m.world.rank()) continue;
    const Pass pass = LayOut(passes[i]);
    const PassResult r = TRY(m.model.Evaluate(pass.batch(), {}));
    losses[i] = r.loss;
    counts[2 * i] = r.predicted;
    counts[2 * i + 1] = r.correct;
  }
  m.world.AllReduce(std::span<double>(losses));
  m.world.AllReduce(std::span<int64_t>(counts));
  Validation v;
  for (size_t i = 0; i < passes.size(); ++i) {
    v.total_nats += losses[i];
    v.targets += counts[2 * i];
    v.correct += counts[2 * i + 1];
  }
  v.loss = v.targets > 0 ? v.total_nats / static_cast<double>(v.targets) : 0;
  return v;
}

namespace {

// Moments as f32, whichever way they are held.
void Widen(const Moments& from, std::span<float> to) {
  for (size_t i = 0; i < to.size(); ++i) {
    if (from.type == MomentType::kF32) {
      to[i] = static_cast<const float*>(from.data)[i];
    } else {
      const uint32_t bits = uint32_t{static_cast<const uint16_t*>(from.data)[i]} << 16;
      std::memcpy(&to[i], &bits, sizeof bits);
    }
  }
}
// Exact: values that came from such moments.
void Narrow(std::span<const float> from, const Moments& to) {
  for (size_t i = 0; i < from.size(); ++i) {
    if (to.type == MomentType::kF32) {
      static_cast<float*>(to.data)[i] = from[i];
    } else {
      uint32_t bits;
      std::memcpy(&bits, &from[i], sizeof bits);
      static_cast<uint16_t*>(to.data)[i] = static_cast<uint16_t>(bits >> 16);
    }
  }
}

}  // namespace

Status Trainer::VisitOptimizer(const Visit& visit) {
  Impl& m = *impl_;
  if (m.lora != nullptr) return m.world.rank() == 0 ? m.lora->VisitState(visit) : Status();
  const Parameters& p = m.model.parameters();
  Buffer whole(static_cast<size_t>(p.size()) * sizeof(float));
  const std::span<float> values(whole.as<float>(), static_cast<size_t>(p.size()));
  const std::pair<const Buffer*, std::string> kinds[] = {{&m.moment1, "exp_avg."},
                                                         {&m.moment2, "exp_avg_sq."}};
  for (const auto& [buffer, prefix] : kinds) {
    const auto at = static_cast<size_t>(m.shard.begin);
    Widen(m.At(*buffer, m.shard.begin),
          values.subspan(at, static_cast<size_t>(m.shard.end - m.shard.begin)));
    if (m.sharded()) m.world.AllGather(values, kParameterBlock);
    if (m.world.rank() != 0) continue;
    for (const Parameters::Entry& e : p.entries()) {
      if (!e.trained) continue;
      TRY(visit({prefix + e.spec.name, e.spec.shape,
                 values.subspan(static_cast<size_t>(e.offset), static_cast<size_t>(e.size()))}));
    }
  }
  return {};
}

Status Trainer::RestoreOptimizer(const Visit& fill) {
  Impl& m = *impl_;
  if (m.lora != nullptr) return m.lora->VisitState(fill);
  const Parameters& p = m.model.parameters();
  Buffer whole(static_cast<size_t>(p.size()) * sizeof(float));
  const std::span<float> values(whole.as<float>(), static_cast<size_t>(p.size()));
  const std::pair<const Buffer*, std::string> kinds[] = {{&m.moment1, "exp_avg."},
                                                         {&m.moment2, "exp_avg_sq."}};
  for (const auto& [buffer, prefix] : kinds) {
    for (const Parameters::Entry& e : p.entries()) {
      if (!e.trained) continue;
      TRY(fill({prefix + e.spec.name, e.spec.shape,
                values.subspan(static_cast<size_t>(e.offset), static_cast<size_t>(e.size()))}));
    }
    const auto at = static_cast<size_t>(m.shard.begin);
    Narrow(values.subspan(at, static_cast<size_t>(m.shard.end - m.shard.begin)),
           m.At(*buffer, m.shard.begin));
  }
  return {};
}

}  // namespace hadal
