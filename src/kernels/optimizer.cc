#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/dispatch.h"
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

namespace {

double BlockNorm(std::span<const float> g, int64_t block) {
  const int64_t end = std::min(static_cast<int64_t>(g.size()), (block + 1) * kNormBlock);
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
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

}  // namespace

void NormBlocks(const Exec& exec, std::span<const float> g, std::span<double> blocks) {
  const auto size = static_cast<int64_t>(g.size());
  CHECK(static_cast<int64_t>(blocks.size()) == CeilDiv(size, kNormBlock));
  exec.pool().For(static_cast<int64_t>(blocks.size()), [&](int64_t block, int) {
    blocks[static_cast<size_t>(block)] = BlockNorm(g, block);
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

// A matrix on its way: x is the momentum, then its orthogonal factor; `gram` and `square` are of
// the smaller side.
struct MuonState {
  const MuonJob* job;
  View2<float> x, product, gram, square;

  bool tall() const { return x.rows > x.cols; }
};

// A run of rows of one matrix, for tasks of like size over matrices of any sizes.
struct RowRun {
  size_t state;
  int64_t begin, end;
};

std::span<const RowRun> CutRows(Workspace& memory, std::span<const MuonState> states) {
  constexpr int64_t kTaskElements = 16384;
  const auto step = [](const MuonState& s) {
    return std::max<int64_t>(1, kTaskElements / s.x.cols);
  };
  int64_t count = 0;
  for (const MuonState& s : states) count += CeilDiv(s.x.rows, step(s));
  const std::span<RowRun> runs(memory.Take<RowRun>(count), static_cast<size_t>(count));
  size_t next = 0;
  for (size_t i = 0; i < states.size(); ++i) {
    for (int64_t r = 0; r < states[i].x.rows; r += step(states[i])) {
      runs[next++] = {i, r, std::min(states[i].x.rows, r + step(states[i]))};
    }
  }
  return runs;
}

// The momentum step into x.
void MuonMomentum(const MuonState& s, int64_t begin, int64_t end) {
  const MuonOptions& o = s.job->options;
  for (int64_t r = begin; r < end; ++r) {
    const float* g = s.job->g.row(r);
    float *b = s.job->buf.row(r), *u = s.x.row(r);
    for (int64_t i = 0; i < s.x.cols; ++i) {
      const float gi = g[i] * o.grad_scale;
      b[i] = b[i] + (1.0f - o.momentum) * (gi - b[i]);
      u[i] = o.nesterov ? gi + o.momentum * (b[i] - gi) : b[i];
    }
  }
}

// to = x * from + y * to over rows [begin, end), element by element.
void Mix(float x, View2<float> from, float y, View2<float> to, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* f = from.row(r);
    float* t = to.row(r);
    for (int64_t i = 0; i < to.cols; ++i) t[i] = x * f[i] + y * t[i];
  }
}

void Normalise(const MuonState& s) {
  const std::span<const float> all(s.x.data, static_cast<size_t>(s.x.rows * s.x.cols));
  double sum = 0;
  for (int64_t i = 0; i < CeilDiv(s.x.rows * s.x.cols, kNormBlock); ++i) sum += BlockNorm(all, i);
  Mix(0.0f, s.x, static_cast<float>(1 / (std::sqrt(sum) + 1e-7)), s.x, 0, s.x.rows);
}

// X = a X + (b A + c A A) X, or with the products on the other side where rows are more than
// columns: A is the smaller Gram matrix. All matrices at once, so that small ones fill the threads.
void NewtonSchulz(const Exec& exec, std::span<const MuonState> states,
                  std::span<const RowRun> runs) {
  const MuonOptions& o = states[0].job->options;
  const std::span<GemmJob> jobs(exec.shared().Take<GemmJob>(static_cast<int64_t>(states.size())),
                                states.size());
  for (int step = 0; step < o.steps; ++step) {
    for (size_t i = 0; i < states.size(); ++i) {
      const MuonState& s = states[i];
      jobs[i] = {{s.x, s.tall()}, {s.x, s.tall()}, s.gram};
    }
    GemmJobs(exec, jobs, {.type = o.type});
    for (size_t i = 0; i < states.size(); ++i) {
      const MuonState& s = states[i];
      jobs[i] = {{s.gram}, {s.gram}, s.square};
    }
    GemmJobs(exec, jobs, {.type = o.type});
    exec.pool().For(static_cast<int64_t>(states.size()), [&](int64_t i, int) {
      const MuonState& s = states[static_cast<size_t>(i)];
      Mix(kNewtonB, s.gram, kNewtonC, s.square, 0, s.gram.rows);
    });
    for (size_t i = 0; i < states.size(); ++i) {
      const MuonState& s = states[i];
      jobs[i] = s.tall() ? GemmJob{{s.x}, {s.square}, s.product}
                         : GemmJob{{s.square}, {s.x, true}, s.product};
    }
    GemmJobs(exec, jobs, {.type = o.type});
    exec.pool().For(static_cast<int64_t>(runs.size()), [&](int64_t i, int) {
      const RowRun& run = runs[static_cast<size_t>(i)];
      const MuonState& s = states[run.state];
      Mix(1.0f, s.product, kNewtonA, s.x, run.begin, run.end);
    });
  }
}

void UpdateWeights(const MuonState& s, int64_t begin, int64_t end) {
  const MuonOptions& o = s.job->options;
  const auto rows = static_cast<double>(s.x.rows), cols = static_cast<double>(s.x.cols);
  const double scale = o.scale == MuonOptions::Scale::kSpectral
                           ? std::sqrt(std::max(1.0, rows / cols))
                           : 0.2 * std::sqrt(std::max(rows, cols));
  Mix(static_cast<float>(-double{o.lr} * scale), s.x,
      static_cast<float>(1 - double{o.lr} * double{o.weight_decay}), s.job->w, begin, end);
}

// As many matrices as are worked on at once.
void MuonBatch(const Exec& exec, std::span<const MuonJob> jobs) {
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  const std::span<MuonState> states(memory.Take<MuonState>(static_cast<int64_t>(jobs.size())),
                                    jobs.size());
  for (size_t i = 0; i < jobs.size(); ++i) {
    const int64_t rows = jobs[i].w.rows, cols = jobs[i].w.cols, n = std::min(rows, cols);
    states[i] = {&jobs[i], memory.Matrix(rows, cols), memory.Matrix(rows, cols),
                 memory.Matrix(n, n), memory.Matrix(n, n)};
  }
  const std::span<const RowRun> runs = CutRows(memory, states);
  const auto for_runs = [&](auto work) {
    exec.pool().For(static_cast<int64_t>(runs.size()), [&](int64_t i, int) {
      const RowRun& run = runs[static_cast<size_t>(i)];
      work(states[run.state], run.begin, run.end);
    });
  };
  for_runs(MuonMomentum);
  exec.pool().For(static_cast<int64_t>(states.size()),
                  [&](int64_t i, int) { Normalise(states[static_cast<size_t>(i)]); });
  NewtonSchulz(exec, states, runs);
  for_runs(UpdateWeights);
  memory.Release(mark);
}

}  // namespace

void Muon(const Exec& exec, std::span<const MuonJob> jobs) {
  constexpr int64_t kAtOnce = int64_t{1} << 19;  // elements: what the last cache holds
  for (size_t first = 0; first < jobs.size();) {
    size_t end = first;
    for (int64_t elements = 0; end < jobs.size() && elements < kAtOnce; ++end) {
      const MuonJob& job = jobs[end];
      CHECK(job.g.rows == job.w.rows && job.g.cols == job.w.cols && job.buf.rows == job.w.rows &&
            job.buf.cols == job.w.cols && job.w.rows > 0 && job.w.cols > 0);
      CHECK(job.options.steps == jobs[0].options.steps && job.options.type == jobs[0].options.type);
      elements += job.w.rows * job.w.cols;
    }
    MuonBatch(exec, jobs.subspan(first, end - first));
    first = end;
  }
}

}  // namespace hadal
