#include "kernels/ops.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/dispatch.h"

namespace hadal {
namespace {

// Calls body(row, worker) for every row, several rows a task.
template <typename Body>
void ForRows(const Exec& exec, int64_t rows, int64_t cols, const Body& body) {
  internal::ForRowRuns(exec, rows, cols, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t t = begin; t < end; ++t) body(t, worker);
  });
}

}  // namespace

void RmsNorm(const Exec& exec, View2<const float> x, std::span<const float> w, float eps,
             View2<float> y) {
  CHECK(y.rows == x.rows && y.cols == x.cols && static_cast<int64_t>(w.size()) == x.cols);
  const auto run = internal::Ops(exec.isa()).rms_norm;
  ForRows(exec, x.rows, x.cols,
          [&](int64_t t, int) { run(x.row(t), w.data(), eps, x.cols, y.row(t)); });
}

void AddRmsNorm(const Exec& exec, View2<float> x, View2<const float> y, std::span<const float> w,
                float eps, View2<float> out) {
  CHECK(y.rows == x.rows && y.cols == x.cols && static_cast<int64_t>(w.size()) == x.cols);
  CHECK(out.rows == x.rows && out.cols == x.cols);
  const auto run = internal::Ops(exec.isa()).add_rms_norm;
  ForRows(exec, x.rows, x.cols,
          [&](int64_t t, int) { run(x.row(t), y.row(t), w.data(), eps, x.cols, out.row(t)); });
}

void Add(const Exec& exec, View2<float> x, View2<const float> y) {
  CHECK(y.rows == x.rows && y.cols == x.cols);
  const auto run = internal::Ops(exec.isa()).add;
  ForRows(exec, x.rows, x.cols, [&](int64_t t, int) { run(x.row(t), y.row(t), x.cols); });
}

void Rope(const Exec& exec, View2<float> x, std::span<const int32_t> positions,
          View2<const float> cos_sin, const RopeShape& s) {
  CHECK(static_cast<int64_t>(positions.size()) == x.rows);
  CHECK(s.dim % 2 == 0 && cos_sin.cols == s.dim);
  CHECK(s.heads == 0 || s.offset + (s.heads - 1) * s.head_stride + s.dim <= x.cols);
  const internal::OpsTable& table = internal::Ops(exec.isa());
  const int64_t half = s.dim / 2;
  ForRows(exec, x.rows, s.heads * s.dim, [&](int64_t t, int worker) {
    const float* cos = cos_sin.row(positions[static_cast<size_t>(t)]);
    const float* sin = cos + half;
    auto run = table.rope_half;
    if (s.interleaved) {
      Workspace& memory = exec.scratch(worker);
      memory.Reset();
      float *cos2 = memory.Take<float>(s.dim), *sin2 = memory.Take<float>(s.dim);
      for (int64_t i = 0; i < half; ++i) {
        cos2[2 * i] = cos2[2 * i + 1] = cos[i];
        sin2[2 * i] = -sin[i];
        sin2[2 * i + 1] = sin[i];
      }
      cos = cos2;
      sin = sin2;
      run = table.rope_pairs;
    }
    float* head = x.row(t) + s.offset;
    for (int64_t h = 0; h < s.heads; ++h) run(head + h * s.head_stride, cos, sin, s.dim);
  });
}

void SwiGlu(const Exec& exec, View2<const float> gate, View2<const float> up, View2<float> y) {
  CHECK(up.rows == gate.rows && up.cols == gate.cols);
  CHECK(y.rows == gate.rows && y.cols == gate.cols);
  const auto run = internal::Ops(exec.isa()).swiglu;
  ForRows(exec, gate.rows, gate.cols,
          [&](int64_t t, int) { run(gate.row(t), up.row(t), gate.cols, y.row(t)); });
}

void RowsFinite(const Exec& exec, View2<const float> x, std::span<uint8_t> ok) {
  CHECK(static_cast<int64_t>(ok.size()) == x.rows);
  const auto run = internal::Ops(exec.isa()).finite;
  ForRows(exec, x.rows, x.cols, [&](int64_t t, int) {
    ok[static_cast<size_t>(t)] = static_cast<uint8_t>(run(x.row(t), x.cols));
  });
}

}  // namespace hadal
