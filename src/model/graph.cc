#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "base/check.h"
#include "kernels/attention_backward.h"
#include "kernels/backward.h"
#include "kernels/matmul.h"
#include "kernels/moe.h"
#include "kernels/moe_backward.h"
#include "model/internal_graph.h"

namespace hadal::internal {

Tape::Tape(Parameters& parameters, ComputeType compute)
    : parameters(parameters), compute(compute) {}
Tape::~Tape() = default;

void Tape::Start(const Workspace& memory) {
  const std::span<const Buffer> slabs = memory.slabs();
  pieces_.resize(slabs.size());
  if (shadows_->size() < slabs.size()) shadows_->resize(slabs.size());
  for (size_t i = 0; i < slabs.size(); ++i) {
    pieces_[i] = {slabs[i].data(), memory.used(i)};
    Buffer& shadow = (*shadows_)[i];
    if (shadow.bytes() < pieces_[i].bytes) {
      shadow = Buffer();
      shadow = Buffer(pieces_[i].bytes);
    } else {
      std::fill_n(shadow.as<float>(), pieces_[i].bytes / sizeof(float), 0.0f);
    }
  }
}

View2<float> Tape::Grad(View2<const float> activation) const {
  const auto* at = reinterpret_cast<const std::byte*>(activation.data);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& p = pieces_[i];
    if (at < p.from || at >= p.from + p.bytes) continue;
    auto* data = reinterpret_cast<float*>((*shadows_)[i].data() + (at - p.from));
    return {data, activation.rows, activation.cols, activation.stride};
  }
  if (outer_ != nullptr) return outer_->Grad(activation);
  CHECK(activation.rows == 0);
  return {nullptr, 0, activation.cols, activation.stride};
}

Tape::Part& Tape::Record(const Exec& exec, size_t index, const Run& run) {
  if (index == parts_.size()) parts_.push_back(std::make_unique<Part>(parameters, compute));
  Part& part = *parts_[index];
  part.memory.Reset();
  part.tape.shadows_ = &part_shadows_;
  part.tape.outer_ = this;
  part.tape.expert_tokens.clear();
  part.tape.balance_alpha = balance_alpha;
  part.tape.balance_scale = balance_scale;
  part.tape.balance_loss = 0;
  run(Graph(exec, part.memory, &part.tape));
  return part;
}

void Tape::Replay(Part& part) {
  part.tape.Start(part.memory);
  part.tape.Backward();
  balance_loss += part.tape.balance_loss;
}

void Tape::Apart(const Exec& exec, const Run& run) {
  Part& part = Record(exec, parts_used_++, run);
  expert_tokens.insert(expert_tokens.end(), part.tape.expert_tokens.begin(),
                       part.tape.expert_tokens.end());
  Note([this, part = &part] { Replay(*part); });
}

void Tape::Later(const Exec& exec, Run run) {
  Note([exec = &exec, this, run = std::move(run)] {
    Part& part = Record(*exec, 0, run);
    Replay(part);
    // Layers come back last first.
    expert_tokens.insert(expert_tokens.begin(), part.tape.expert_tokens.begin(),
                         part.tape.expert_tokens.end());
  });
}

void Tape::Backward() {
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) (*step)();
  steps_.clear();
}

void Tape::Clear() {
  steps_.clear();
  for (const auto& part : parts_) part->tape.Clear();
  parts_used_ = 0;
}

View2<const float> Tape::Value(const ParamRef& ref) const {
  return parameters.value(ref.index).Rows(ref.first_row, ref.rows);
}
View2<float> Tape::WeightGrad(const ParamRef& ref) const {
  return parameters.gradient(ref.index).Rows(ref.first_row, ref.rows);
}
std::span<float> Tape::VectorGrad(int32_t param) const {
  const View2<float> g = parameters.gradient(param);
  return {g.data, static_cast<size_t>(g.cols)};
}

namespace {

// A product y = x W^T whose gradient is wanted.
struct Multiplied {
  ParamRef w;
  int32_t bias = -1;
  View2<const float> y;
};

// For products of one x, last first: dx += dy W, or = where `fresh`; dW += dy^T x.
void LinearBackward(const Exec& exec, const Tape& tape, View2<const float> x,
                    std::span<const Multiplied> products, View2<float> dx, bool fresh = false) {
  const ComputeType type = products[0].w.high ? ComputeType::kF32 : tape.compute;
  GemmJob jobs[3];
  for (size_t i = products.size(); i-- > 0;) {
    const Multiplied& p = products[i];
    const View2<const float> dy = tape.Grad(p.y);
    if (p.bias >= 0) ColumnSum(exec, dy, tape.VectorGrad(p.bias));
    Gemm(exec, {dy}, {tape.Value(p.w), /*transposed=*/true}, dx,
         {.type = type, .accumulate = !fresh, .b_is_weight = true});
    jobs[i] = {{dy, /*transposed=*/true}, {x, /*transposed=*/true}, tape.WeightGrad(p.w)};
  }
  GemmJobs(exec, {jobs, products.size()}, {.type = type, .accumulate = true});
}

}  // namespace

void Graph::Embed(const Weight& table, std::span<const int32_t> ids, View2<float> x) const {
  if (!training()) {
    exec.pool().For(x.rows,
                    [&](int64_t t, int) { table.Row(ids[static_cast<size_t>(t)], x.row(t)); });
    return;
  }
  const View2<const float> rows = tape->Value(table.from);
  exec.pool().For(x.rows, [&](int64_t t, int) {
    std::copy_n(rows.row(ids[static_cast<size_t>(t)]), x.cols, x.row(t));
  });
  if (tape->compute != ComputeType::kF32) RoundBf16(exec, x);
  if (!recording()) return;
  tape->Note([exec = &exec, tape = tape, from = table.from, ids, x] {
    EmbedBackward(*exec, tape->Grad(x), ids, tape->WeightGrad(from));
  });
}

void Graph::Linear(View2<const float> x, std::span<const LinearPart> parts) const {
  CHECK(parts.size() <= 3);
  if (training()) {
    MasterLinear(x, parts);
  } else {
    MatMulPart jobs[3];
    for (size_t i = 0; i < parts.size(); ++i) jobs[i] = {&parts[i].w, parts[i].y, parts[i].bias};
    MatMulGroup(exec, x, {jobs, parts.size()});
  }
  if (!recording()) return;
  std::array<Multiplied, 3> products;
  for (size_t i = 0; i < parts.size(); ++i) {
    products[i] = {parts[i].w.from, parts[i].bias.param, parts[i].y};
  }
  tape->Note([exec = &exec, tape = tape, x, products, count = parts.size()] {
    LinearBackward(*exec, *tape, x, {products.data(), count}, tape->Grad(x));
  });
}

// In f32 the bits of MatMulGroup on the packed masters.
void Graph::MasterLinear(View2<const float> x, std::span<const LinearPart> parts) const {
  GemmJob jobs[3];
  for (size_t i = 0; i < parts.size(); ++i)
    jobs[i] = {{x}, {tape->Value(parts[i].w.from)}, parts[i].y};
  const bool high = parts[0].w.from.high;  // stands alone: the gate
  for (const LinearPart& p : parts) CHECK(p.w.from.high == high);
  GemmJobs(exec, {jobs, parts.size()},
           {.type = high ? ComputeType::kF32 : tape->compute, .b_is_weight = true});
  for (const LinearPart& p : parts) {
    if (p.bias.empty()) continue;
    exec.pool().For(p.y.rows, [&](int64_t t, int) {
      float* row = p.y.row(t);
      for (int64_t n = 0; n < p.y.cols; ++n) row[n] += p.bias[static_cast<size_t>(n)];
    });
  }
}

void Graph::Norm(View2<const float> x, const Vector& w, float eps, View2<float> y) const {
  RmsNorm(exec, x, w, eps, y);
  if (!recording()) return;
  tape->Note([exec = &exec, tape = tape, x, w = &w, eps, y] {
    RmsNormBackward(*exec, tape->Grad(y), x, *w, eps, tape->Grad(x), tape->VectorGrad(w->param));
  });
}

void Graph::Add(View2<const float> x, View2<const float> y, View2<float> sum) const {
  if (sum.data != x.data) Copy(x, sum);
  hadal::Add(exec, sum, y);
  if (!recording()) return;
  tape->Note(
      [exec = &exec, tape = tape, y, sum] { AddInto(*exec, tape->Grad(sum), tape->Grad(y)); });
}

void Graph::AddNorm(View2<float> x, View2<const float> y, const Vector& w, float eps,
                    View2<float> sum, View2<float> out) const {
  if (!recording()) {
    Copy(x, sum);
    AddRmsNorm(exec, sum, y, w, eps, out);
    return;
  }
  Add(x, y, sum);
  Norm(sum, w, eps, out);
}

void Graph::Copy(View2<const float> from, View2<float> to) const {
  if (from.data == to.data) return;
  exec.pool().For(from.rows,
                  [&](int64_t t, int) { std::copy_n(from.row(t), from.cols, to.row(t)); });
  if (!recording()) return;
  tape->Note(
      [exec = &exec, tape = tape, from, to] { AddInto(*exec, tape->Grad(to), tape->Grad(from)); });
}

void Graph::CopyHeads(View2<const float> from, HeadColumns source, View2<float> to,
                      HeadColumns target, HeadBlock block) const {
  exec.pool().For(from.rows, [&](int64_t t, int) {
    const float* in = from.row(t) + source.offset;
    float* out = to.row(t) + target.offset;
    for (int64_t h = 0; h < block.heads; ++h) {
      std::copy_n(in + h * source.stride, block.cols, out + h * target.stride);
    }
  });
  if (!recording()) return;
  tape->Note([exec = &exec, tape = tape, from, source, to, target, block] {
    const View2<float> dfrom = tape->Grad(from), dto = tape->Grad(to);
    exec->pool().For(from.rows, [&](int64_t t, int) {
      for (int64_t h = 0; h < block.heads; ++h) {
        float* in = dfrom.row(t) + source.offset + h * source.stride;
        const float* out = dto.row(t) + target.offset + h * target.stride;
        for (int64_t i = 0; i < block.cols; ++i) in[i] += out[i];
      }
    });
  });
}

void Graph::Rotate(View2<float> x, std::span<const int32_t> positions, View2<const float> table,
                   const RopeShape& shape) const {
  Rope(exec, x, positions, table, shape);
  if (!recording()) return;
  tape->Note([exec = &exec, tape = tape, x, positions, table, shape] {
    RopeBackward(*exec, tape->Grad(x), positions, table, shape);
  });
}

void Graph::GatedLinear(View2<float> gate, View2<const float> up, const LinearPart& down) const {
  if (!training()) {
    SwiGlu(exec, gate, up, gate);
    return Linear(gate, {&down, 1});
  }
  Workspace& scratch = exec.shared();
  const Workspace::Position mark = scratch.Mark();
  const View2<float> act = scratch.Matrix(gate.rows, gate.cols);
  SwiGlu(exec, gate, up, act);
  MasterLinear(act, {&down, 1});
  scratch.Release(mark);
  if (!recording()) return;
  const Multiplied product = {down.w.from, down.bias.param, down.y};
  tape->Note([exec = &exec, tape = tape, gate, up, product] {
    Workspace& scratch = exec->shared();
    const Workspace::Position mark = scratch.Mark();
    const View2<float> act = scratch.Matrix(gate.rows, gate.cols);
    const View2<float> dact = scratch.Matrix(gate.rows, gate.cols);
    SwiGlu(*exec, gate, up, act);
    LinearBackward(*exec, *tape, act, {&product, 1}, dact, /*fresh=*/true);
    SwiGluBackward(*exec, dact, gate, up, tape->Grad(gate), tape->Grad(up));
    scratch.Release(mark);
  });
}

View2<float> Graph::Gather(View2<const float> x, std::span<const int32_t> rows) const {
  View2<float> out = memory.Matrix(static_cast<int64_t>(rows.size()), x.cols);
  exec.pool().For(out.rows, [&](int64_t r, int) {
    std::copy_n(x.row(rows[static_cast<size_t>(r)]), x.cols, out.row(r));
  });
  if (!recording()) return out;
  tape->Note([tape = tape, x, rows, out] {
    const View2<float> dx = tape->Grad(x), dout = tape->Grad(out);
    for (int64_t r = 0; r < out.rows; ++r) {
      float* to = dx.row(rows[static_cast<size_t>(r)]);
      const float* from = dout.row(r);
      for (int64_t i = 0; i < dx.cols; ++i) to[i] += from[i];
    }
  });
  return out;
}

void Graph::Attend(std::span<const SeqSpan> spans, const GqaShape& shape, View2<const float> q,
                   View2<const float> k, View2<const float> v, const KvStore& store,
                   View2<float> out) const {
  GqaWrite(exec, spans, shape, k, v, store);
  GqaAttention(exec, spans, shape, q, store, out);
  if (!recording()) return;
  tape->Note([exec = &exec, tape = tape, spans, shape, q, k, v, out] {
    GqaAttentionBackward(*exec, spans, shape, q, k, v, tape->Grad(out), tape->Grad(q),
                         tape->Grad(k), tape->Grad(v));
  });
}

void Graph::ExpandLatent(View2<const float> latent, const ParamRef& kv_b, View2<float> up) const {
  CHECK(training());
  Gemm(exec, {latent}, {tape->Value(kv_b)}, up, {.type = tape->compute, .b_is_weight = true});
  if (!recording()) return;
  tape->Note([exec = &exec, tape = tape, latent, product = Multiplied{kv_b, -1, up}] {
    LinearBackward(*exec, *tape, latent, {&product, 1}, tape->Grad(latent));
  });
}

Graph::Routed Graph::Route(View2<const float> logits, const GateShape& gate, const Vector& bias,
                           std::span<const SeqSpan> spans) const {
  Routed r;
  r.weights = memory.Matrix(logits.rows, gate.top_k);
  r.ids = View2<int32_t>(memory.Take<int32_t>(logits.rows * gate.top_k), logits.rows, gate.top_k);
  MoeRoute(exec, logits, gate, bias, r.ids, r.weights);
  if (!recording()) return r;
  std::vector<int64_t>& counts = tape->expert_tokens.emplace_back();
  counts.resize(static_cast<size_t>(gate.experts));
  CountExperts(r.ids, counts);
  tape->Note([exec = &exec, tape = tape, logits, gate, bias = &bias, spans, r] {
    const View2<float> dlogits = tape->Grad(logits);
    MoeRouteBackward(*exec, logits, gate, r.ids, tape->Grad(r.weights), dlogits);
    if (tape->balance_alpha <= 0) return;
    tape->balance_loss +=
        BalanceLoss(*exec, logits, gate, *bias, spans, static_cast<float>(tape->balance_alpha),
                    static_cast<float>(tape->balance_scale), dlogits);
  });
  return r;
}

}  // namespace hadal::internal
