#include "kernels/matmul.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <string>

#include "base/check.h"
#include "kernels/cpu/matmul_kernel.h"
#include "kernels/cpu/matmul_pack.h"
#include "kernels/dispatch.h"

namespace hadal {
namespace {

using internal::CeilDiv;
using internal::kMaxDirect;
using internal::kMaxRows;
using internal::kTile;
using internal::MatMulKernels;
using internal::XBlock;

// Quantised or plain x of the rows one unit multiplies; half of a 512 KiB L2.
constexpr int64_t kRowChunkBytes = 256 * 1024;
// k of a decoded tile that stays in L1 beside the rows of x that pass over it.
constexpr int64_t kBlockChunk = 24;   // blocks of 32
constexpr int64_t kFloatChunk = 256;  // elements
constexpr int64_t kHalfGroups = 4;    // groups of rows that widen a tile of halves again

// One product and the way it is cut into units of work.
struct Job {
  const PackedMatrix::Impl* w;
  View2<const float> x;
  const int32_t* ids;  // or null
  int64_t rows;
  View2<float> y;
  const float* bias;  // or null
  const XBlock* quantised = nullptr;
  int64_t row_chunk = 0;
  int64_t first_unit = 0, end_unit = 0;

  int64_t x_blocks() const { return w->cols / 32; }
  int64_t source_row(int64_t m) const { return ids ? ids[m] : m; }
  const float* x_row(int64_t m) const { return x.data + source_row(m) * x.stride; }
  const XBlock* x_quantised(int64_t m) const { return quantised + source_row(m) * x_blocks(); }
};

Job MakeJob(View2<const float> x, std::span<const int32_t> ids, const PackedMatrix& w,
            View2<float> y, std::span<const float> bias) {
  Job job = {.w = &w.impl(),
             .x = x,
             .ids = ids.empty() ? nullptr : ids.data(),
             .rows = ids.empty() ? x.rows : static_cast<int64_t>(ids.size()),
             .y = y,
             .bias = bias.empty() ? nullptr : bias.data()};
  CHECK(x.cols == w.cols() && y.cols == w.rows() && y.rows == job.rows);
  CHECK(bias.empty() || static_cast<int64_t>(bias.size()) == w.rows());
  return job;
}

bool SameSource(const Job& a, const Job& b) {
  return a.x.data == b.x.data && a.x.stride == b.x.stride && a.x.rows == b.x.rows &&
         a.x.cols == b.x.cols && a.quantised != nullptr;
}

// Quantises the rows of every source of x that a block type multiplies, each source once: sources
// are recognised when they are those of the first or the previous such job.
void QuantiseSources(const Exec& exec, const MatMulKernels& kernels, std::span<Job> jobs) {
  const Job* first = nullptr;
  const Job* previous = nullptr;
  for (Job& job : jobs) {
    if (job.rows == 0 || !internal::IsBlockType(job.w->type)) continue;
    if (first != nullptr && SameSource(*first, job)) {
      job.quantised = first->quantised;
    } else if (previous != nullptr && SameSource(*previous, job)) {
      job.quantised = previous->quantised;
    } else {
      const int64_t blocks = job.x_blocks();
      XBlock* out = exec.shared().Take<XBlock>(job.x.rows * blocks);
      const auto quantise = [&](int64_t row, int) {
        kernels.quantise(job.x.row(row), blocks, out + row * blocks);
      };
      // A region costs more than quantising the few rows of a decode step.
      if (job.x.rows <= 4) {
        for (int64_t row = 0; row < job.x.rows; ++row) quantise(row, 0);
      } else {
        exec.pool().For(job.x.rows, quantise);
      }
      job.quantised = out;
    }
    if (first == nullptr) first = &job;
    previous = &job;
  }
}

// Nanoseconds a tile takes, roughly: 16 bytes of weights or 100 products each.
int64_t TileCost(const Job& job) {
  return job.w->tile_bytes / 16 + job.rows * job.w->cols * kTile / 100 + 1;
}

// Counts the units of work (a tile times a chunk of rows) of each job; gives their number.
int64_t PlanUnits(std::span<Job> jobs) {
  int64_t units = 0;
  for (Job& job : jobs) {
    job.first_unit = units;
    if (job.rows > 0) {
      const bool block = internal::IsBlockType(job.w->type);
      const int64_t row_bytes =
          std::max<int64_t>(1, block ? job.x_blocks() * static_cast<int64_t>(sizeof(XBlock))
                                     : job.w->cols * static_cast<int64_t>(sizeof(float)));
      job.row_chunk = std::clamp<int64_t>(kRowChunkBytes / row_bytes / 24 * 24, 24, 504);
      const int64_t row_tasks = CeilDiv(job.rows, job.row_chunk);
      job.row_chunk = CeilDiv(CeilDiv(job.rows, row_tasks), 24) * 24;  // whole groups of 4, 6 or 8
      units += job.w->tiles * CeilDiv(job.rows, job.row_chunk);
    }
    job.end_unit = units;
  }
  return units;
}

// The units of one worker that nobody has begun: the next in the high half, the end in the low
// half. A worker goes through its own from the front, one long stream of weights, and then takes
// what is left of the others' from the back.
struct alignas(64) Share {
  uint64_t left;
};

struct Units {
  int64_t first, end;
};

// Fewer as the end comes near, so that all workers end together.
Units TakeUnits(Share& share, int64_t most, bool front) {
  std::atomic_ref<uint64_t> left(share.left);
  uint64_t seen = left.load(std::memory_order_relaxed);
  for (;;) {
    const auto first = static_cast<int64_t>(seen >> 32),
               end = static_cast<int64_t>(seen & 0xffffffff);
    if (first >= end) return {};
    const int64_t count = std::clamp<int64_t>((end - first) / 2, 1, most);
    const int64_t kept_first = front ? first + count : first, kept_end = front ? end : end - count;
    const uint64_t kept = static_cast<uint64_t>(kept_first) << 32 | static_cast<uint64_t>(kept_end);
    if (!left.compare_exchange_weak(seen, kept, std::memory_order_relaxed)) continue;
    return front ? Units{first, kept_first} : Units{kept_end, end};
  }
}

// A part of a product: tiles of one chunk of rows.
struct Part {
  int64_t row, rows;
  int64_t tile, tiles;
};

void WriteTile(const Job& job, int64_t row, int64_t rows, int64_t tile, const float* acc) {
  const int64_t n = tile * kTile;
  const int64_t count = std::min<int64_t>(kTile, job.w->rows - n);
  for (int64_t m = 0; m < rows; ++m) {
    float* y = job.y.row(row + m) + n;
    if (job.bias == nullptr && count == kTile) {
      std::memcpy(y, acc + m * kTile, kTile * sizeof(float));  // of a known size: no call
    } else if (job.bias == nullptr) {
      std::copy_n(acc + m * kTile, count, y);
    } else {
      for (int64_t i = 0; i < count; ++i) y[i] = acc[m * kTile + i] + job.bias[n + i];
    }
  }
}

// Where a kernel may leave the sums of whole tiles: in y, or null.
float* InPlace(const Job& job, const Part& part, int64_t tile, int64_t tiles) {
  const bool whole = (tile + tiles) * kTile <= job.w->rows && job.bias == nullptr;
  return whole ? job.y.row(part.row) + tile * kTile : nullptr;
}

void RunBlocksDirect(const MatMulKernels& kernels, const Job& job, const Part& part) {
  const internal::BlockKernels& k = kernels.block[internal::BlockIndex(job.w->type)];
  const XBlock* x[kMaxDirect];
  for (int64_t m = 0; m < part.rows; ++m) x[m] = job.x_quantised(part.row + m);
  for (int64_t t = part.tile; t < part.tile + part.tiles; ++t) {
    alignas(64) float acc[kMaxDirect * kTile];
    float* const y = part.rows == 1 ? InPlace(job, part, t, 1) : nullptr;
    k.direct[part.rows](job.w->tile(t), job.x_blocks(), x, y != nullptr ? y : acc);
    if (y == nullptr) WriteTile(job, part.row, part.rows, t, acc);
  }
}

void RunBlocksPanel(const MatMulKernels& kernels, const Job& job, const Part& part,
                    Workspace& scratch) {
  const internal::BlockFormat& format = internal::FormatOf(job.w->type);
  const internal::BlockKernels& k = kernels.block[internal::BlockIndex(job.w->type)];
  const int64_t group = format.is_signed ? kernels.signed_rows : kernels.block_rows;
  const int64_t blocks = job.x_blocks();
  const int64_t chunk =
      CeilDiv(CeilDiv(blocks, CeilDiv(blocks, kBlockChunk)), format.super) * format.super;
  scratch.Reset();
  auto* panel = scratch.Take<uint8_t>(chunk * format.panel_bytes());
  auto* acc = scratch.Take<float>(part.rows * kTile);
  for (int64_t t = part.tile; t < part.tile + part.tiles; ++t) {
    std::fill_n(acc, part.rows * kTile, 0.0f);
    const uint8_t* tile = job.w->tile(t);
    for (int64_t b = 0; b < blocks; b += chunk) {
      const int64_t count = std::min(chunk, blocks - b);
      k.decode(tile + b / format.super * format.super_bytes(), count, panel);
      for (int64_t m = 0; m < part.rows; m += group) {
        const int64_t rows = std::min(group, part.rows - m);
        const XBlock* x[kMaxRows];
        for (int64_t i = 0; i < rows; ++i) x[i] = job.x_quantised(part.row + m + i) + b;
        k.panel[rows](panel, count, x, acc + m * kTile);
      }
    }
    WriteTile(job, part.row, part.rows, t, acc);
  }
}

const internal::FloatKernels& FloatKernelsOf(const MatMulKernels& kernels, DType type) {
  return kernels.floats[static_cast<int>(type)];
}

void RunFloatsDirect(const MatMulKernels& kernels, const Job& job, const Part& part) {
  const internal::FloatKernels& k = FloatKernelsOf(kernels, job.w->type);
  const float* x[kMaxRows];
  for (int64_t m = 0; m < part.rows; ++m) x[m] = job.x_row(part.row + m);
  const int64_t end = part.tile + part.tiles;
  int64_t t = part.tile;
  for (; part.rows == 1 && t + 4 <= end; t += 4) {
    internal::FloatTile tiles[4];
    for (int i = 0; i < 4; ++i) tiles[i] = {job.w->tile(t + i), job.w->scale(t + i)};
    alignas(64) float acc[4 * kTile];
    float* const y = InPlace(job, part, t, 4);
    k.quad(tiles, job.w->cols, x[0], y != nullptr ? y : acc);
    for (int i = 0; y == nullptr && i < 4; ++i) {
      WriteTile(job, part.row, 1, t + i, acc + i * kTile);
    }
  }
  for (; t < end; ++t) {
    alignas(64) float acc[kMaxRows * kTile];
    float* const y = InPlace(job, part, t, 1);
    const internal::FloatTile tile = {job.w->tile(t), job.w->scale(t)};
    k.whole[0][part.rows](tile, job.w->cols, x, y != nullptr ? y : acc,
                          y != nullptr ? job.y.stride : kTile);
    if (y == nullptr) WriteTile(job, part.row, part.rows, t, acc);
  }
}

void RunFloatsPanel(const MatMulKernels& kernels, const Job& job, const Part& part,
                    Workspace& scratch) {
  const internal::FloatKernels& k = FloatKernelsOf(kernels, job.w->type);
  const internal::FloatKernels& f32 = FloatKernelsOf(kernels, DType::kF32);
  const int64_t group = kernels.float_rows;
  const int64_t cols = job.w->cols;
  // Halves widen beside the products for nothing; only many groups of rows are worth a panel.
  const bool half = job.w->type == DType::kF16 || job.w->type == DType::kBF16;
  const bool direct = job.w->type == DType::kF32 || (half && part.rows <= kHalfGroups * group);
  const internal::FloatKernels& multiply = direct ? k : f32;
  const int64_t step = kTile * Info(job.w->type).bytes;  // of one k
  scratch.Reset();
  auto* panel = scratch.Take<float>(kFloatChunk * kTile);
  auto* acc = scratch.Take<float>(part.rows * kTile);
  for (int64_t t = part.tile; t < part.tile + part.tiles; ++t) {
    std::fill_n(acc, part.rows * kTile, 0.0f);
    const internal::FloatTile tile = {job.w->tile(t), job.w->scale(t)};
    for (int64_t c = 0; c < cols; c += kFloatChunk) {
      const int64_t count = std::min(kFloatChunk, cols - c);
      internal::FloatTile source = {reinterpret_cast<const uint8_t*>(panel), nullptr};
      if (direct) {
        source.data = tile.data + c * step;
      } else {
        k.widen(tile, c, count, panel);
      }
      for (int64_t m = 0; m < part.rows; m += group) {
        const int64_t rows = std::min(group, part.rows - m);
        const float* x[kMaxRows];
        for (int64_t i = 0; i < rows; ++i) x[i] = job.x_row(part.row + m + i) + c;
        multiply.direct[rows](source, count, x, acc + m * kTile);
      }
    }
    WriteTile(job, part.row, part.rows, t, acc);
  }
}

void RunPart(const MatMulKernels& kernels, const Job& job, const Part& part, Workspace& scratch) {
  if (internal::IsBlockType(job.w->type)) {
    if (part.rows <= kernels.direct_rows) return RunBlocksDirect(kernels, job, part);
    return RunBlocksPanel(kernels, job, part, scratch);
  }
  if (part.rows <= kernels.float_rows) return RunFloatsDirect(kernels, job, part);
  return RunFloatsPanel(kernels, job, part, scratch);
}

void RunUnits(const MatMulKernels& kernels, std::span<Job> jobs, Units units, Workspace& scratch) {
  const Job* job = std::upper_bound(jobs.data(), jobs.data() + jobs.size(), units.first,
                                    [](int64_t u, const Job& j) { return u < j.end_unit; });
  while (units.first < units.end) {
    if (units.first == job->end_unit) {
      ++job;
      continue;
    }
    const int64_t unit = units.first - job->first_unit, tiles = job->w->tiles;
    const int64_t row = unit / tiles * job->row_chunk, tile = unit % tiles;
    const int64_t count = std::min(std::min(units.end, job->end_unit) - units.first, tiles - tile);
    RunPart(kernels, *job,
            {.row = row,
             .rows = std::min(job->row_chunk, job->rows - row),
             .tile = tile,
             .tiles = count},
            scratch);
    units.first += count;
  }
}

void RunJobs(const Exec& exec, const MatMulKernels& kernels, std::span<Job> jobs) {
  QuantiseSources(exec, kernels, jobs);
  const int64_t units = PlanUnits(jobs);
  CHECK(units <= int64_t{0xffffffff});
  int64_t cost = 0;
  for (const Job& job : jobs) cost += job.rows == 0 ? 0 : TileCost(job) * job.w->tiles;
  // A worker that gets less than half a microsecond costs more than it gains.
  const int64_t workers = std::clamp<int64_t>(cost / 500, 1, exec.threads());
  if (workers == 1) return RunUnits(kernels, jobs, {0, units}, exec.scratch(0));
  Share* shares = exec.shared().Take<Share>(workers);
  for (int64_t i = 0; i < workers; ++i) {
    const int64_t first = units * i / workers, end = units * (i + 1) / workers;
    shares[i].left = static_cast<uint64_t>(first) << 32 | static_cast<uint64_t>(end);
  }
  // Runs of tiles are worth more than one by one: two microseconds, and the four of `quad`.
  const int64_t most = std::max<int64_t>(4, 2000 * units / cost);
  exec.pool().For(workers, [&](int64_t own, int worker) {
    for (int64_t i = 0; i < workers; ++i) {
      Share& share = shares[(own + i) % workers];
      for (;;) {
        const Units taken = TakeUnits(share, most, i == 0);
        if (taken.first == taken.end) break;
        RunUnits(kernels, jobs, taken, exec.scratch(worker));
      }
    }
  });
}

std::string BadWeights(DType type, int64_t row) {
  return "row " + std::to_string(row) + " of " + std::string(Info(type).name) +
         " weights holds NaN or Inf; the file may be damaged";
}

}  // namespace

PackedMatrix::PackedMatrix() : impl_(std::make_unique<Impl>()) {}
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;
PackedMatrix::~PackedMatrix() = default;

Result<PackedMatrix> PackedMatrix::Pack(const Exec& exec, DType type, const void* data,
                                        int64_t rows, int64_t cols, const float* fp8_scale,
                                        Arena* arena) {
  const std::string name(Info(type).name);
  if (!internal::IsBlockType(type) && !internal::IsFloatType(type)) {
    return Error{Code::kUnsupported, name + " is no type of weights to multiply with"};
  }
  if (rows < 0 || cols < 0 || cols % Info(type).block != 0) {
    return Error{Code::kInvalid, name + " weights of " + std::to_string(rows) + " x " +
                                     std::to_string(cols) + ": columns must be a multiple of " +
                                     std::to_string(Info(type).block)};
  }
  if (type == DType::kF8E4M3 && fp8_scale == nullptr) {
    return Error{Code::kInvalid, "F8_E4M3 weights need their block scales (weight_scale_inv)"};
  }
  PackedMatrix matrix;
  Impl& impl = *matrix.impl_;
  impl.type = type;
  impl.rows = rows;
  impl.cols = cols;
  impl.tiles = CeilDiv(rows, kTile);
  impl.tile_bytes = internal::TileBytes(type, cols);
  if (type == DType::kF8E4M3) {
    impl.scale_cols = CeilDiv(cols, internal::kFp8Run);
    const int64_t count = CeilDiv(rows, internal::kFp8Run) * impl.scale_cols;
    impl.scale_data = Buffer(static_cast<size_t>(count) * sizeof(float));
    std::copy_n(fp8_scale, count, impl.scale_data.as<float>());
  }
  const auto bytes = static_cast<size_t>(impl.tiles * impl.tile_bytes);
  if (arena == nullptr) impl.own = Buffer(bytes);
  impl.tile_data = arena == nullptr ? impl.own.data() : arena->Take(bytes);
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> bad_row{kNone};
  exec.pool().For(impl.tiles, [&](int64_t t, int) {
    const int64_t row = t * kTile;
    const int count = static_cast<int>(std::min<int64_t>(kTile, rows - row));
    const int64_t bad =
        internal::PackTile(impl, static_cast<const uint8_t*>(data), row, count,
                           reinterpret_cast<uint8_t*>(impl.tile_data) + t * impl.tile_bytes);
    if (bad < 0) return;
    int64_t seen = bad_row.load();
    while (bad < seen && !bad_row.compare_exchange_weak(seen, bad)) {
    }
  });
  if (bad_row.load() != kNone) return Error{Code::kNumeric, BadWeights(type, bad_row.load())};
  return matrix;
}

int64_t PackedMatrix::PackedBytes(DType type, int64_t rows, int64_t cols) {
  int64_t bytes = CeilDiv(rows, kTile) * internal::TileBytes(type, cols);
  if (type == DType::kF8E4M3) {
    bytes += CeilDiv(rows, internal::kFp8Run) * CeilDiv(cols, internal::kFp8Run) *
             static_cast<int64_t>(sizeof(float));
  }
  return bytes;
}

int64_t PackedMatrix::rows() const { return impl_->rows; }
int64_t PackedMatrix::cols() const { return impl_->cols; }
DType PackedMatrix::type() const { return impl_->type; }
int64_t PackedMatrix::bytes() const {
  return impl_->tiles * impl_->tile_bytes + static_cast<int64_t>(impl_->scale_data.bytes());
}

void PackedMatrix::Row(int64_t r, float* out) const {
  CHECK(r >= 0 && r < impl_->rows);
  internal::UnpackRow(*impl_, r, out);
}

void MatMul(const Exec& exec, View2<const float> x, const PackedMatrix& w, View2<float> y,
            std::span<const float> bias) {
  internal::MatMulWith(internal::Products(exec.isa()), exec, x, w, y, bias);
}

void internal::MatMulWith(const MatMulKernels& kernels, const Exec& exec, View2<const float> x,
                          const PackedMatrix& w, View2<float> y, std::span<const float> bias) {
  const Workspace::Position mark = exec.shared().Mark();
  Job job = MakeJob(x, {}, w, y, bias);
  RunJobs(exec, kernels, {&job, 1});
  exec.shared().Release(mark);
}

void MatMulGroup(const Exec& exec, View2<const float> x, std::span<const MatMulPart> parts) {
  const Workspace::Position mark = exec.shared().Mark();
  Job* jobs = exec.shared().Take<Job>(static_cast<int64_t>(parts.size()));
  for (size_t i = 0; i < parts.size(); ++i) {
    jobs[i] = MakeJob(x, {}, *parts[i].w, parts[i].y, parts[i].bias);
  }
  RunJobs(exec, internal::Products(exec.isa()), {jobs, parts.size()});
  exec.shared().Release(mark);
}

void MatMulJobs(const Exec& exec, std::span<const MatMulJob> jobs_in) {
  const Workspace::Position mark = exec.shared().Mark();
  Job* jobs = exec.shared().Take<Job>(static_cast<int64_t>(jobs_in.size()));
  for (size_t i = 0; i < jobs_in.size(); ++i) {
    const MatMulJob& in = jobs_in[i];
    jobs[i] = MakeJob(in.x, in.row_ids, *in.w, in.y, {});
  }
  RunJobs(exec, internal::Products(exec.isa()), {jobs, jobs_in.size()});
  exec.shared().Release(mark);
}

}  // namespace hadal
