#include "train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
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

int64_t Documents(std::span<const PackedSequence> sequences) {
  int64_t documents = 0;
  for (const PackedSequence& s : sequences) {
    documents += static_cast<int64_t>(s.document_first.size());
  }
  return documents;
}

// What each pass of a step minimises; its teacher's part is put in by pass.
Objective ObjectiveOf(const TrainOptions& options, int64_t targets, int64_t documents) {
  Objective o;
  o.loss_scale = 1.0 / static_cast<double>(targets);
  o.mtp_scale = options.mtp_weight / static_cast<double>(targets);
  o.balance_alpha = options.balance_alpha;
  o.balance_scale = 1.0 / static_cast<double>(documents);
  o.recompute = options.recompute;
  o.z_loss = static_cast<float>(options.z_loss);
  o.distill.direction = options.teacher.direction;
  o.distill.temperature = static_cast<float>(options.teacher.temperature);
  o.distill_weight = options.teacher.weight;
  return o;
}

// Losses of a step by part of the batch: their sums run along the tree of parts on any ranks.
class PartSums {
 public:
  enum Kind : size_t { kLoss, kMtp, kMtpWeight, kBalance, kDistill, kKinds };

  explicit PartSums(int64_t parts) : parts_(parts), sums_(static_cast<size_t>(parts) * kKinds) {}

  void Add(int64_t part, const PassResult& r) {
    double* at = &sums_[static_cast<size_t>(part) * kKinds];
    at[kLoss] += r.loss;
    at[kMtp] += r.mtp_loss;
    at[kMtpWeight] += r.mtp_weight;
    at[kBalance] += r.balance_loss;
    at[kDistill] += r.distill_loss;
  }
  void BringTogether(World& world) { world.AllReduce(std::span<double>(sums_)); }
  double Total(Kind which) const {
    std::vector<double> values;
    for (size_t i = which; i < sums_.size(); i += kKinds) values.push_back(sums_[i]);
    TreeSum(values, 1, parts_);
    return values[0];
  }

 private:
  int64_t parts_;
  std::vector<double> sums_;
};

void AddExpertTokens(const PassResult& r, StepRecord& record) {
  record.expert_tokens.resize(std::max(record.expert_tokens.size(), r.expert_tokens.size()));
  for (size_t l = 0; l < r.expert_tokens.size(); ++l) {
    auto& layer = record.expert_tokens[l];
    layer.resize(r.expert_tokens[l].size());
    for (size_t e = 0; e < layer.size(); ++e) layer[e] += r.expert_tokens[l][e];
  }
}

bool InsideLayer(std::string_view name) { return name.find(".layers.") != std::string_view::npos; }

}  // namespace

struct Trainer::Impl {
  Impl(const Exec& exec, World& world, TrainableModel& model, const TrainOptions& options,
       ExpertParallel* parallel)
      : exec(exec), world(world), model(model), options(options), parallel(parallel) {}

  const Exec& exec;
  World& world;
  TrainableModel& model;
  TrainOptions options;
  ExpertParallel* parallel;  // null: every rank keeps all experts
  TrainerState state;
  std::unique_ptr<Teacher> teacher;
  std::unique_ptr<Lora> lora;
  Buffer moment1, moment2;  // of the runs' shards, one after the other
  // A run of the flat parameters and the ranks that hold the same of it.
  struct Run {
    World* world;
    Range range;
    Range shard;          // kept up to date by this rank: a part of the range, or all
    int64_t moments = 0;  // where those of the shard begin
    int64_t whole = 0;    // where the range begins in the parameters of one rank alone
    // This rank's part of the sums of gradients.
    Range Part() const {
      const Range part = world->Shard(range.size(), kParameterBlock, world->rank());
      return {range.begin + part.begin, range.begin + part.end};
    }
  };
  std::array<Run, 2> runs;         // what all ranks have, and experts
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
  // Of a parameter within the run's shard.
  Moments At(const Buffer& b, const Run& run, int64_t element) const {
    const MomentType type = sharded() ? options.optimizer.moments : MomentType::kF32;
    return {b.data() + (run.moments + element - run.shard.begin) * moment_bytes(), type};
  }
  const Run& RunOf(const Parameters::Entry& e) const { return runs[e.spec.expert < 0 ? 0 : 1]; }

  void MakeRuns();
  std::vector<std::span<const PackedSequence>> Mine(std::span<const PackedSequence> batch,
                                                    int64_t index, size_t& rounds) const;
  void SumGradients();
  void Gather(const Run& run, std::span<float> flat);
  void Bring(const Parameters::Entry& entry, std::span<const float> mine, std::span<float> out);
  void MakeRules();
  Status Gradients(std::span<const PackedSequence> batch, StepRecord& record);
  Result<double> GradNorm();
  Status NotFinite();
  void Update(double lr, double grad_scale);
  MuonJob JobOf(size_t index, double lr, double grad_scale);
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
                                                 TrainableModel& model, const TrainOptions& options,
                                                 ExpertParallel* parallel) {
  if (options.gradient_parts % world.size() != 0) {
    return Error{Code::kInvalid,
                 fmt::format("gradient_parts = {} does not divide over {} ranks; choose a multiple",
                             options.gradient_parts, world.size())};
  }
  auto impl = std::make_unique<Impl>(exec, world, model, options, parallel);
  if (options.teacher.any()) {
    impl->teacher = TRY(Teacher::Open(exec, options.teacher, model.config().vocab));
  }
  impl->MakeRuns();
  if (options.lora.rank > 0) {
    CHECK(parallel == nullptr);
    impl->lora = TRY(Lora::Create(exec, model.parameters(), options));
  } else {
    const int64_t bytes =
        (impl->runs[0].shard.size() + impl->runs[1].shard.size()) * impl->moment_bytes();
    impl->moment1 = Buffer(static_cast<size_t>(bytes));
    impl->moment2 = Buffer(static_cast<size_t>(bytes));
  }
  impl->tree =
      std::make_unique<LeafTree>(static_cast<int64_t>(model.parameters().gradients().size()),
                                 options.gradient_parts / world.size());
  impl->MakeRules();
  TRY(model.Publish());
  return std::unique_ptr<Trainer>(new Trainer(std::move(impl)));
}

void Trainer::Impl::MakeRuns() {
  const Parameters& p = model.parameters();
  const int64_t common = p.common_size();
  runs[0] = {&world, {0, common}, {}, 0, 0};
  runs[1] = {parallel != nullptr ? &parallel->copies() : &world,
             {common, p.size()},
             {},
             0,
             common + p.share().rank * p.expert_size()};
  int64_t moments = 0;
  for (Run& run : runs) {
    run.shard = sharded() ? run.Part() : run.range;
    run.moments = moments;
    moments += run.shard.size();
  }
}

// The passes of local part `index`, and how many the ranks of a group make together: all of them
// run as many, since an expert's keeper is needed in each.
std::vector<std::span<const PackedSequence>> Trainer::Impl::Mine(
    std::span<const PackedSequence> batch, int64_t index, size_t& rounds) const {
  const int64_t local = options.gradient_parts / world.size();
  const size_t size = batch.size() / static_cast<size_t>(options.gradient_parts);
  const auto passes = [&](int64_t rank) {
    const auto part = static_cast<size_t>(rank * local + index);
    return Passes(batch.subspan(part * size, size), options.micro_tokens);
  };
  const auto mine = passes(world.rank());
  rounds = mine.size();
  if (parallel != nullptr) {
    const ExpertShare share = parallel->share();
    const int64_t first = world.rank() - share.rank;
    for (int64_t r = first; r < first + share.ranks; ++r) {
      rounds = std::max(rounds, passes(r).size());
    }
  }
  return mine;
}

void Trainer::Impl::Gather(const Run& run, std::span<float> flat) {
  run.world->AllGather(
      flat.subspan(static_cast<size_t>(run.range.begin), static_cast<size_t>(run.range.size())),
      kParameterBlock);
}

// From the sums of this rank's parts to those of all, each rank the part of each run that is its.
void Trainer::Impl::SumGradients() {
  const Parameters& p = model.parameters();
  const std::span<float> g = p.gradients();
  const auto common = static_cast<size_t>(p.common_size());
  const auto experts = static_cast<size_t>(p.expert_size());
  std::vector<std::span<float>> sources;  // neighbouring ranks, hence a subtree
  for (int64_t r = 0; r < p.share().ranks; ++r) {
    sources.push_back(g.subspan(common + static_cast<size_t>(r) * experts, experts));
  }
  TreeSum(sources);
  for (const Run& run : runs) {
    run.world->ReduceScatter(
        g.subspan(static_cast<size_t>(run.range.begin), static_cast<size_t>(run.range.size())),
        kParameterBlock);
    if (!sharded() || lora != nullptr) Gather(run, g);
  }
}

Status Trainer::Impl::Gradients(std::span<const PackedSequence> batch, StepRecord& record) {
  const int64_t targets = Targets(batch);
  if (targets == 0) {
    return Error{Code::kInvalid,
                 fmt::format("step {}: no token of the batch is a target; is the loss mask of the "
                             "data empty?",
                             state.step + 1)};
  }
  for (const PackedSequence& s : batch) record.tokens += static_cast<int64_t>(s.tokens.size());
  const int64_t documents = Documents(batch);
  Objective objective = ObjectiveOf(options, targets, documents);
  const std::span<float> g = model.parameters().gradients();
  std::fill(g.begin(), g.end(), 0.0f);
  const int64_t local = options.gradient_parts / world.size();
  PartSums sums(options.gradient_parts);
  for (int64_t i = 0; i < local; ++i) {
    const int64_t part = world.rank() * local + i;
    size_t rounds = 0;
    const auto passes = Mine(batch, i, rounds);
    for (size_t round = 0; round < rounds; ++round) {
      const Pass pass = round < passes.size() ? LayOut(passes[round]) : Pass();
      TeacherTopK top_k;
      objective.teacher = nullptr;
      if (teacher != nullptr && !pass.tokens.empty()) {
        top_k = TRY(teacher->TopK(passes[round], pass.batch()));
        objective.teacher = &top_k;
      }
      const PassResult r = TRY(model.Accumulate(pass.batch(), objective));
      sums.Add(part, r);
      AddExpertTokens(r, record);
    }
    tree->Add(i, g);
    if (i + 1 < local) std::fill(g.begin(), g.end(), 0.0f);
  }
  sums.BringTogether(world);
  for (auto& layer : record.expert_tokens) world.AllReduce(std::span<int64_t>(layer));
  record.loss = sums.Total(PartSums::kLoss) / static_cast<double>(targets);
  const double mtp_weight = sums.Total(PartSums::kMtpWeight);
  record.mtp_loss = mtp_weight > 0 ? sums.Total(PartSums::kMtp) / mtp_weight : 0;
  record.balance_loss = sums.Total(PartSums::kBalance) / static_cast<double>(documents);
  record.distill_loss = sums.Total(PartSums::kDistill) / static_cast<double>(targets);
  SumGradients();
  return {};
}

// Which tensor's gradient is not finite. Every rank looks at what it holds.
Status Trainer::Impl::NotFinite() {
  const Parameters& p = model.parameters();
  for (size_t i = 0; i < p.entries().size(); ++i) {
    if (!p.entries()[i].kept) continue;
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
  static_assert(kParameterBlock == kNormBlock);
  // Blocks as one rank alone has them; each is some one rank's.
  const Parameters& p = model.parameters();
  const int64_t whole_size = p.common_size() + p.share().ranks * p.expert_size();
  std::vector<double> blocks(static_cast<size_t>(whole_size / kParameterBlock));
  for (const Run& run : runs) {
    const Range mine = run.Part();
    const int64_t whole = run.whole + mine.begin - run.range.begin;
    const auto count = static_cast<size_t>(mine.size() / kParameterBlock);
    NormBlocks(exec, g.subspan(static_cast<size_t>(mine.begin), static_cast<size_t>(mine.size())),
               std::span(blocks).subspan(static_cast<size_t>(whole / kParameterBlock), count));
  }
  world.AllReduce(std::span<double>(blocks));
  double sum = 0;
  for (const double b : blocks) sum += b;
  if (!std::isfinite(sum)) TRY(NotFinite());
  return std::sqrt(sum);
}

MuonJob Trainer::Impl::JobOf(size_t index, double lr, double grad_scale) {
  const Parameters& p = model.parameters();
  const Parameters::Entry& e = p.entries()[index];
  const Rule& rule = rules[index];
  MuonOptions o;
  o.lr = static_cast<float>(lr * rule.lr);
  o.momentum = static_cast<float>(options.optimizer.muon_momentum);
  o.weight_decay = static_cast<float>(options.optimizer.weight_decay * rule.decay);
  o.scale = MuonOptions::Scale::kMatchRms;
  o.grad_scale = static_cast<float>(grad_scale);
  const Moments at = At(moment1, RunOf(e), e.offset);
  const auto i = static_cast<int64_t>(index);
  return {p.value(i), p.gradient(i), {static_cast<float*>(at.data), e.rows, e.cols}, o};
}

void Trainer::Impl::Update(double lr, double grad_scale) {
  const Parameters& p = model.parameters();
  const OptimizerOptions& opt = options.optimizer;
  std::vector<MuonJob> matrices;
  for (size_t i = 0; i < p.entries().size(); ++i) {
    const Parameters::Entry& e = p.entries()[i];
    const Rule& rule = rules[i];
    if (!rule.trained || !e.kept || e.size() == 0) continue;
    if (rule.muon) {
      matrices.push_back(JobOf(i, lr, grad_scale));
      continue;
    }
    const Run& run = RunOf(e);
    const int64_t begin = std::max(e.offset, run.shard.begin);
    const int64_t end = std::min(e.offset + e.size(), run.shard.end);
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
    AdamW(exec, p.values().subspan(at, n), p.gradients().subspan(at, n), At(moment1, run, begin),
          At(moment2, run, begin), o);
  }
  Muon(exec, matrices);
  if (!sharded()) return;
  for (const Run& run : runs) Gather(run, p.values());
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
  const auto ranks = static_cast<size_t>(m.world.size());
  const size_t rounds = (passes.size() + ranks - 1) / ranks;
  for (size_t round = 0; round < rounds; ++round) {
    const size_t i = round * ranks + static_cast<size_t>(m.world.rank());
    const bool idle = i >= passes.size();  // but for the tokens of others
    if (idle && m.parallel == nullptr) continue;
    const Pass pass = idle ? Pass() : LayOut(passes[i]);
    const PassResult r = TRY(m.model.Evaluate(pass.batch(), {}));
    if (idle) continue;
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

// `mine`: the values of a parameter that its keepers have. Of an expert the first group's keeper
// sends them.
void Trainer::Impl::Bring(const Parameters::Entry& entry, std::span<const float> mine,
                          std::span<float> out) {
  const int64_t experts = model.config().gate.experts;
  int64_t keeper = 0;
  if (parallel != nullptr && entry.spec.expert >= 0) {
    keeper = entry.spec.expert / parallel->share().Size(experts);
  }
  if (keeper == 0) {
    if (world.rank() == 0) std::copy(mine.begin(), mine.end(), out.begin());
    return;
  }
  World& group = parallel->group();
  if (world.rank() >= group.size()) return;
  std::vector<World::ConstFloats> send(static_cast<size_t>(group.size()));
  std::vector<std::span<float>> receive(send.size());
  if (group.rank() == keeper) send[0] = mine;
  if (group.rank() == 0) receive[static_cast<size_t>(keeper)] = out;
  group.AllToAll(send, receive);
}

void Trainer::Master(int64_t index, std::span<float> out) {
  const Parameters& p = impl_->model.parameters();
  const Parameters::Entry& e = p.entries()[static_cast<size_t>(index)];
  std::span<const float> mine;
  if (e.kept) mine = {p.value(index).data, static_cast<size_t>(e.size())};
  impl_->Bring(e, mine, out);
}

Status Trainer::VisitOptimizer(const Visit& visit) {
  Impl& m = *impl_;
  if (m.lora != nullptr) return m.world.rank() == 0 ? m.lora->VisitState(visit) : Status();
  const Parameters& p = m.model.parameters();
  Buffer kept(static_cast<size_t>(p.size()) * sizeof(float));
  const std::span<float> values(kept.as<float>(), static_cast<size_t>(p.size()));
  const std::pair<const Buffer*, std::string> kinds[] = {{&m.moment1, "exp_avg."},
                                                         {&m.moment2, "exp_avg_sq."}};
  std::vector<float> whole;
  for (const auto& [buffer, prefix] : kinds) {
    for (const Impl::Run& run : m.runs) {
      Widen(m.At(*buffer, run, run.shard.begin),
            values.subspan(static_cast<size_t>(run.shard.begin),
                           static_cast<size_t>(run.shard.size())));
      if (m.sharded()) m.Gather(run, values);
    }
    for (const Parameters::Entry& e : p.entries()) {
      if (!e.trained) continue;
      const auto size = static_cast<size_t>(e.size());
      std::span<const float> mine;
      if (e.kept) mine = values.subspan(static_cast<size_t>(e.offset), size);
      whole.resize(size);
      m.Bring(e, mine, whole);
      if (m.world.rank() == 0) TRY(visit({prefix + e.spec.name, e.spec.shape, whole}));
    }
  }
  return {};
}

Status Trainer::RestoreOptimizer(const Visit& fill) {
  Impl& m = *impl_;
  if (m.lora != nullptr) return m.lora->VisitState(fill);
  const Parameters& p = m.model.parameters();
  Buffer kept(static_cast<size_t>(p.size()) * sizeof(float));
  const std::span<float> values(kept.as<float>(), static_cast<size_t>(p.size()));
  const std::pair<const Buffer*, std::string> kinds[] = {{&m.moment1, "exp_avg."},
                                                         {&m.moment2, "exp_avg_sq."}};
  for (const auto& [buffer, prefix] : kinds) {
    for (const Parameters::Entry& e : p.entries()) {
      if (!e.trained || !e.kept) continue;
      TRY(fill({prefix + e.spec.name, e.spec.shape,
                values.subspan(static_cast<size_t>(e.offset), static_cast<size_t>(e.size()))}));
    }
    for (const Impl::Run& run : m.runs) {
      Narrow(values.subspan(static_cast<size_t>(run.shard.begin),
                            static_cast<size_t>(run.shard.size())),
             m.At(*buffer, run, run.shard.begin));
    }
  }
  return {};
}

}  // namespace hadal
