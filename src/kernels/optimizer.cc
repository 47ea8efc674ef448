#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/train_dispatch.h"
#include "tensor/buffer.h"
#include "tensor/half.h"

namespace hadal {
namespace {

using internal::CeilDiv;

constexpr int64_t kStepElements = 2048;  // of a moment widened at a time

void Widen(const uint16_t* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = BF16ToF32(from[i]);
}
void Narrow(const float* from, int64_t n, uint16_t* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = F32ToBF16(from[i]);
}

// A run of a moment as floats: the moment itself, or widened in `room`.
float* Open(const Moments& m, int64_t first, int64_t n, float* room) {
  if (m.type == MomentType::kF32) return static_cast<float*>(m.data) + first;
  Widen(static_cast<const uint16_t*>(m.data) + first, n, room);
  return room;
}
void Close(const Moments& m, int64_t first, int64_t n, const float* room) {
  if (m.type == MomentType::kBF16) Narrow(room, n, static_cast<uint16_t*>(m.data) + first);
}

internal::AdamWStep MakeStep(const AdamWOptions& o) {
  const double beta1 = double{o.beta1}, beta2 = double{o.beta2};
  const auto step = static_cast<double>(o.step);
  return {.grad_scale = o.grad_scale,
          .decay = static_cast<float>(1 - double{o.lr} * double{o.weight_decay}),
          .one_minus_beta1 = static_cast<float>(1 - beta1),
          .beta2 = o.beta2,
          .one_minus_beta2 = static_cast<float>(1 - beta2),
          .step_size = static_cast<float>(double{o.lr} / (1 - std::pow(beta1, step))),
          .bias2_root = static_cast<float>(std::sqrt(1 - std::pow(beta2, step))),
          .eps = o.eps};
}

}  // namespace

void AdamW(const Exec& exec, std::span<float> w, std::span<const float> g, Moments m, Moments v,
           const AdamWOptions& options) {
  CHECK(g.size() == w.size() && options.step >= 1);
  const internal::AdamWStep step = MakeStep(options);
  const auto run = internal::Train(exec.isa()).adamw;
  const auto size = static_cast<int64_t>(w.size());
  exec.pool().For(CeilDiv(size, kNormBlock), [&](int64_t task, int) {
    const int64_t end = std::min(size, (task + 1) * kNormBlock);
    for (int64_t i = task * kNormBlock; i < end; i += kStepElements) {
      const int64_t n = std::min(kStepElements, end - i);
      float room_m[kStepElements], room_v[kStepElements];
      float *mi = Open(m, i, n, room_m), *vi = Open(v, i, n, room_v);
      run(w.data() + i, g.data() + i, mi, vi, n, step);
      Close(m, i, n, mi);
      Close(v, i, n, vi);
    }
  });
}

void NormBlocks(const Exec& exec, std::span<const float> g, std::span<double> blocks) {
  const auto size = static_cast<int64_t>(g.size());
  CHECK(static_cast<int64_t>(blocks.size()) == CeilDiv(size, kNormBlock));
  exec.pool().For(static_cast<int64_t>(blocks.size()), [&](int64_t block, int) {
    const int64_t end = std::min(size, (block + 1) * kNormBlock);
    double lane[8] = {};
    int64_t i = block * kNormBlock;
    for (; i + 8 <= end; i += 8) {
      for (int64_t j = 0; j < 8; ++j) {
        const double x = double{g[static_cast<size_t>(i + j)]};
        lane[j] += x * x;
      }
    }
    for (int64_t j = 0; i + j < end; ++j) {
      const double x = double{g[static_cast<size_t>(i + j)]};
      lane[j] += x * x;
    }
    blocks[static_cast<size_t>(block)] =
        ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
  });
}

double SquaredNorm(const Exec& exec, std::span<const float> g) {
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  const int64_t count = CeilDiv(static_cast<int64_t>(g.size()), kNormBlock);
  const std::span<double> blocks(memory.Take<double>(count), static_cast<size_t>(count));
  NormBlocks(exec, g, blocks);
  double sum = 0;
  for (const double block : blocks) sum += block;
  memory.Release(mark);
  return sum;
}

namespace {

constexpr float kNewtonA = 3.4445f, kNewtonB = -4.7750f, kNewtonC = 2.0315f;

// The momentum step into x, whole rows contiguous.
void MuonMomentum(const Exec& exec, View2<const float> g, View2<float> buf, View2<float> x,
                  const MuonOptions& o) {
  internal::ForRowRuns(exec, g.rows, g.cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* gr = g.row(r);
      float *b = buf.row(r), *u = x.row(r);
      for (int64_t i = 0; i < g.cols; ++i) {
        const float gi = gr[i] * o.grad_scale;
        b[i] = b[i] + (1.0f - o.momentum) * (gi - b[i]);
        u[i] = o.nesterov ? gi + o.momentum * (b[i] - gi) : b[i];
      }
    }
  });
}

// to = x * from + y * to, element by element.
void Mix(const Exec& exec, float x, View2<const float> from, float y, View2<float> to) {
  internal::ForRowRuns(exec, to.rows, to.cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* f = from.row(r);
      float* t = to.row(r);
      for (int64_t i = 0; i < to.cols; ++i) t[i] = x * f[i] + y * t[i];
    }
  });
}

// X = a X + (b A + c A A) X, or with the products on the other side where rows are more than
// columns: A is the smaller Gram matrix.
void NewtonSchulz(const Exec& exec, View2<float> x, int steps, ComputeType type) {
  const bool tall = x.rows > x.cols;
  const int64_t n = tall ? x.cols : x.rows;
  Workspace& memory = exec.shared();
  const View2<float> gram = memory.Matrix(n, n), square = memory.Matrix(n, n);
  const View2<float> product = memory.Matrix(x.rows, x.cols);
  for (int i = 0; i < steps; ++i) {
    Gemm(exec, {x, tall}, {x, tall}, gram, {.type = type});
    Gemm(exec, {gram}, {gram}, square, {.type = type});
    Mix(exec, kNewtonB, gram, kNewtonC, square);
    if (tall) {
      Gemm(exec, {x}, {square}, product, {.type = type});
    } else {
      Gemm(exec, {square}, {x, true}, product, {.type = type});
    }
    Mix(exec, 1.0f, product, kNewtonA, x);
  }
}

}  // namespace

void Muon(const Exec& exec, View2<float> w, View2<const float> g, View2<float> buf,
          const MuonOptions& o) {
  CHECK(g.rows == w.rows && g.cols == w.cols && buf.rows == w.rows && buf.cols == w.cols);
  if (w.rows == 0 || w.cols == 0) return;
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  const View2<float> x = memory.Matrix(w.rows, w.cols);
  MuonMomentum(exec, g, buf, x, o);
  const double norm = std::sqrt(SquaredNorm(exec, {x.data, static_cast<size_t>(x.rows * x.cols)}));
  Mix(exec, 0.0f, x, static_cast<float>(1 / (norm + 1e-7)), x);
  NewtonSchulz(exec, x, o.steps, o.type);
  const auto rows = static_cast<double>(w.rows), cols = static_cast<double>(w.cols);
  const double scale = o.scale == MuonOptions::Scale::kSpectral
                           ? std::sqrt(std::max(1.0, rows / cols))
                           : 0.2 * std::sqrt(std::max(rows, cols));
  Mix(exec, static_cast<float>(-double{o.lr} * scale), x,
      static_cast<float>(1 - double{o.lr} * double{o.weight_decay}), w);
  memory.Release(mark);
}

}  // namespace hadal
