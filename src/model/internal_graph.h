// The operations the model is written in, once for serving and training. Serving runs them and
// keeps nothing. With a Tape every call also notes its backward half; Tape::Backward replays these
// in reverse.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kernels/exec.h"
#include "kernels/gemm.h"
#include "kernels/moe_backward.h"
#include "kernels/ops.h"
#include "model/internal_model.h"
#include "model/parameters.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace hadal::internal {

// What a recorded forward pass leaves for the backward pass. Every activation lies in `memory`; its
// gradient lies at the same place of a shadow of that memory, so that views of columns or rows have
// theirs without any book-keeping. A gradient is complete when all later calls have been replayed.
// A part of the pass, such as a layer, may have memory of its own: the shadows of all parts are one
// piece of memory that they use in turn.
class Graph;

class Tape {
 public:
  Tape(Parameters& parameters, ComputeType compute);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  void Note(std::function<void()> backward) { steps_.push_back(std::move(backward)); }
  // Gradients of everything taken from `memory` start at zero here.
  void Start(const Workspace& memory);
  // The gradient that belongs to an activation. Start() comes first.
  View2<float> Grad(View2<const float> activation) const;
  // Replays and forgets.
  void Backward();
  void Clear();
  // A part: run(graph) calls the operations. What it reads and gives lies in memory that this tape
  // knows, what only it needs in the graph's own.
  using Run = std::function<void(const Graph&)>;
  // Runs it now and keeps it for the backward pass.
  void Apart(const Exec& exec, const Run& run);
  // Runs it in the backward pass only: what it gives is there, by a pass that kept nothing.
  void Later(const Exec& exec, Run run);

  // The stored matrix and its gradient behind the packed rows of a weight.
  View2<const float> Value(const ParamRef& ref) const;
  View2<float> WeightGrad(const ParamRef& ref) const;
  std::span<float> VectorGrad(int32_t param) const;

  Parameters& parameters;
  const ComputeType compute;
  bool recompute = false;  // layers keep their inputs only
  // Balance of experts, filled in while recording and replaying.
  double balance_alpha = 0, balance_scale = 0, balance_loss = 0;
  std::vector<std::vector<int64_t>> expert_tokens;  // [MoE layer][E]

 private:
  struct Part;
  Part& Record(const Exec& exec, size_t index, const Run& run);
  void Replay(Part& part);

  std::vector<std::function<void()>> steps_;
  struct Piece {
    const std::byte* from = nullptr;
    size_t bytes = 0;
  };
  std::vector<Piece> pieces_;
  std::vector<Buffer> own_shadows_;               // of the pieces
  std::vector<Buffer>* shadows_ = &own_shadows_;  // or those that all parts use
  // Of a part: its inputs and outputs lie in the outer tape's memory.
  const Tape* outer_ = nullptr;
  std::vector<std::unique_ptr<Part>> parts_;
  size_t parts_used_ = 0;
  std::vector<Buffer> part_shadows_;
};

struct Tape::Part {
  Part(Parameters& parameters, ComputeType compute) : tape(parameters, compute) {}

  Tape tape;
  Workspace memory;
};

struct LinearPart {
  const Weight& w;
  const Vector& bias;
  View2<float> y;
};

struct HeadColumns {
  int64_t offset, stride;  // first column of head 0; columns from head to head
};
struct HeadBlock {
  int64_t heads, cols;
};

class Graph {
 public:
  // Serving: products with packed weights. With a tape, a pass of training: products with the
  // masters, rounded as the tape's compute type says; it keeps what the backward half needs, or,
  // without `keep`, nothing.
  Graph(const Exec& exec, Workspace& memory, Tape* tape = nullptr, bool keep = true)
      : exec(exec), memory(memory), tape(tape), keep_(keep) {}

  bool training() const { return tape != nullptr; }
  bool recording() const { return tape != nullptr && keep_; }
  View2<float> Matrix(int64_t rows, int64_t cols) const { return memory.Matrix(rows, cols); }
  // Where an operation that may work in place writes: x itself, or, so that x stays for the
  // backward half, a matrix of its own.
  View2<float> Own(View2<float> x) const { return recording() ? memory.Matrix(x.rows, x.cols) : x; }
  // Memory that nothing later reads; a recording graph keeps it all.
  Workspace::Position Mark() const { return memory.Mark(); }
  void Release(Workspace::Position mark) const {
    if (!recording()) memory.Release(mark);
  }

  void Embed(const Weight& table, std::span<const int32_t> ids, View2<float> x) const;
  // y = x w^T + bias for each part.
  void Linear(View2<const float> x, std::span<const LinearPart> parts) const;
  // y may be x when not recording.
  void Norm(View2<const float> x, const Vector& w, float eps, View2<float> y) const;
  // sum = x + y. sum may be x.
  void Add(View2<const float> x, View2<const float> y, View2<float> sum) const;
  // sum = x + y, out = norm(sum). sum may be x when not recording.
  void AddNorm(View2<float> x, View2<const float> y, const Vector& w, float eps, View2<float> sum,
               View2<float> out) const;
  // to may be from.
  void Copy(View2<const float> from, View2<float> to) const;
  // Copies block.cols columns of each head from one row layout to another. With a source stride of
  // 0 all heads read the same columns.
  void CopyHeads(View2<const float> from, HeadColumns source, View2<float> to, HeadColumns target,
                 HeadBlock block) const;
  // In place; recording too, because the backward half does not read x.
  void Rotate(View2<float> x, std::span<const int32_t> positions, View2<const float> table,
              const RopeShape& shape) const;
  // y = (silu(gate) * up) w^T + bias. Serving overwrites gate; the backward half makes the middle
  // anew, so that it is not kept.
  void GatedLinear(View2<float> gate, View2<const float> up, const LinearPart& down) const;
  View2<float> Gather(View2<const float> x, std::span<const int32_t> rows) const;
  // Writes k and v to the store and attends over it. Recording: whole documents from position 0.
  void Attend(std::span<const SeqSpan> spans, const GqaShape& shape, View2<const float> q,
              View2<const float> k, View2<const float> v, const KvStore& store,
              View2<float> out) const;
  // Training only: up[T, H * (nope + Dv)], for each head its keys, then its values.
  void ExpandLatent(View2<const float> latent, const ParamRef& kv_b, View2<float> up) const;
  // Chooses experts by logits and mixes them: x -> y, both [M, D].
  struct Routed {
    View2<int32_t> ids;    // [M, top_k]
    View2<float> weights;  // [M, top_k]
  };
  Routed Route(View2<const float> logits, const GateShape& gate, const Vector& bias,
               std::span<const SeqSpan> spans) const;
  void Mix(View2<const float> x, const Routed& routed, const LayerWeights& w, View2<float> y) const;

  const Exec& exec;
  Workspace& memory;
  Tape* const tape;

 private:
  void MasterLinear(View2<const float> x, std::span<const LinearPart> parts) const;
  // Rows and the experts they go through: plan.first counts from `first_expert` of the layer.
  struct Mixed {
    View2<const float> x, weights;  // [M, D], [M, top_k]
    MoePlan plan;
    View2<float> gate, up;  // [S, F], kept for the backward half
    View2<float> y;         // [M, D]
    int64_t first_expert = 0;
  };
  struct Crossing;
  void MasterMix(const Mixed& m, const LayerWeights& w) const;
  void MixForward(const Mixed& m, const LayerWeights& w) const;
  int64_t ExpertWidth(const LayerWeights& w, int64_t expert) const;
  void MixBackward(const Mixed& m, const LayerWeights& w, View2<float> dweights,
                   int64_t source) const;
  void MixAcross(View2<const float> x, const Routed& routed, const LayerWeights& w,
                 View2<float> y) const;
  void MixAcrossBackward(View2<const float> x, const Routed& routed, View2<const float> y,
                         const Crossing& crossing, const LayerWeights& w) const;

  const bool keep_;
};

}  // namespace hadal::internal
