#include "kernels/backward.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/dispatch.h"
#include "tensor/buffer.h"
#include "tensor/half.h"

namespace hadal {
namespace {

using internal::CeilDiv;
using internal::ForRowRuns;

constexpr int64_t kSumRows = 64;      // rows of a block of a sum over the batch
constexpr int64_t kSumColumns = 512;  // columns of a task that adds blocks up

// to[d] += the sum of the blocks' rows in order.
void AddBlocks(const Exec& exec, View2<const float> blocks, std::span<float> to) {
  const auto add = internal::Train(exec.isa()).add;
  const auto run = [&](int64_t task, int worker) {
    const int64_t first = task * kSumColumns;
    const int64_t n = std::min(kSumColumns, blocks.cols - first);
    Workspace& memory = exec.scratch(worker);
    memory.Reset();
    float* sum = memory.Take<float>(n);
    std::fill_n(sum, n, 0.0f);
    for (int64_t b = 0; b < blocks.rows; ++b) add(blocks.row(b) + first, n, sum);
    add(sum, n, to.data() + first);
  };
  exec.pool().For(CeilDiv(blocks.cols, kSumColumns), run);
}

// Sums over the rows of a batch: body(row, sum) adds its share of a row to sum[cols].
template <typename Body>
void SumRows(const Exec& exec, int64_t rows, std::span<float> to, const Body& body) {
  if (rows == 0) return;
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  const View2<float> blocks =
      memory.Matrix(CeilDiv(rows, kSumRows), static_cast<int64_t>(to.size()));
  exec.pool().For(blocks.rows, [&](int64_t block, int) {
    float* sum = blocks.row(block);
    std::fill_n(sum, blocks.cols, 0.0f);
    const int64_t end = std::min(rows, (block + 1) * kSumRows);
    for (int64_t t = block * kSumRows; t < end; ++t) body(t, sum);
  });
  AddBlocks(exec, blocks, to);
  memory.Release(mark);
}

}  // namespace

void RmsNormBackward(const Exec& exec, View2<const float> dy, View2<const float> x,
                     std::span<const float> w, float eps, View2<float> dx, std::span<float> dw) {
  CHECK(dy.rows == x.rows && dy.cols == x.cols && dx.rows == x.rows && dx.cols == x.cols);
  CHECK(static_cast<int64_t>(w.size()) == x.cols && dw.size() == w.size());
  const auto run = internal::Train(exec.isa()).rms_norm_grad;
  SumRows(exec, x.rows, dw, [&](int64_t t, float* sum) {
    run(dy.row(t), x.row(t), w.data(), eps, x.cols, dx.row(t), sum);
  });
}

void RopeBackward(const Exec& exec, View2<float> dx, std::span<const int32_t> positions,
                  View2<const float> cos_sin, const RopeShape& s) {
  CHECK(static_cast<int64_t>(positions.size()) == dx.rows);
  CHECK(s.dim % 2 == 0 && cos_sin.cols == s.dim);
  CHECK(s.heads == 0 || s.offset + (s.heads - 1) * s.head_stride + s.dim <= dx.cols);
  const internal::OpsTable& table = internal::Ops(exec.isa());
  const int64_t half = s.dim / 2;
  ForRowRuns(exec, dx.rows, s.heads * s.dim, [&](int64_t begin, int64_t end, int worker) {
    Workspace& memory = exec.scratch(worker);
    memory.Reset();
    float *cos = memory.Take<float>(s.dim), *sin = memory.Take<float>(s.dim);
    for (int64_t t = begin; t < end; ++t) {
      const float* angle = cos_sin.row(positions[static_cast<size_t>(t)]);
      for (int64_t i = 0; i < half; ++i) {
        const float c = angle[i], minus = -angle[half + i];
        if (s.interleaved) {
          cos[2 * i] = cos[2 * i + 1] = c;
          sin[2 * i] = -minus;
          sin[2 * i + 1] = minus;
        } else {
          cos[i] = c;
          sin[i] = minus;
        }
      }
      float* head = dx.row(t) + s.offset;
      const auto run = s.interleaved ? table.rope_pairs : table.rope_half;
      for (int64_t h = 0; h < s.heads; ++h) run(head + h * s.head_stride, cos, sin, s.dim);
    }
  });
}

void SwiGluBackward(const Exec& exec, View2<const float> dy, View2<const float> gate,
                    View2<const float> up, View2<float> dgate, View2<float> dup) {
  CHECK(up.rows == gate.rows && up.cols == gate.cols);
  CHECK(dy.rows == gate.rows && dy.cols == gate.cols);
  CHECK(dgate.rows == gate.rows && dgate.cols == gate.cols);
  CHECK(dup.rows == gate.rows && dup.cols == gate.cols);
  const auto run = internal::Train(exec.isa()).swiglu_grad;
  ForRowRuns(exec, gate.rows, gate.cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      run(dy.row(t), gate.row(t), up.row(t), gate.cols, dgate.row(t), dup.row(t));
    }
  });
}

void EmbedBackward(const Exec& exec, View2<const float> dy, std::span<const int32_t> ids,
                   View2<float> dtable) {
  CHECK(static_cast<int64_t>(ids.size()) == dy.rows && dtable.cols == dy.cols);
  for (const int32_t id : ids) CHECK(id >= 0 && id < dtable.rows);
  const auto add = internal::Train(exec.isa()).add;
  // Columns are cut, not rows: however often a token occurs, all workers have the same to do.
  const int64_t step = CeilDiv(CeilDiv(dy.cols, 4 * exec.threads()), 64) * 64;
  exec.pool().For(step == 0 ? 0 : CeilDiv(dy.cols, step), [&](int64_t task, int) {
    const int64_t first = task * step, n = std::min(step, dy.cols - first);
    for (int64_t t = 0; t < dy.rows; ++t) {
      add(dy.row(t) + first, n, dtable.row(ids[static_cast<size_t>(t)]) + first);
    }
  });
}

void ColumnSum(const Exec& exec, View2<const float> dy, std::span<float> db) {
  CHECK(static_cast<int64_t>(db.size()) == dy.cols);
  const auto add = internal::Train(exec.isa()).add;
  SumRows(exec, dy.rows, db, [&](int64_t t, float* sum) { add(dy.row(t), dy.cols, sum); });
}

void AddInto(const Exec& exec, View2<const float> from, View2<float> to) {
  CHECK(from.rows == to.rows && from.cols == to.cols);
  const auto add = internal::Train(exec.isa()).add;
  ForRowRuns(exec, to.rows, to.cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) add(from.row(t), to.cols, to.row(t));
  });
}

void RoundBf16(const Exec& exec, View2<float> x) {
  ForRowRuns(exec, x.rows, x.cols, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      for (float& v : x[t]) v = BF16ToF32(F32ToBF16(v));
    }
  });
}

}  // namespace hadal
