#include "model/trainable.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>

#include "base/check.h"
#include "kernels/backward.h"
#include "model/internal_config.h"
#include "model/internal_source.h"
#include "model/internal_step.h"
#include "tensor/quant.h"

namespace hadal {
namespace internal {

class MasterSource : public ParamSource {
 public:
  MasterSource(const Exec& exec, Parameters& parameters, DType type)
      : exec_(exec), parameters_(parameters), type_(type) {
    for (const Parameters::Entry& e : parameters.entries()) {
      index_.emplace(e.spec.name, static_cast<int64_t>(index_.size()));
    }
  }
  bool Has(const ParamSpec& spec) const override { return index_.contains(spec.name); }
  bool Kept(const ParamSpec& spec) const override {
    return parameters_.entries()[static_cast<size_t>(index_.at(spec.name))].kept;
  }
  Status Done(const ParamSpec&) override { return {}; }
  Result<StoredMatrix> Get(const ParamSpec& spec) override {
    const View2<float> v = parameters_.value(index_.at(spec.name));
    StoredMatrix m{DType::kF32, reinterpret_cast<const std::byte*>(v.data), v.rows, v.cols};
    const bool gate = spec.name.ends_with(".gate.weight");
    if (type_ == DType::kF32 || spec.shape.size() == 1 || gate) return m;
    m.type = type_;
    const int64_t row_bytes = RowBytes(type_, v.cols);
    narrow_.resize(static_cast<size_t>(v.rows * row_bytes));
    exec_.pool().For(v.rows, [&](int64_t r, int) {
      Quantize(type_, v.row(r), narrow_.data() + r * row_bytes, v.cols);
    });
    m.data = narrow_.data();
    return m;
  }

 private:
  const Exec& exec_;
  Parameters& parameters_;
  DType type_;
  std::unordered_map<std::string, int64_t> index_;
  std::vector<std::byte> narrow_;
};

namespace {

constexpr int64_t kHeadLogits = 1 << 21;                     // alive at once, where that leaves
constexpr int64_t kFewHeadRows = 256, kMostHeadRows = 1024;  // some rows for every packed weight

// A row of the residual stream that predicts `target`.
struct Prediction {
  std::vector<int32_t> rows, targets;
  std::vector<float> weights;
};

}  // namespace
}  // namespace internal

struct TrainableModel::Impl {
  const Exec* exec = nullptr;
  ComputeType compute = ComputeType::kF32;
  ExpertExchange* exchange = nullptr;
  std::unique_ptr<Parameters> parameters;
  internal::ModelWeights weights;  // of the passes: vectors, and where the masters of matrices are
  std::unique_ptr<Model> model;    // serves; without weights until they are asked for
  bool served = false;
  std::unique_ptr<internal::Tape> tape;
  Workspace memory, head_memory;
  Buffer kv;  // keys and values of one layer

  Result<PassResult> Run(const TrainBatch& batch, const Objective& objective, bool gradient);
  double Head(const internal::Logits& last, View2<const float> x,
              const internal::Prediction& predict, const Objective& objective, double scale,
              bool gradient, PassResult& result);
  KvStore Store(int64_t blocks);
  Status CheckFinite() const;
  void Connect(internal::ModelWeights& to) const;
  void Distil(const Objective& o, View2<float> logits, View2<const float> copy, int64_t first,
              const internal::Prediction& predict, double scale, PassResult& result);
};

namespace internal {

// Documents as the forward pass takes them: each from position 0, its blocks of the store in turn.
class PackedDocuments {
 public:
  // shifted: leaves out each document's first token, as the MTP block reads them.
  PackedDocuments(std::span<const int32_t> tokens, std::span<const int32_t> first, bool shifted) {
    int64_t used = 0;
    const auto total = static_cast<int32_t>(tokens.size());
    for (size_t d = 0; d < first.size(); ++d) {
      const int32_t begin = first[d], end = d + 1 < first.size() ? first[d + 1] : total;
      CHECK(begin >= 0 && begin < end && (d > 0 || begin == 0));
      const int64_t n = end - begin - (shifted ? 1 : 0);
      used += (n + kKvBlock - 1) / kKvBlock;
    }
    table_.resize(static_cast<size_t>(used));
    for (size_t b = 0; b < table_.size(); ++b) table_[b] = static_cast<int32_t>(b);
    used = 0;
    for (size_t d = 0; d < first.size(); ++d) {
      const int32_t begin = first[d], end = d + 1 < first.size() ? first[d + 1] : total;
      const int64_t n = end - begin - (shifted ? 1 : 0);
      if (n == 0) continue;
      SeqInput in;
      in.blocks = table_.data() + used;
      in.tokens =
          tokens.subspan(static_cast<size_t>(begin + (shifted ? 1 : 0)), static_cast<size_t>(n));
      in.logits = n;  // no row is left out on the way
      used += (n + kKvBlock - 1) / kKvBlock;
      seqs_.push_back(in);
      for (int64_t i = 0; i < n; ++i) rows_.push_back(static_cast<int32_t>(begin + i));
    }
  }
  std::span<const SeqInput> seqs() const { return seqs_; }
  int64_t blocks() const { return static_cast<int64_t>(table_.size()); }
  // The row of the batch at which each token of these documents sits (its predecessor, shifted).
  std::span<const int32_t> rows() const { return rows_; }

 private:
  std::vector<int32_t> table_, rows_;
  std::vector<SeqInput> seqs_;
};

// ahead 1: row t predicts token t + 1. ahead 2 (MTP): row t of the shifted documents predicts the
// token after its own input.
Prediction Targets(const TrainBatch& batch, int64_t ahead) {
  Prediction p;
  const auto total = static_cast<int32_t>(batch.tokens.size());
  int32_t row = 0;
  for (size_t d = 0; d < batch.first.size(); ++d) {
    const int32_t begin = batch.first[d];
    const int32_t end = d + 1 < batch.first.size() ? batch.first[d + 1] : total;
    const auto rows = static_cast<int32_t>(end - begin - (ahead - 1));
    for (int32_t i = 0; i < rows; ++i) {
      const int64_t target = begin + i + ahead;
      if (target >= end) continue;
      const float weight = batch.weights[static_cast<size_t>(target)];
      if (weight == 0) continue;
      p.rows.push_back(row + i);
      p.targets.push_back(batch.tokens[static_cast<size_t>(target)]);
      p.weights.push_back(weight);
    }
    row += rows;
  }
  return p;
}

}  // namespace internal

using internal::Graph;
using internal::Logits;
using internal::Prediction;
using internal::Step;

TrainableModel::TrainableModel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TrainableModel::~TrainableModel() = default;

const ModelConfig& TrainableModel::config() const { return impl_->model->config(); }
Parameters& TrainableModel::parameters() { return *impl_->parameters; }
ComputeType TrainableModel::compute() const { return impl_->compute; }

Result<std::unique_ptr<TrainableModel>> TrainableModel::Create(const Exec& exec,
                                                               const ModelConfig& config,
                                                               ComputeType compute,
                                                               ExpertExchange* exchange) {
  TRY(internal::ValidateConfig(config));
  const ExpertShare share = exchange != nullptr ? exchange->share() : ExpertShare{};
  if (share.ranks > 1 && (config.gate.experts == 0 || config.gate.experts % share.ranks != 0)) {
    return Error{Code::kInvalid, "n_routed_experts: " + std::to_string(config.gate.experts) +
                                     " experts do not divide over " + std::to_string(share.ranks) +
                                     " ranks; choose another expert_parallel"};
  }
  if (config.mtp_layers > 1) {
    return Error{Code::kUnsupported,
                 "num_nextn_predict_layers: " + std::to_string(config.mtp_layers) +
                     "; one MTP layer is trained at most"};
  }
  auto impl = std::make_unique<Impl>();
  impl->exec = &exec;
  impl->compute = compute;
  impl->exchange = exchange;
  impl->parameters = std::make_unique<Parameters>(config, share);
  impl->tape = std::make_unique<internal::Tape>(*impl->parameters, compute);
  impl->model = Model::Empty(exec, config);
  return std::unique_ptr<TrainableModel>(new TrainableModel(std::move(impl)));
}

Status TrainableModel::Impl::CheckFinite() const {
  std::vector<uint8_t> ok;
  for (const Parameters::Entry& e : parameters->entries()) {
    if (!e.kept) continue;
    const auto index = &e - parameters->entries().data();
    ok.resize(static_cast<size_t>(e.rows));
    RowsFinite(*exec, parameters->value(index), ok);
    const auto bad = std::find(ok.begin(), ok.end(), uint8_t{0});
    if (bad == ok.end()) continue;
    return Error{Code::kNumeric, "parameter " + e.spec.name + ", row " +
                                     std::to_string(bad - ok.begin()) +
                                     ", holds NaN or Inf; is the learning rate too high?"};
  }
  return {};
}

void TrainableModel::Impl::Connect(internal::ModelWeights& to) const {
  for (internal::LayerWeights& layer : to.layers) layer.exchange = exchange;
  if (to.mtp != nullptr) to.mtp->layer.exchange = exchange;
}

Status TrainableModel::Publish() {
  Impl& t = *impl_;
  TRY(t.CheckFinite());
  t.model->impl_->weights = internal::ModelWeights();
  t.served = false;
  internal::MasterSource source(*t.exec, *t.parameters, DType::kF32);
  t.weights =
      TRY(internal::BuildWeights(t.exec, t.model->config(), source, internal::Filled::kVectors));
  t.Connect(t.weights);
  return {};
}

Model& TrainableModel::model() {
  Impl& t = *impl_;
  if (t.served) return *t.model;
  const DType type = t.compute == ComputeType::kF32 ? DType::kF32 : DType::kBF16;
  internal::MasterSource source(*t.exec, *t.parameters, type);
  Result<internal::ModelWeights> packed = internal::BuildWeights(t.exec, t.model->config(), source);
  CHECK(packed.ok());  // Publish has seen that all is finite
  t.model->impl_->weights = std::move(packed).value();
  t.Connect(t.model->impl_->weights);
  t.served = true;
  return *t.model;
}

KvStore TrainableModel::Impl::Store(int64_t blocks) {
  const ModelConfig& c = model->config();
  const GqaShape shape = c.mla() ? GqaShape{c.heads, c.heads, c.q_head_dim(), c.v_dim, 0}
                                 : GqaShape{c.heads, c.kv_heads, c.head_dim, c.head_dim, 0};
  const int64_t block = GqaBlockBytes(shape, KvType::kF32);
  if (static_cast<int64_t>(kv.bytes()) < blocks * block) {
    kv = Buffer();
    kv = Buffer(static_cast<size_t>(blocks * block));
  }
  return {kv.data(), KvType::kF32, block};
}

// Adds the teacher's part to the gradient of the cross-entropy.
void TrainableModel::Impl::Distil(const Objective& o, View2<float> logits, View2<const float> copy,
                                  int64_t first, const Prediction& predict, double scale,
                                  PassResult& result) {
  const int64_t rows = copy.rows, k = o.teacher->ids.cols;
  auto* ids = head_memory.Take<int32_t>(rows * k);
  View2<float> log_probs = head_memory.Matrix(rows, k);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = predict.rows[static_cast<size_t>(first + r)];
    std::copy_n(o.teacher->ids.row(row), k, ids + r * k);
    std::copy_n(o.teacher->log_probs.row(row), k, log_probs.row(r));
  }
  View2<float> kl = head_memory.Matrix(rows, copy.cols);
  std::memcpy(kl.data, copy.data, static_cast<size_t>(rows * copy.cols) * sizeof(float));
  auto* losses = head_memory.Take<float>(rows);
  DistillOptions options = o.distill;
  options.grad_scale = static_cast<float>(scale * o.distill_weight);
  const TeacherTopK teacher = {View2<const int32_t>(ids, rows, k), log_probs};
  result.distill_loss += DistillKl(
      *exec, kl, teacher,
      std::span(predict.weights).subspan(static_cast<size_t>(first), static_cast<size_t>(rows)),
      options, {losses, static_cast<size_t>(rows)});
  AddInto(*exec, kl, logits);
}

// Rows of x that predict something, some hundreds at a time: norm, head, loss, and, when wanted,
// straight back to the gradient of x, so that the logits of a batch never exist together.
double TrainableModel::Impl::Head(const Logits& last, View2<const float> x,
                                  const Prediction& predict, const Objective& objective,
                                  double scale, bool gradient, PassResult& result) {
  const ModelConfig& c = model->config();
  const internal::Weight& head = last.head;
  const bool distil = objective.teacher != nullptr && &last.norm == &weights.final_norm;
  const double ce_scale = scale * (distil ? 1 - objective.distill_weight : 1);
  const auto total = static_cast<int64_t>(predict.rows.size());
  const int64_t most =
      std::clamp(internal::kHeadLogits / c.vocab, internal::kFewHeadRows, internal::kMostHeadRows);
  double loss = 0;
  for (int64_t first = 0; first < total; first += most) {
    head_memory.Reset();
    const int64_t rows = std::min(most, total - first);
    const auto at = static_cast<size_t>(first), n = static_cast<size_t>(rows);
    const auto ids = std::span(predict.rows).subspan(at, n);
    const auto targets = std::span(predict.targets).subspan(at, n);
    const auto row_weights = std::span(predict.weights).subspan(at, n);
    const Graph graph(*exec, head_memory);
    const View2<float> in = graph.Gather(x, ids);                   // [R, D]
    const View2<float> h = head_memory.Matrix(rows, c.width);       // [R, D]
    const View2<float> logits = head_memory.Matrix(rows, c.vocab);  // [R, V]
    RmsNorm(*exec, in, last.norm, c.norm_eps, h);
    const ComputeType type = compute == ComputeType::kF32 ? ComputeType::kF32 : ComputeType::kBF16;
    Gemm(*exec, {h}, {tape->Value(head.from)}, logits, {.type = type});
    result.predicted += rows;
    View2<float> copy;
    if (distil && gradient) {
      copy = head_memory.Matrix(rows, c.vocab);
      std::memcpy(copy.data, logits.data, static_cast<size_t>(rows * c.vocab) * sizeof(float));
    }
    auto* losses = head_memory.Take<float>(rows);
    const std::span<uint8_t> hits = {head_memory.Take<uint8_t>(rows), n};
    loss += CrossEntropy(*exec, logits, targets, row_weights, static_cast<float>(ce_scale),
                         objective.z_loss, {losses, n}, hits);
    result.correct += std::accumulate(hits.begin(), hits.end(), int64_t{0});
    if (!gradient) continue;
    if (distil) Distil(objective, logits, copy, first, predict, scale, result);
    const View2<float> dh = head_memory.Matrix(rows, c.width);   // [R, D]
    const View2<float> din = head_memory.Matrix(rows, c.width);  // [R, D]
    std::fill_n(din.data, rows * c.width, 0.0f);
    Gemm(*exec, {logits}, {tape->Value(head.from), true}, dh, {.type = type});
    Gemm(*exec, {logits, true}, {h, true}, tape->WeightGrad(head.from),
         {.type = type, .accumulate = true});
    RmsNormBackward(*exec, dh, in, last.norm, c.norm_eps, din, tape->VectorGrad(last.norm.param));
    const View2<float> dx = tape->Grad(x);
    for (size_t r = 0; r < n; ++r) {
      AddInto(*exec, din.Rows(static_cast<int64_t>(r), 1), dx.Rows(ids[r], 1));
    }
  }
  return loss;
}

Result<PassResult> TrainableModel::Impl::Run(const TrainBatch& in, const Objective& objective,
                                             bool gradient) {
  CHECK(in.weights.size() == in.tokens.size() && in.tokens.empty() == in.first.empty());
  CHECK(!in.tokens.empty() || exchange != nullptr);
  Model::Impl& m = *model->impl_;
  const ModelConfig& c = m.config;
  PassResult result;
  memory.Reset();
  tape->Clear();
  tape->expert_tokens.clear();
  tape->balance_alpha = objective.balance_alpha;
  tape->balance_scale = objective.balance_scale;
  tape->balance_loss = 0;

  const internal::PackedDocuments docs(in.tokens, in.first, false);
  const internal::PackedDocuments next(in.tokens, in.first, true);
  const bool mtp =
      objective.mtp_scale != 0 && c.mtp_layers > 0 && (!next.rows().empty() || exchange != nullptr);
  internal::Batch batch = internal::LayOut(c, docs.seqs(), memory);
  batch.rope = internal::RopeRows(*exec, c, batch.positions, c.context, m.rope);
  internal::Batch shifted;
  if (mtp) {
    shifted = internal::LayOut(c, next.seqs(), memory);
    shifted.rope = internal::RopeRows(*exec, c, shifted.positions, c.context, m.rope);
  }
  const KvStore store = Store(docs.blocks());
  tape->recompute = gradient && objective.recompute;
  internal::FiniteWatch watch(*exec, batch.tokens, memory);
  const Graph graph(*exec, memory, tape.get(), gradient);
  const Step step{graph, c, batch, nullptr};
  const View2<float> x = step.Layers(weights, {nullptr, store}, watch);
  View2<float> x_mtp;
  if (mtp) {
    internal::FiniteWatch mtp_watch(*exec, shifted.tokens, memory);
    const View2<float> hidden = graph.Gather(x, next.rows());
    x_mtp = Step{graph, c, shifted, nullptr}.Mtp(weights, hidden, store, mtp_watch);
  }
  if (const int64_t bad = watch.First(); bad >= 0) {
    return Error{Code::kNumeric, "activations of layer " + std::to_string(bad) +
                                     " hold NaN or Inf; is the learning rate too high?"};
  }
  if (gradient) tape->Start(memory);
  const Prediction predict = internal::Targets(in, 1);
  result.loss = Head({weights.final_norm, weights.OutputHead()}, x, predict, objective,
                     objective.loss_scale, gradient, result);
  for (const float w : predict.weights) result.weight += w;
  if (mtp) {
    const Prediction further = internal::Targets(in, 2);
    PassResult ignored;
    result.mtp_loss = Head({weights.mtp->head_norm, weights.OutputHead()}, x_mtp, further,
                           objective, objective.mtp_scale, gradient, ignored);
    for (const float w : further.weights) result.mtp_weight += w;
  }
  if (gradient) tape->Backward();
  tape->Clear();
  result.balance_loss = tape->balance_loss;
  result.expert_tokens = std::move(tape->expert_tokens);
  return result;
}

Result<PassResult> TrainableModel::Accumulate(const TrainBatch& batch, const Objective& objective) {
  return impl_->Run(batch, objective, true);
}
Result<PassResult> TrainableModel::Evaluate(const TrainBatch& batch, const Objective& objective) {
  return impl_->Run(batch, objective, false);
}

}  // namespace hadal
