#include "kernels/attention_backward.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/dispatch.h"
#include "tensor/buffer.h"

namespace hadal {
namespace {

using internal::AttentionTable;
using internal::CeilDiv;
using internal::kMaxRows;
using internal::kTileRows;

constexpr int64_t kLane = 16;
constexpr int64_t kPieces = 16;         // (kv head, piece) pairs that a long document is cut into
constexpr int64_t kPieceRows = 256;     // a piece covers about this many queries at least
constexpr int64_t kTileFloats = 65536;  // weights of a tile of queries
constexpr int64_t kMaxTileRows = 96;
constexpr int64_t kKeyBytes = 16 << 10;  // packed keys that stay in the first-level cache
constexpr int64_t kDepth = 256;          // keys of one pass over a column of 16

int64_t Padded(int64_t n) { return CeilDiv(n, kLane) * kLane; }

int64_t PieceCount(int64_t rows, int64_t kv_heads) {
  return std::clamp<int64_t>(kPieces / kv_heads, 1, CeilDiv(rows, kPieceRows));
}

// Where piece p begins: the work of queries before i grows as i squared.
int64_t PieceBegin(int64_t rows, int64_t pieces, int64_t p) {
  if (p == pieces) return rows;
  const double share = std::sqrt(static_cast<double>(p) / static_cast<double>(pieces));
  return std::min(rows, static_cast<int64_t>(static_cast<double>(rows) * share) / kLane * kLane);
}

// Queries of a tile: a function of the document alone. Narrow ones waste less on the diagonal.
int64_t TileRows(int64_t rows) {
  const int64_t fit = kTileFloats / Padded(rows) / kLane * kLane;
  return std::clamp(std::min(fit, Padded(rows / 4)), kLane, kMaxTileRows);
}

struct Problem {
  const GqaShape& shape;
  View2<const float> q, k, v, dout;
  View2<float> dq, dk, dv;

  int64_t key_vecs() const { return CeilDiv(shape.k_dim, kLane); }
  int64_t value_vecs() const { return CeilDiv(shape.v_dim, kLane); }
};

// Sums for keys [0, end), as [column of 16][key][16]: dk, then dv.
struct Sums {
  float* data = nullptr;
  int64_t keys = 0;  // padded

  static int64_t Floats(const Problem& p, int64_t end) {
    return (p.key_vecs() + p.value_vecs()) * Padded(end) * kLane;
  }
  float* dk(int64_t vec) const { return data + vec * keys * kLane; }
  float* dv(const Problem& p, int64_t vec) const { return dk(p.key_vecs() + vec); }
};

// Queries [begin, end) of one document for the heads of one kv head.
struct Task {
  const SeqSpan* seq;
  int64_t kv_head, begin, end;
  int64_t piece, pieces;
  Sums sums = {};  // without data when pieces == 1

  int64_t work() const { return end * end - begin * begin; }
};

// count rows of n columns to [column of 16][rows][16], the last column padded with zeros.
void PackSlabs(const float* from, int64_t stride, int64_t count, int64_t n, int64_t rows,
               float* to) {
  for (int64_t c = 0; c < n; c += kLane, to += rows * kLane) {
    const int64_t width = std::min(kLane, n - c);
    for (int64_t r = 0; r < count; ++r) {
      if (width == kLane) {
        std::memcpy(to + r * kLane, from + r * stride + c, kLane * sizeof(float));
        continue;
      }
      std::copy_n(from + r * stride + c, width, to + r * kLane);
      std::fill(to + r * kLane + width, to + (r + 1) * kLane, 0.0f);
    }
  }
}

// to[r][0 .. n) += slabs.
void AddSlabs(const float* from, int64_t rows, int64_t count, int64_t n, float* to,
              int64_t stride) {
  for (int64_t c = 0; c < n; c += kLane, from += rows * kLane) {
    const int64_t width = std::min(kLane, n - c);
    for (int64_t r = 0; r < count; ++r) {
      float* sum = to + r * stride + c;
      const float* part = from + r * kLane;
      if (width == kLane) {
        for (int64_t i = 0; i < kLane; ++i) sum[i] += part[i];
      } else {
        for (int64_t i = 0; i < width; ++i) sum[i] += part[i];
      }
    }
  }
}

class TaskRun {
 public:
  TaskRun(const Exec& exec, const Problem& problem, const Task& task, Workspace& memory)
      : p_(problem),
        t_(task),
        attention_(internal::Attention(exec.isa())),
        train_(internal::Train(exec.isa())),
        product_(internal::F32Products(exec.isa())),
        group_(internal::Products(exec.isa()).float_rows),
        keys_(Padded(task.end)),
        pitch_(keys_ % (2 * kLane) == 0 ? keys_ + kLane : keys_),
        rows_(TileRows(task.seq->rows)),
        sums_(task.sums) {
    memory.Reset();
    const GqaShape& s = p_.shape;
    key_blocks_ = memory.Take<float>(keys_ * s.k_dim);
    value_blocks_ = memory.Take<float>(keys_ * s.v_dim);
    key_slabs_ = memory.Take<float>(p_.key_vecs() * keys_ * kLane);
    weight_ = memory.Take<float>(rows_ * pitch_);
    slope_ = memory.Take<float>(rows_ * pitch_);
    query_slabs_ = memory.Take<float>(p_.key_vecs() * rows_ * kLane);
    dout_slabs_ = memory.Take<float>(p_.value_vecs() * rows_ * kLane);
    dq_ = memory.Take<float>(rows_ * kLane);
    if (sums_.data == nullptr) sums_ = {memory.Take<float>(Sums::Floats(p_, t_.end)), keys_};
  }

  void Run() {
    const GqaShape& s = p_.shape;
    std::fill_n(sums_.data, Sums::Floats(p_, t_.end), 0.0f);
    PackBlocks(Key(0), p_.k.stride, s.k_dim, key_blocks_);
    PackBlocks(Value(0), p_.v.stride, s.v_dim, value_blocks_);
    PackSlabs(Key(0), p_.k.stride, t_.end, s.k_dim, keys_, key_slabs_);
    const int64_t group = s.heads / s.kv_heads;
    for (int64_t h = t_.kv_head * group; h < (t_.kv_head + 1) * group; ++h) {
      for (int64_t row = t_.begin; row < t_.end; row += rows_) {
        RunTile(h, row, std::min(rows_, t_.end - row));
      }
    }
    if (t_.pieces > 1) return;
    const int64_t first = t_.seq->first_row;
    AddSlabs(sums_.dk(0), keys_, t_.end, s.k_dim, p_.dk.row(first) + t_.kv_head * s.k_dim,
             p_.dk.stride);
    AddSlabs(sums_.dv(p_, 0), keys_, t_.end, s.v_dim, p_.dv.row(first) + t_.kv_head * s.v_dim,
             p_.dv.stride);
  }

 private:
  const float* Key(int64_t j) const {
    return p_.k.row(t_.seq->first_row + j) + t_.kv_head * p_.shape.k_dim;
  }
  const float* Value(int64_t j) const {
    return p_.v.row(t_.seq->first_row + j) + t_.kv_head * p_.shape.v_dim;
  }

  // Rows 0 .. end as blocks of 16 keys, [dim][16] each.
  void PackBlocks(const float* from, int64_t stride, int64_t dim, float* to) {
    for (int64_t j = 0; j < t_.end; j += kLane) {
      const int64_t count = std::min(kLane, t_.end - j);
      const float* rows[kLane];
      for (int64_t i = 0; i < count; ++i) rows[i] = from + (j + i) * stride;
      train_.transpose(rows, count, dim, to + j * dim, kLane);
    }
  }

  void RunTile(int64_t head, int64_t row, int64_t rows) {
    const GqaShape& s = p_.shape;
    const int64_t source = t_.seq->first_row + row;
    const float* q = p_.q.row(source) + head * s.k_dim;
    const float* dout = p_.dout.row(source) + head * s.v_dim;
    const int64_t seen = Padded(row + rows);
    Scores({q, p_.q.stride, row, rows}, s.k_dim, key_blocks_, s.scale, weight_);
    Scores({dout, p_.dout.stride, row, rows}, s.v_dim, value_blocks_, 1.0f, slope_);
    for (int64_t i = 0; i < rows; ++i) {
      float *w = weight_ + i * pitch_, *d = slope_ + i * pitch_;
      const int64_t limit = row + i + 1, end = Padded(limit);
      const float sum = attention_.softmax(w, limit);
      std::fill(d + limit, d + seen, 0.0f);
      std::fill(w + end, w + seen, 0.0f);
      train_.softmax_grad(w, d, end, sum, s.scale);
    }
    PackSlabs(dout, p_.dout.stride, rows, s.v_dim, rows_, dout_slabs_);
    AddTurned(weight_, row, rows, dout_slabs_, p_.value_vecs(), sums_.dv(p_, 0));
    PackSlabs(q, p_.q.stride, rows, s.k_dim, rows_, query_slabs_);
    AddTurned(slope_, row, rows, query_slabs_, p_.key_vecs(), sums_.dk(0));
    AddQueries(head, row, rows);
  }

  // Rows of q or dout: those of queries [first, first + count).
  struct Queries {
    const float* data;
    int64_t stride, first, count;
  };
  // out[i][j] = scale * x_i . key_j for the keys that i sees, a few blocks at a time for all rows.
  void Scores(const Queries& x, int64_t dim, const float* blocks, float scale, float* out) {
    const int64_t step = std::max(attention_.vectors, kKeyBytes / (dim * kLane * 4));
    for (int64_t b = 0; b < CeilDiv(x.first + x.count, kLane); b += step) {
      const auto* base = reinterpret_cast<const std::byte*>(blocks + b * dim * kLane);
      for (int64_t i = 0; i < x.count; i += kTileRows) {
        const int64_t rows = std::min(kTileRows, x.count - i);
        const int64_t seen = CeilDiv(x.first + i + rows, kLane) - b;
        if (seen <= 0) continue;
        internal::ScoreArgs args = {.q = {},
                                    .rows = rows,
                                    .k_dim = dim,
                                    .keys = {base, nullptr, dim * kLane * 4},
                                    .blocks = std::min(step, seen),
                                    .scale = scale,
                                    .out = out + i * pitch_ + b * kLane,
                                    .out_stride = pitch_};
        for (int64_t r = 0; r < rows; ++r) args.q[r] = x.data + (i + r) * x.stride;
        attention_.scores_f32(args);
      }
    }
  }

  // acc[vec][j] += sum over queries i >= j of the tile of from[i][j] * slab[vec][i].
  void AddTurned(const float* from, int64_t row, int64_t rows, const float* slabs, int64_t vecs,
                 float* acc) {
    const int64_t seen = row + rows;
    for (int64_t j = 0; j < seen; j += group_) {
      // Queries before the first of these keys have weight 0.
      const int64_t skip = std::max<int64_t>(0, j - row);
      const auto multiply =
          product_.turned[internal::FloatKernels::kGoOn][std::min(group_, seen - j)];
      for (int64_t vec = 0; vec < vecs; ++vec) {
        multiply(Tile(slabs + (vec * rows_ + skip) * kLane), rows - skip, from + skip * pitch_ + j,
                 pitch_, acc + (vec * keys_ + j) * kLane, kLane);
      }
    }
  }

  static internal::FloatTile Tile(const float* data) {
    return {reinterpret_cast<const uint8_t*>(data), nullptr};
  }

  void AddQueries(int64_t head, int64_t row, int64_t rows) {
    const int64_t dim = p_.shape.k_dim;
    for (int64_t vec = 0; vec < p_.key_vecs(); ++vec) {
      std::fill_n(dq_, rows * kLane, 0.0f);
      const float* slab = key_slabs_ + vec * keys_ * kLane;
      for (int64_t j = 0; j < row + rows; j += kDepth) {
        for (int64_t i = 0; i < rows; i += group_) {
          const int64_t n = std::min(group_, rows - i);
          const int64_t depth = std::min(kDepth, row + i + n - j);
          if (depth <= 0) continue;
          const float* x[kMaxRows];
          for (int64_t r = 0; r < n; ++r) x[r] = slope_ + (i + r) * pitch_ + j;
          product_.direct[n](Tile(slab + j * kLane), depth, x, dq_ + i * kLane);
        }
      }
      AddSlabs(dq_, rows, rows, std::min(kLane, dim - vec * kLane),
               p_.dq.row(t_.seq->first_row + row) + head * dim + vec * kLane, p_.dq.stride);
    }
  }

  const Problem& p_;
  const Task& t_;
  const AttentionTable& attention_;
  const internal::TrainTable& train_;
  const internal::FloatKernels& product_;
  const int64_t group_, keys_;
  const int64_t pitch_;  // of weights: an odd number of cache lines, so that columns spread
  const int64_t rows_;
  Sums sums_;
  float *key_blocks_, *value_blocks_, *key_slabs_;
  float *weight_, *slope_;
  float *query_slabs_, *dout_slabs_, *dq_;
};

// dk and dv of 64 keys from the pieces of a document, in order. `first` is the task of piece 0.
void AddPieces(const Problem& p, const Task* first, int64_t key) {
  const SeqSpan& seq = *first->seq;
  const GqaShape& s = p.shape;
  const int64_t count = std::min<int64_t>(64, seq.rows - key);
  float sum[64 * kLane];
  for (int64_t vec = 0; vec < p.key_vecs() + p.value_vecs(); ++vec) {
    std::fill_n(sum, count * kLane, 0.0f);
    for (const Task* piece = first; piece < first + first->pieces; ++piece) {
      const int64_t n = std::min(count, piece->end - key);
      const float* from = piece->sums.dk(vec) + key * kLane;
      for (int64_t i = 0; i < n * kLane; ++i) sum[i] += from[i];
    }
    const bool is_key = vec < p.key_vecs();
    const int64_t col = (is_key ? vec : vec - p.key_vecs()) * kLane;
    const int64_t dim = is_key ? s.k_dim : s.v_dim;
    const View2<float>& to = is_key ? p.dk : p.dv;
    AddSlabs(sum, count, count, std::min(kLane, dim - col),
             to.row(seq.first_row + key) + first->kv_head * dim + col, to.stride);
  }
}

}  // namespace

void GqaAttentionBackward(const Exec& exec, std::span<const SeqSpan> seqs, const GqaShape& s,
                          View2<const float> q, View2<const float> k, View2<const float> v,
                          View2<const float> dout, View2<float> dq, View2<float> dk,
                          View2<float> dv) {
  CHECK(s.kv_heads > 0 && s.heads % s.kv_heads == 0);
  CHECK(q.cols == s.heads * s.k_dim && dout.cols == s.heads * s.v_dim);
  CHECK(k.cols == s.kv_heads * s.k_dim && v.cols == s.kv_heads * s.v_dim);
  CHECK(dq.cols == q.cols && dk.cols == k.cols && dv.cols == v.cols);
  const Problem p = {s, q, k, v, dout, dq, dk, dv};
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  int64_t most = 0;
  for (const SeqSpan& seq : seqs) {
    CHECK(seq.start == 0);
    if (seq.rows > 0) most += s.kv_heads * PieceCount(seq.rows, s.kv_heads);
  }
  Task* tasks = memory.Take<Task>(most);
  int64_t* order = memory.Take<int64_t>(most);
  int64_t count = 0;
  for (const SeqSpan& seq : seqs) {
    if (seq.rows == 0) continue;
    const int64_t pieces = PieceCount(seq.rows, s.kv_heads);
    for (int64_t head = 0; head < s.kv_heads; ++head) {
      for (int64_t i = 0; i < pieces; ++i) {
        Task task = {.seq = &seq,
                     .kv_head = head,
                     .begin = PieceBegin(seq.rows, pieces, i),
                     .end = PieceBegin(seq.rows, pieces, i + 1),
                     .piece = i,
                     .pieces = pieces};
        if (pieces > 1) {
          task.sums = {memory.Take<float>(Sums::Floats(p, task.end)), Padded(task.end)};
        }
        order[count] = count;
        tasks[count++] = task;
      }
    }
  }
  // Long ones first, so that the threads end together.
  std::sort(order, order + count, [&](int64_t a, int64_t b) {
    return tasks[a].work() != tasks[b].work() ? tasks[a].work() > tasks[b].work() : a < b;
  });
  exec.pool().For(count, [&](int64_t task, int worker) {
    TaskRun(exec, p, tasks[order[task]], exec.scratch(worker)).Run();
  });
  for (int64_t first = 0; first < count; first += tasks[first].pieces) {
    if (tasks[first].pieces == 1) continue;
    exec.pool().For(CeilDiv(tasks[first].seq->rows, 64),
                    [&](int64_t part, int) { AddPieces(p, tasks + first, part * 64); });
  }
  memory.Release(mark);
}

}  // namespace hadal
