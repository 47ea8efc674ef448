#include "kernels/gemm.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "kernels/dispatch.h"
#include "kernels/fp8.h"
#include "tensor/half.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace hadal {
namespace {

using internal::CeilDiv;
using internal::FloatKernels;
using internal::kMaxRows;
using internal::kTile;
using internal::PairKernels;

constexpr int64_t kDepth = 256;          // k of one pass: a tile of b fills half of a 32 KiB L1
constexpr int64_t kRowChunk = 192;       // rows of a beside it: 192 KiB of L2
constexpr int64_t kTileChunk = 24;       // tiles of b that such rows are used for
constexpr int64_t kPackTiles = 4;        // tiles packed together: 64 columns
constexpr int64_t kPackDepth = 512;      // k of a packing task
constexpr int64_t kMaxPacked = 1 << 22;  // floats of b packed at a time
constexpr int64_t kAhead = 8;            // rows asked for ahead of those that are copied
constexpr int64_t kLeastTask =
    1 << 17;  // multiply-adds under which a task costs more than it gains

// A product over some of its columns, b packed as tiles of 16 columns: [tile][width][16].
struct Piece {
  const GemmArg* a;
  const GemmArg* b;
  View2<float> c;  // these columns
  int64_t col, cols, depth;
  int64_t width;  // of a packed row, in floats
  float* packed = nullptr;
  float* scales = nullptr;        // kF8: [tile][runs of k][16]
  const float* blocks = nullptr;  // kF8 weights: [ceil(N / 128)][runs of k], of all columns
  bool shares = false;            // b is that of the piece before, packed already
  bool mirrored = false;          // what lies above the diagonal is copied from below
  int64_t row_chunk = 0, tile_chunk = 0, tile_tasks = 0;
  int64_t end_pack = 0, end_task = 0;

  int64_t tiles() const { return CeilDiv(cols, kTile); }
  int64_t runs() const { return CeilDiv(depth, kFp8Group); }
  int64_t pack_tasks() const {
    return shares ? 0 : CeilDiv(tiles(), kPackTiles) * CeilDiv(depth, kPackDepth);
  }
};

const float* SourceRow(const GemmArg& arg, int64_t r) {
  return arg.m.row(arg.ids.empty() ? r : arg.ids[static_cast<size_t>(r)]);
}

bool SameOperand(const GemmArg& x, const GemmArg& y) {
  return x.m.data == y.m.data && x.m.rows == y.m.rows && x.m.cols == y.m.cols &&
         x.m.stride == y.m.stride && x.transposed == y.transposed && x.ids.data() == y.ids.data() &&
         x.ids.size() == y.ids.size();
}

void RoundToBf16(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[i]);
    const uint32_t kept = (bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits;
    x[i] = BF16ToF32(F32ToBF16(std::bit_cast<float>(kept)));
  }
}

// Lines of `width` floats exchanged in pairs, for chains that want the odd k before the even one.
// An odd count gets a last line of zeros first.
void SwapPairs(float* x, int64_t count, int64_t width) {
  if (count % 2 != 0) std::fill_n(x + count * width, width, 0.0f);
  for (int64_t i = 0; i < count; i += 2, x += 2 * width) std::swap_ranges(x, x + width, x + width);
}

// While it lives, denormals that this thread reads or makes are zeros.
class FlushDenormals {
 public:
  explicit FlushDenormals(bool flush) {
#if defined(__x86_64__)
    if (flush) _mm_setcsr(before_ | 0x8040);  // FTZ and DAZ
#else
    static_cast<void>(flush);
#endif
  }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
  ~FlushDenormals() {
#if defined(__x86_64__)
    _mm_setcsr(before_);
#endif
  }

 private:
#if defined(__x86_64__)
  unsigned before_ = _mm_getcsr();
#endif
};

// Bits that order as magnitudes do, NaN last; signed, which SSE2 can compare.
int32_t Magnitude(float x) { return std::bit_cast<int32_t>(x) & 0x7fffffff; }

// Elements become e4m3 values; a group whose scale is NaN becomes zeros, the scale says the rest.
void QuantiseGroup(float* x, int64_t n, float scale) {
  if (scale != scale) {
    std::fill_n(x, n, 0.0f);
  } else {
    for (int64_t i = 0; i < n; ++i) x[i] = RoundE4M3(x[i] / scale);
  }
}

float QuantiseRow(float* x, int64_t n) {
  int32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, Magnitude(x[i]));
  const float scale = Fp8Scale(static_cast<uint32_t>(largest));
  QuantiseGroup(x, n, scale);
  return scale;
}

// A tile [n][16]: every column is a group, or `fixed` is the scale of all.
void QuantiseTile(float* x, int64_t n, const float* fixed, float* scale) {
  int32_t largest[kTile] = {};
  if (fixed == nullptr) {
    for (int64_t k = 0; k < n; ++k) {
      for (int i = 0; i < kTile; ++i) {
        largest[i] = std::max(largest[i], Magnitude(x[k * kTile + i]));
      }
    }
  }
  float divisor[kTile];
  bool zero[kTile];
  for (int i = 0; i < kTile; ++i) {
    scale[i] = fixed == nullptr ? Fp8Scale(static_cast<uint32_t>(largest[i])) : *fixed;
    zero[i] = scale[i] != scale[i];
    divisor[i] = zero[i] ? 1.0f : scale[i];
  }
  for (int64_t k = 0; k < n; ++k) {
    for (int i = 0; i < kTile; ++i) {
      const float v = RoundE4M3(x[k * kTile + i] / divisor[i]);
      x[k * kTile + i] = zero[i] ? 0.0f : v;
    }
  }
}

class Product {
 public:
  Product(const Exec& exec, const GemmOptions& options)
      : exec_(exec),
        options_(options),
        train_(internal::Train(exec.isa())),
        pairs_(options.type == ComputeType::kBF16 ? internal::PairProducts(exec.isa()) : nullptr),
        kernels_(pairs_ != nullptr ? pairs_->products : internal::F32Products(exec.isa())),
        group_(internal::Products(exec.isa()).float_rows) {}

  void Run(std::span<const GemmJob> jobs) {
    Workspace& memory = exec_.shared();
    const Workspace::Position mark = memory.Mark();
    int64_t most = 0;
    for (const GemmJob& job : jobs) most += CeilDiv(job.c.cols, ColumnsAtOnce(job.b.depth()));
    Piece* pieces = memory.Take<Piece>(most);
    int64_t count = 0;
    for (const GemmJob& job : jobs) AddPieces(job, pieces, &count);
    for (int64_t begin = 0; begin < count;) {
      int64_t end = begin, floats = 0;
      while (end < count && (end == begin || pieces[end].shares ||
                             floats + PackedFloats(pieces[end]) <= kMaxPacked)) {
        floats += PackedFloats(pieces[end++]);
      }
      const Workspace::Position before = memory.Mark();
      RunBatch({pieces + begin, static_cast<size_t>(end - begin)});
      memory.Release(before);
      begin = end;
    }
    memory.Release(mark);
    Mirror(jobs);
  }

 private:
  static int64_t PackedFloats(const Piece& p) { return p.shares ? 0 : p.tiles() * kTile * p.width; }
  static int64_t ColumnsAtOnce(int64_t depth) {
    return std::max<int64_t>(kFp8Group,
                             kMaxPacked / std::max<int64_t>(1, depth) / kFp8Group * kFp8Group);
  }
  bool f8() const { return options_.type == ComputeType::kF8; }
  bool bf16() const { return options_.type == ComputeType::kBF16; }
  // Floats that n elements along k take when packed: a pair of bf16 is one, or is two of which the
  // odd one comes first.
  int64_t Packed(int64_t n) const {
    if (!bf16()) return n;
    return pairs_ != nullptr ? CeilDiv(n, 2) : CeilDiv(n, 2) * 2;
  }

  // A matrix with itself: element (j, i) is the very chain of (i, j).
  bool Mirrored(const GemmJob& job) const {
    return !options_.accumulate && !options_.b_is_weight && SameOperand(job.a, job.b);
  }

  void Mirror(std::span<const GemmJob> jobs) {
    int64_t tasks = 0;  // a task is a row of 16 x 16 blocks
    for (const GemmJob& job : jobs) tasks += Mirrored(job) ? CeilDiv(job.c.rows, kTile) : 0;
    exec_.pool().For(tasks, [&](int64_t task, int) {
      const GemmJob* job = jobs.data();
      for (;; ++job) {
        const int64_t n = Mirrored(*job) ? CeilDiv(job->c.rows, kTile) : 0;
        if (task < n) break;
        task -= n;
      }
      const View2<float> c = job->c;
      const int64_t row = task * kTile, count = std::min<int64_t>(kTile, c.rows - row);
      float block[kTile * kTile];
      for (int64_t col = row; col < c.cols; col += kTile) {
        const int64_t n = std::min<int64_t>(kTile, c.cols - col);
        const float* from[kTile];
        for (int64_t i = 0; i < n; ++i) from[i] = c.row(col + i) + row;
        train_.transpose(from, n, count, block, kTile);
        for (int64_t i = 0; i < count; ++i) {
          const int64_t first = std::max<int64_t>(0, row + i + 1 - col);
          std::copy(block + i * kTile + first, block + i * kTile + n, c.row(row + i) + col + first);
        }
      }
    });
  }

  void AddPieces(const GemmJob& job, Piece* pieces, int64_t* count) {
    const int64_t depth = job.a.depth(), rows = job.a.rows(), cols = job.b.rows();
    CHECK(job.b.depth() == depth && job.c.rows == rows && job.c.cols == cols);
    CHECK(!options_.b_is_weight || job.b.ids.empty());
    if (rows == 0 || cols == 0) return;
    const float* blocks = f8() && options_.b_is_weight ? WeightScales(job.b) : nullptr;
    const int64_t step = ColumnsAtOnce(depth);
    const bool shares = *count > 0 && cols <= step && pieces[*count - 1].cols == cols &&
                        SameOperand(*pieces[*count - 1].b, job.b);
    for (int64_t col = 0; col < cols; col += step) {
      const int64_t n = std::min(step, cols - col);
      pieces[(*count)++] = {.a = &job.a,
                            .b = &job.b,
                            .c = job.c.Cols(col, n),
                            .col = col,
                            .cols = n,
                            .depth = depth,
                            .width = Packed(depth),
                            .blocks = blocks,
                            .shares = shares,
                            .mirrored = Mirrored(job)};
    }
  }

  // The scale of every 128 x 128 block, transposed as b is: [runs of columns][runs of k].
  const float* WeightScales(const GemmArg& b) {
    const int64_t cols = CeilDiv(b.rows(), kFp8Group), runs = CeilDiv(b.depth(), kFp8Group);
    float* scales = exec_.shared().Take<float>(cols * runs);
    exec_.pool().For(cols * runs, [&](int64_t block, int) {
      int64_t row = block / runs, col = block % runs;
      if (b.transposed) std::swap(row, col);
      const int64_t end_row = std::min(b.m.rows, (row + 1) * kFp8Group);
      const int64_t first = col * kFp8Group, end = std::min(b.m.cols, first + kFp8Group);
      int32_t largest = 0;
      for (int64_t r = row * kFp8Group; r < end_row; ++r) {
        const float* x = b.m.row(r);
        for (int64_t i = first; i < end; ++i) largest = std::max(largest, Magnitude(x[i]));
      }
      scales[block] = Fp8Scale(static_cast<uint32_t>(largest));
    });
    return scales;
  }

  void RunBatch(std::span<Piece> pieces) {
    Workspace& memory = exec_.shared();
    int64_t packs = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      Piece& p = pieces[i];
      if (p.shares) {
        p.packed = pieces[i - 1].packed;
        p.scales = pieces[i - 1].scales;
      } else {
        p.packed = memory.Take<float>(PackedFloats(p));
        if (f8()) p.scales = memory.Take<float>(p.tiles() * p.runs() * kTile);
      }
      p.end_pack = packs += p.pack_tasks();
    }
    exec_.pool().For(packs, [&](int64_t task, int) {
      const auto p = std::upper_bound(pieces.begin(), pieces.end(), task,
                                      [](int64_t t, const Piece& x) { return t < x.end_pack; });
      PackTask(*p, task - (p->end_pack - p->pack_tasks()));
    });
    const int64_t tasks = PlanTasks(pieces);
    exec_.pool().For(tasks, [&](int64_t task, int worker) {
      const auto p = std::upper_bound(pieces.begin(), pieces.end(), task,
                                      [](int64_t t, const Piece& x) { return t < x.end_task; });
      const int64_t in_piece = task - (p->end_task - Tasks(*p));
      RunTask(*p, in_piece / p->tile_tasks * p->row_chunk, in_piece % p->tile_tasks * p->tile_chunk,
              exec_.scratch(worker));
    });
  }

  // --- b ---

  void PackTask(const Piece& p, int64_t task) {
    const int64_t groups = CeilDiv(p.tiles(), kPackTiles);
    const int64_t tile = task % groups * kPackTiles, k = task / groups * kPackDepth;
    const int64_t tiles = std::min(kPackTiles, p.tiles() - tile);
    const int64_t depth = std::min(kPackDepth, p.depth - k);
    if (pairs_ != nullptr) return PackPairs(p, tile, tiles, k, depth);
    if (p.b->transposed) {
      CopyColumns(p, tile, tiles, k, depth);
    } else {
      for (int64_t t = tile; t < tile + tiles; ++t) TransposeTile(p, t, k, depth);
    }
    for (int64_t t = tile; t < tile + tiles; ++t) {
      float* x = PackedTile(p, t, k);
      if (bf16()) {
        RoundToBf16(x, depth * kTile);
        SwapPairs(x, depth, kTile);
      }
      for (int64_t r = 0; f8() && r < depth; r += kFp8Group) {
        const int64_t run = (k + r) / kFp8Group;
        const float* fixed = p.blocks == nullptr
                                 ? nullptr
                                 : p.blocks + (p.col + t * kTile) / kFp8Group * p.runs() + run;
        QuantiseTile(x + r * kTile, std::min(kFp8Group, depth - r), fixed,
                     p.scales + (t * p.runs() + run) * kTile);
      }
    }
  }

  float* PackedTile(const Piece& p, int64_t tile, int64_t k) const {
    return p.packed + (tile * p.width + Packed(k)) * kTile;
  }

  void PackPairs(const Piece& p, int64_t tile, int64_t tiles, int64_t k, int64_t depth) {
    float* to = PackedTile(p, tile, k);
    if (!p.b->transposed) {
      for (int64_t t = tile; t < tile + tiles; ++t, to += p.width * kTile) {
        const float* rows[kTile];
        const int64_t count = TileRows(p, t, k, rows);
        pairs_->transpose(rows, count, depth, to);
      }
      return;
    }
    const int64_t first = p.col + tile * kTile;
    const int64_t cols = std::min(tiles * kTile, p.cols - tile * kTile);
    for (int64_t i = k; i < k + depth; i += 2, to += kTile) {
      for (int64_t next = i + kAhead; next < std::min(i + kAhead + 2, k + depth); ++next) {
        const float* row = SourceRow(*p.b, next) + first;
        for (int64_t c = 0; c < cols; c += kTile) __builtin_prefetch(row + c);
      }
      const float* odd = i + 1 < k + depth ? SourceRow(*p.b, i + 1) + first : nullptr;
      pairs_->zip(SourceRow(*p.b, i) + first, odd, cols, to, p.width * kTile);
    }
  }

  // Where the rows of a tile of a plain b lie; how many there are.
  static int64_t TileRows(const Piece& p, int64_t tile, int64_t k, const float* (&rows)[kTile]) {
    const int64_t count = std::min<int64_t>(kTile, p.cols - tile * kTile);
    for (int64_t i = 0; i < count; ++i) rows[i] = SourceRow(*p.b, p.col + tile * kTile + i) + k;
    return count;
  }

  void TransposeTile(const Piece& p, int64_t tile, int64_t k, int64_t depth) {
    const float* rows[kTile];
    const int64_t count = TileRows(p, tile, k, rows);
    train_.transpose(rows, count, depth, PackedTile(p, tile, k), kTile);
  }

  void CopyColumns(const Piece& p, int64_t tile, int64_t tiles, int64_t k, int64_t depth) {
    for (int64_t i = k; i < k + depth; ++i) {
      const float* from = SourceRow(*p.b, i) + p.col + tile * kTile;
      const float* next = SourceRow(*p.b, std::min(i + kAhead, k + depth - 1)) + p.col;
      for (int64_t t = tile; t < tile + tiles; ++t) __builtin_prefetch(next + t * kTile);
      int64_t rest = p.cols - tile * kTile;
      for (int64_t t = tile; t < tile + tiles; ++t, from += kTile, rest -= kTile) {
        float* to = PackedTile(p, t, k) + (i - k) * kTile;
        if (rest >= kTile) {
          std::memcpy(to, from, kTile * sizeof(float));
        } else {
          std::copy_n(from, rest, to);
          std::fill(to + rest, to + kTile, 0.0f);
        }
      }
    }
  }

  // --- products ---

  static int64_t Tasks(const Piece& p) { return p.tile_tasks * CeilDiv(p.c.rows, p.row_chunk); }

  // Eight tasks a worker balance; the larger a task, the less packing of a is repeated.
  int64_t PlanTasks(std::span<Piece> pieces) const {
    int64_t total = 0, tasks = 0;
    for (const Piece& p : pieces) total += p.c.rows * p.cols * p.depth;
    const int64_t goal = std::max(total / (exec_.threads() * 8), kLeastTask) * 3 / 2;
    for (Piece& p : pieces) {
      // Quantising rows of a costs more than packing them: wider tasks repeat it less.
      const int64_t wide = f8() ? 2 : 1;
      int64_t rows = CeilDiv(p.c.rows, CeilDiv(p.c.rows, kRowChunk / wide));
      int64_t tiles = CeilDiv(p.tiles(), CeilDiv(p.tiles(), kTileChunk * wide));
      while (rows * tiles * kTile * p.depth > goal) {
        if (rows >= 96) {
          rows = CeilDiv(rows, 2);
        } else if (tiles >= 8) {
          tiles = CeilDiv(tiles, 2);
        } else {
          break;
        }
      }
      const int64_t group = std::max<int64_t>(group_, 6);
      p.row_chunk = CeilDiv(rows, group) * group;
      p.tile_chunk = tiles;
      p.tile_tasks = CeilDiv(p.tiles(), tiles);
      p.end_task = tasks += Tasks(p);
    }
    return tasks;
  }

  // Rows of a transposed a, as the kernels for turned rows take them.
  void TurnRows(const GemmArg& a, int64_t row, int64_t rows, int64_t k, int64_t depth, float* to,
                int64_t panel, Workspace& scratch) {
    if (pairs_ != nullptr) return TurnPairs(a, row, rows, k, depth, to, panel, scratch);
    for (int64_t i = 0; i < depth; i += kAhead) {
      const int64_t count = std::min(kAhead, depth - i);
      const float* from[kAhead];
      for (int64_t j = 0; j < count; ++j) from[j] = SourceRow(a, k + i + j) + row;
      for (int64_t j = i + kAhead; j < std::min(i + 2 * kAhead, depth); ++j) {
        const float* next = SourceRow(a, k + j) + row;
        for (int64_t c = 0; c < rows; c += kTile) __builtin_prefetch(next + c);
      }
      kernels_.turn(from, count, rows, to + i * group_, panel);
    }
    for (int64_t r = 0; bf16() && r < rows; r += group_, to += panel) {
      RoundToBf16(to, depth * group_);
      SwapPairs(to, depth, group_);
    }
  }

  void TurnPairs(const GemmArg& a, int64_t row, int64_t rows, int64_t k, int64_t depth, float* to,
                 int64_t panel, Workspace& scratch) {
    const Workspace::Position mark = scratch.Mark();
    const int64_t width = CeilDiv(rows, kTile) * kTile;
    float* zipped = scratch.Take<float>(kAhead * width);
    const float* from[kAhead];
    for (int64_t j = 0; j < kAhead; ++j) from[j] = zipped + j * width;
    for (int64_t i = 0; i < depth; i += 2 * kAhead) {
      const int64_t count = std::min(2 * kAhead, depth - i);
      for (int64_t j = i + count; j < std::min(i + count + 2 * kAhead, depth); ++j) {
        const float* next = SourceRow(a, k + j) + row;
        for (int64_t c = 0; c < rows; c += kTile) __builtin_prefetch(next + c);
      }
      for (int64_t j = 0; j < count; j += 2) {
        const float* odd = j + 1 < count ? SourceRow(a, k + i + j + 1) + row : nullptr;
        pairs_->zip(SourceRow(a, k + i + j) + row, odd, rows, zipped + j / 2 * width, kTile);
      }
      kernels_.turn(from, CeilDiv(count, 2), rows, to + i / 2 * group_, panel);
    }
    scratch.Release(mark);
  }

  // Rows of a over k in [k, k + depth), `pitch` apart, rounded; their scales for kF8.
  void PackRows(const GemmArg& a, int64_t row, int64_t rows, int64_t k, int64_t depth, float* to,
                int64_t pitch, float* scale) {
    if (pairs_ != nullptr) {
      for (int64_t r = 0; r < rows; ++r) {
        pairs_->round(SourceRow(a, row + r) + k, depth, to + r * pitch);
      }
      return;
    }
    if (a.transposed) {
      for (int64_t i = 0; i < depth; i += kTile) {
        const int64_t count = std::min<int64_t>(kTile, depth - i);
        const float* from[kTile];
        for (int64_t j = 0; j < count; ++j) from[j] = SourceRow(a, k + i + j) + row;
        train_.transpose(from, count, rows, to + i, pitch);
      }
    } else {
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(SourceRow(a, row + r) + k, depth, to + r * pitch);
    }
    if (options_.type == ComputeType::kF32) return;
    for (int64_t r = 0; r < rows; ++r) {
      if (f8()) {
        scale[r] = QuantiseRow(to + r * pitch, depth);
      } else {
        RoundToBf16(to + r * pitch, depth);
        SwapPairs(to + r * pitch, depth, 1);
      }
    }
  }

  void RunTask(const Piece& p, int64_t row, int64_t tile, Workspace& scratch) {
    const int64_t rows = std::min(p.row_chunk, p.c.rows - row);
    const int64_t tiles = std::min(p.tile_chunk, p.tiles() - tile);
    const FlushDenormals flush(bf16());
    const int64_t most = f8() ? kFp8Group : pairs_ != nullptr ? 2 * kDepth : kDepth;
    const int64_t passes = CeilDiv(p.depth, most);
    scratch.Reset();
    if (passes <= 1) return RunPass(p, row, rows, tile, tiles, scratch);
    const int64_t step = f8() ? kFp8Group : CeilDiv(CeilDiv(p.depth, passes), kTile) * kTile;
    float* acc = scratch.Take<float>(tiles * rows * kTile);
    if (f8()) std::fill_n(acc, tiles * rows * kTile, 0.0f);
    const Workspace::Position mark = scratch.Mark();
    for (int64_t k = 0; k < p.depth; k += step) {
      const int64_t depth = std::min(step, p.depth - k);
      scratch.Release(mark);
      const Rows a = OpenRows(*p.a, row, rows, k, depth, scratch);
      for (int64_t t = 0; t < tiles; ++t) {
        const Panel b = PanelAt(p, tile + t, k, depth);
        for (int64_t m = FirstRow(p, row, tile + t); m < rows; m += group_) {
          const int64_t n = std::min(group_, rows - m);
          float* const sums = acc + (t * rows + m) * kTile;
          if (t == 0) a.Fetch(m + group_, std::min(m + 2 * group_, rows), depth);
          if (f8()) {
            AddFp8(a, m, n, b, sums);
          } else {
            Multiply(k == 0 ? FloatKernels::kStore : FloatKernels::kGoOn, a, m, n, b, sums, kTile);
          }
        }
      }
    }
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t m = FirstRow(p, row, tile + t);
      Write(p, row + m, rows - m, (tile + t) * kTile, acc + (t * rows + m) * kTile);
    }
  }

  // The first group of a task's rows that reaches the diagonal in this tile, where that is enough.
  int64_t FirstRow(const Piece& p, int64_t row, int64_t tile) const {
    if (!p.mirrored) return 0;
    return std::max<int64_t>(0, p.col + tile * kTile - row) / group_ * group_;
  }

  // All of k at once: sums go straight to c.
  void RunPass(const Piece& p, int64_t row, int64_t rows, int64_t tile, int64_t tiles,
               Workspace& scratch) {
    const Rows a = OpenRows(*p.a, row, rows, 0, p.depth, scratch);
    for (int64_t t = tile; t < tile + tiles; ++t) {
      const Panel b = PanelAt(p, t, 0, p.depth);
      const bool whole = !f8() && (t + 1) * kTile <= p.cols;
      for (int64_t m = FirstRow(p, row, t); m < rows; m += group_) {
        const int64_t n = std::min(group_, rows - m);
        float* const c = p.c.row(row + m) + t * kTile;
        // Walking down columns of c, the hardware does not see what comes next.
        for (int64_t i = 0; i < n; ++i) __builtin_prefetch(c + i * p.c.stride, 1);
        if (t == tile) a.Fetch(m + group_, std::min(m + 2 * group_, rows), b.depth);
        if (whole) {
          Multiply(options_.accumulate ? FloatKernels::kAdd : FloatKernels::kStore, a, m, n, b, c,
                   p.c.stride);
          continue;
        }
        alignas(64) float acc[kMaxRows * kTile];
        if (f8()) {
          std::fill_n(acc, n * kTile, 0.0f);
          AddFp8(a, m, n, b, acc);
        } else {
          Multiply(FloatKernels::kStore, a, m, n, b, acc, kTile);
        }
        Write(p, row + m, n, t * kTile, acc);
      }
    }
  }

  // A tile of b over some k.
  struct Panel {
    internal::FloatTile tile;
    const float* scale;
    int64_t depth;
  };
  Panel PanelAt(const Piece& p, int64_t tile, int64_t k, int64_t depth) const {
    const float* data = PackedTile(p, tile, k);
    const float* scale = f8() ? p.scales + (tile * p.runs() + k / kFp8Group) * kTile : nullptr;
    return {{reinterpret_cast<const uint8_t*>(data), nullptr}, scale, Packed(depth)};
  }

  // Rows of a over some k: packed and rounded, turned, or where they lie.
  struct Rows {
    const float* data;   // packed, else null
    int64_t pitch;       // from one packed row to the next
    const float* scale;  // kF8
    int64_t panel;       // from a group of turned rows to the next, else 0
    const GemmArg* arg;
    int64_t row, k;

    const float* operator[](int64_t r) const {
      return data != nullptr ? data + r * pitch : SourceRow(*arg, row + r) + k;
    }
    // Asks for rows [r, end) where they lie: too short a way for the hardware to guess.
    void Fetch(int64_t r, int64_t end, int64_t depth) const {
      if (data != nullptr) return;
      for (; r < end; ++r) {
        const float* x = (*this)[r];
        for (int64_t i = 0; i < depth; i += kTile) __builtin_prefetch(x + i);
      }
    }
  };
  Rows OpenRows(const GemmArg& a, int64_t row, int64_t rows, int64_t k, int64_t depth,
                Workspace& scratch) {
    // Rows a multiple of 4 KiB apart fall on the same lines of the cache.
    const bool spread = a.m.stride * static_cast<int64_t>(sizeof(float)) % 4096 != 0;
    if (options_.type == ComputeType::kF32 && !a.transposed && spread) {
      return {nullptr, 0, nullptr, 0, &a, row, k};
    }
    if (a.transposed && !f8()) {
      const int64_t panel = Packed(depth) * group_ + kTile;
      float* turned = scratch.Take<float>(CeilDiv(rows, group_) * panel);
      TurnRows(a, row, rows, k, depth, turned, panel, scratch);
      return {turned, 0, nullptr, panel, nullptr, 0, 0};
    }
    const int64_t pitch = CeilDiv(Packed(depth), kTile) * kTile;
    float* data = scratch.Take<float>(rows * pitch);
    float* scale = f8() ? scratch.Take<float>(rows) : nullptr;
    PackRows(a, row, rows, k, depth, data, pitch, scale);
    return {data, pitch, scale, 0, nullptr, 0, 0};
  }

  // n rows of a, the first a multiple of group_, times the panel. kGoOn: y is 16 wide.
  void Multiply(FloatKernels::Chain chain, const Rows& a, int64_t m, int64_t n, const Panel& b,
                float* y, int64_t stride) {
    if (a.panel != 0) {
      kernels_.turned[chain][n](b.tile, b.depth, a.data + m / group_ * a.panel, group_, y, stride);
      return;
    }
    const float* x[kMaxRows];
    for (int64_t i = 0; i < n; ++i) x[i] = a[m + i];
    if (chain == FloatKernels::kGoOn) {
      kernels_.direct[n](b.tile, b.depth, x, y);
    } else {
      kernels_.whole[chain][n](b.tile, b.depth, x, y, stride);
    }
  }

  // acc[i][16] += n rows of a from m times the panel.
  void AddFp8(const Rows& a, int64_t m, int64_t n, const Panel& b, float* acc) {
    if (b.depth == 0) return;  // there are no scales
    alignas(64) float partial[kMaxRows * kTile];
    Multiply(FloatKernels::kStore, a, m, n, b, partial, kTile);
    train_.fold(partial, a.scale + m, b.scale, n, acc);
  }

  void Write(const Piece& p, int64_t row, int64_t rows, int64_t col, const float* acc) {
    const int64_t n = std::min<int64_t>(kTile, p.cols - col);
    for (int64_t r = 0; r < rows; ++r, acc += kTile) {
      float* __restrict c = p.c.row(row + r) + col;
      if (n < kTile) {
        for (int64_t i = 0; i < n; ++i) c[i] = options_.accumulate ? c[i] + acc[i] : acc[i];
      } else if (options_.accumulate) {
        for (int i = 0; i < kTile; ++i) c[i] += acc[i];
      } else {
        std::memcpy(c, acc, kTile * sizeof(float));
      }
    }
  }

  const Exec& exec_;
  const GemmOptions& options_;
  const internal::TrainTable& train_;
  const PairKernels* const pairs_;  // bf16 by instructions for it, else null
  const FloatKernels& kernels_;
  const int64_t group_;
};

}  // namespace

void GemmJobs(const Exec& exec, std::span<const GemmJob> jobs, const GemmOptions& options) {
  Product(exec, options).Run(jobs);
}

void Gemm(const Exec& exec, const GemmArg& a, const GemmArg& b, View2<float> c,
          const GemmOptions& options) {
  const GemmJob job = {a, b, c};
  GemmJobs(exec, {&job, 1}, options);
}

}  // namespace hadal
