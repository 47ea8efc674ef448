#include "kernels/attention.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "kernels/attention_latent.h"
#include "kernels/dispatch.h"

namespace hadal {
namespace {

using internal::AttentionTable;
using internal::CeilDiv;
using internal::kTileRows;

constexpr int64_t kKeyBytes = 16 << 10;   // widened keys that stay in the first-level cache
constexpr int64_t kValueBlocks = 8;       // widened blocks of values: 8 KiB a column vector
constexpr int64_t kWeightFloats = 98304;  // weights of a tile, for the second-level cache
constexpr int64_t kMinTileRows = 12, kMaxTileRows = 96;
constexpr int64_t kScratchFloats = 65536;  // least room for weights, so that decode never grows it

// What grouped-query and latent attention differ in: where keys and values lie in a block.
struct Problem {
  const AttentionTable& table;
  int64_t heads, kv_heads, k_dim, v_dim;
  float scale;
  bool key_rows;         // keys are rows of `row` elements, not columns
  int64_t row;           // elements from one value (and key, if in rows) to the next
  int64_t value_offset;  // elements from the keys of a kv head to its values
  int64_t head_elements;
  View2<const float> q;
  const KvStore& store;
  View2<float> out;

  int64_t value_vecs() const { return CeilDiv(v_dim, 16); }
  bool f16() const { return store.type == KvType::kF16; }
};

// Query rows that share a kv head: `heads` heads of `rows` consecutive positions, heads innermost.
struct Tile {
  const SeqSpan* seq;
  int64_t kv_head, first_head, heads;
  int64_t first_row, rows;  // within the span

  int64_t size() const { return heads * rows; }
  int64_t keys() const { return seq->start + first_row + rows; }
  // Keys that row i of the tile sees.
  int64_t Limit(int64_t i) const { return seq->start + first_row + i / heads + 1; }
};

class TileRun {
 public:
  TileRun(const Problem& problem, const Tile& tile, Workspace& memory)
      : p_(problem), t_(tile), groups_(CeilDiv(tile.size(), kTileRows)) {
    memory.Reset();
    const int64_t rows = tile.size();
    weight_stride_ = CeilDiv(tile.keys(), kKvBlock) * kKvBlock;
    acc_stride_ = p_.value_vecs() * 16;
    weight_ = memory.Take<float>(std::max(kScratchFloats, rows * weight_stride_));
    acc_ = memory.Take<float>(rows * acc_stride_);
    sum_ = memory.Take<float>(rows);
    key_blocks_ = std::max(p_.table.vectors, kKeyBytes / (p_.k_dim * kKvBlock * 4));
    packed_ =
        memory.Take<float>(kKvBlock * std::max(key_blocks_ * p_.k_dim, kValueBlocks * acc_stride_));
  }

  void Run() {
    if (t_.size() <= kTileRows && !p_.key_rows) {
      DirectScores();
    } else {
      PackedScores();
    }
    for (int64_t i = 0; i < t_.size(); ++i) {
      sum_[i] = p_.table.softmax(weight_ + i * weight_stride_, t_.Limit(i));
    }
    std::fill_n(acc_, t_.size() * acc_stride_, 0.0f);
    if (t_.size() <= kTileRows && p_.v_dim % 16 == 0) {
      DirectValues();
    } else {
      PackedValues();
    }
    for (int64_t i = 0; i < t_.size(); ++i) {
      p_.table.divide(acc_ + i * acc_stride_, sum_[i], p_.v_dim,
                      p_.out.row(t_.seq->first_row + t_.first_row + i / t_.heads) +
                          (t_.first_head + i % t_.heads) * p_.v_dim);
    }
  }

 private:
  // Rows are split evenly into groups of at most kTileRows.
  int64_t GroupBegin(int64_t g) const { return g * t_.size() / groups_; }

  const std::byte* Keys() const {
    const int64_t element = KvTypeBytes(p_.store.type);
    return static_cast<const std::byte*>(p_.store.data) + t_.kv_head * p_.head_elements * element;
  }
  const std::byte* Values() const { return Keys() + p_.value_offset * KvTypeBytes(p_.store.type); }

  const float* Query(int64_t i) const {
    return p_.q.row(t_.seq->first_row + t_.first_row + i / t_.heads) +
           (t_.first_head + i % t_.heads) * p_.k_dim;
  }

  // Scores of rows [begin, end) against `blocks` blocks of `keys`, the first at block `first`.
  void Scores(int64_t begin, int64_t end, const internal::BlockList& keys, int64_t first,
              int64_t blocks) {
    internal::ScoreArgs args = {.q = {},
                                .rows = end - begin,
                                .k_dim = p_.k_dim,
                                .keys = keys,
                                .blocks = blocks,
                                .scale = p_.scale,
                                .out = weight_ + begin * weight_stride_ + first * kKvBlock,
                                .out_stride = weight_stride_};
    for (int64_t i = begin; i < end; ++i) args.q[i - begin] = Query(i);
    (keys.table != nullptr && p_.f16() ? p_.table.scores_f16 : p_.table.scores_f32)(args);
  }

  // Few rows: the cache is read once and widened in registers.
  void DirectScores() {
    Scores(0, t_.size(), {Keys(), t_.seq->blocks, p_.store.block_bytes}, 0,
           CeilDiv(t_.keys(), kKvBlock));
  }

  // Many rows: a few blocks at a time are widened once for all of them.
  void PackedScores() {
    const int64_t blocks = CeilDiv(t_.keys(), kKvBlock);
    for (int64_t b = 0; b < blocks; b += key_blocks_) {
      const int64_t n = std::min(key_blocks_, blocks - b);
      for (int64_t i = 0; i < n; ++i) PackKeys(b + i, packed_ + i * p_.k_dim * kKvBlock);
      for (int64_t g = 0; g < groups_; ++g) {
        const int64_t begin = GroupBegin(g), end = GroupBegin(g + 1);
        const int64_t seen = CeilDiv(t_.Limit(end - 1), kKvBlock) - b;
        if (seen <= 0) continue;
        Scores(begin, end,
               {reinterpret_cast<const std::byte*>(packed_), nullptr, p_.k_dim * kKvBlock * 4}, b,
               std::min(n, seen));
      }
    }
  }

  void PackKeys(int64_t block, float* to) {
    const std::byte* from = Keys() + t_.seq->blocks[block] * p_.store.block_bytes;
    const auto* half = reinterpret_cast<const uint16_t*>(from);
    const auto* full = reinterpret_cast<const float*>(from);
    if (!p_.key_rows) {
      if (p_.f16()) {
        p_.table.widen(half, p_.k_dim * kKvBlock, to);
      } else {
        std::copy_n(full, p_.k_dim * kKvBlock, to);
      }
    } else if (p_.f16()) {
      p_.table.transpose_f16(half, p_.row, p_.k_dim, to);
    } else {
      p_.table.transpose_f32(full, p_.row, p_.k_dim, to);
    }
  }

  // Adds keys [from, to) to the rows [begin, end); `args` says where the values are. Keys past a
  // row's own limit are left out one row at a time: a weight of zero would let their NaN through.
  void AddValues(internal::ValueArgs args, int64_t begin, int64_t end, int64_t from, int64_t to) {
    const auto run =
        args.values.table != nullptr && p_.f16() ? p_.table.values_f16 : p_.table.values_f32;
    const float* weight = args.weight;
    float* acc = args.acc;
    const int64_t common = std::clamp(t_.Limit(begin), from, to);
    args.weight = weight + begin * weight_stride_;
    args.acc = acc + begin * acc_stride_;
    args.weight_stride = weight_stride_;
    args.acc_stride = acc_stride_;
    args.rows = end - begin;
    args.first = 0;
    args.end = common - from;
    if (args.end > 0) run(args);
    args.rows = 1;
    args.first = common - from;
    for (int64_t i = begin; i < end; ++i) {
      args.end = std::clamp(t_.Limit(i), from, to) - from;
      if (args.end <= args.first) continue;
      args.weight = weight + i * weight_stride_;
      args.acc = acc + i * acc_stride_;
      run(args);
    }
  }

  // A few blocks at a time: a pass over the keys serves only some columns, and the next one
  // should find them in the cache.
  void DirectValues() {
    const int64_t step = kKvBlock * std::max<int64_t>(1, kKeyBytes / (kKvBlock * p_.row * 4));
    for (int64_t key = 0; key < t_.keys(); key += step) {
      AddValues({.weight = weight_ + key,
                 .values = {Values(), t_.seq->blocks + key / kKvBlock, p_.store.block_bytes},
                 .key_stride = p_.row,
                 .vec_stride = 16,
                 .vecs = p_.value_vecs(),
                 .acc = acc_},
                0, t_.size(), key, std::min(key + step, t_.keys()));
    }
  }

  void PackedValues() {
    constexpr int64_t kSlab = kValueBlocks * kKvBlock * 16;  // floats of one column vector
    const int64_t blocks = CeilDiv(t_.keys(), kKvBlock), vecs = p_.value_vecs();
    for (int64_t b = 0; b < blocks; b += kValueBlocks) {
      const int64_t n = std::min(kValueBlocks, blocks - b);
      for (int64_t i = 0; i < n; ++i) {
        const std::byte* from = Values() + t_.seq->blocks[b + i] * p_.store.block_bytes;
        float* to = packed_ + i * kKvBlock * 16;
        if (p_.f16()) {
          p_.table.slabs_f16(reinterpret_cast<const uint16_t*>(from), p_.row, p_.v_dim, to, kSlab);
        } else {
          p_.table.slabs_f32(reinterpret_cast<const float*>(from), p_.row, p_.v_dim, to, kSlab);
        }
      }
      const int64_t first = b * kKvBlock, last = std::min(t_.keys(), (b + n) * kKvBlock);
      for (int64_t v = 0; v < vecs; v += p_.table.vectors) {
        for (int64_t g = 0; g < groups_; ++g) {
          AddValues({.weight = weight_ + first,
                     .values = {reinterpret_cast<const std::byte*>(packed_ + v * kSlab), nullptr,
                                kKvBlock * 16 * 4},
                     .key_stride = 16,
                     .vec_stride = kSlab,
                     .vecs = std::min(p_.table.vectors, vecs - v),
                     .acc = acc_ + v * 16},
                    GroupBegin(g), GroupBegin(g + 1), first, last);
        }
      }
    }
  }

  const Problem& p_;
  const Tile& t_;
  int64_t groups_, weight_stride_, acc_stride_, key_blocks_;
  float *weight_, *acc_, *sum_, *packed_;
};

// How a span is cut: positions a tile, and parts that the heads of a kv head are split into.
struct Cut {
  int64_t rows, head_parts;
};

Cut CutSpan(const SeqSpan& seq, int64_t group, int64_t most_rows) {
  const int64_t rows = std::clamp(kWeightFloats / (seq.start + seq.rows), kMinTileRows, most_rows);
  return {std::max<int64_t>(1, rows / group), CeilDiv(group, rows)};
}

int64_t CountTiles(std::span<const SeqSpan> seqs, int64_t group, int64_t most_rows) {
  int64_t count = 0;
  for (const SeqSpan& seq : seqs) {
    if (seq.rows == 0) continue;
    const Cut cut = CutSpan(seq, group, most_rows);
    count += CeilDiv(seq.rows, cut.rows) * cut.head_parts;
  }
  return count;
}

// Parts to cut the heads of a kv head into so that the threads end together. Every part reads the
// keys again, so more of them must gain a fifth.
int64_t HeadParts(int64_t tiles, int64_t group, int64_t threads) {
  int64_t best = 1;
  for (int64_t parts = 2; parts <= std::min(group, threads); ++parts) {
    const int64_t rounds = CeilDiv(tiles * parts, threads);
    if (5 * rounds * best < 4 * CeilDiv(tiles * best, threads) * parts) best = parts;
  }
  return best;
}

void Attend(const Exec& exec, std::span<const SeqSpan> seqs, const Problem& p) {
  const int64_t group = p.heads / p.kv_heads;
  const bool serial = internal::AttendsAlone(exec, seqs, p.heads * (p.k_dim + p.v_dim));
  // Smaller tiles until every thread has some; those of one position are cut between heads.
  int64_t most_rows = kMaxTileRows;
  const int64_t wanted = serial ? 1 : 3 * exec.threads();
  while (most_rows > kMinTileRows && CountTiles(seqs, group, most_rows) * p.kv_heads < wanted) {
    most_rows /= 2;
  }
  const int64_t tiles = CountTiles(seqs, group, most_rows) * p.kv_heads;
  if (tiles == 0) return;
  const int64_t min_parts = tiles < wanted ? HeadParts(tiles, group, exec.threads()) : 1;

  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  Tile* list = memory.Take<Tile>(tiles * min_parts);
  int64_t count = 0;
  for (const SeqSpan& seq : seqs) {
    if (seq.rows == 0) continue;
    const Cut cut = CutSpan(seq, group, most_rows);
    const int64_t parts = std::max(cut.head_parts, min_parts);
    for (int64_t kv = 0; kv < p.kv_heads; ++kv) {
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t head = part * group / parts;
        for (int64_t row = 0; row < seq.rows; row += cut.rows) {
          list[count++] = {.seq = &seq,
                           .kv_head = kv,
                           .first_head = kv * group + head,
                           .heads = (part + 1) * group / parts - head,
                           .first_row = row,
                           .rows = std::min(cut.rows, seq.rows - row)};
        }
      }
    }
  }
  // Long ones first, so that the threads end together.
  std::sort(list, list + count,
            [](const Tile& a, const Tile& b) { return a.size() * a.keys() > b.size() * b.keys(); });
  const auto run = [&](int64_t task, int worker) {
    TileRun(p, list[task], exec.scratch(worker)).Run();
  };
  if (serial) {
    for (int64_t task = 0; task < count; ++task) run(task, 0);
  } else {
    exec.pool().For(count, run);
  }
  memory.Release(mark);
}

}  // namespace

void GqaAttention(const Exec& exec, std::span<const SeqSpan> seqs, const GqaShape& s,
                  View2<const float> q, const KvStore& store, View2<float> out) {
  CHECK(s.kv_heads > 0 && s.heads % s.kv_heads == 0);
  CHECK(q.cols == s.heads * s.k_dim && out.cols == s.heads * s.v_dim);
  Attend(exec, seqs,
         {.table = internal::Attention(exec.isa()),
          .heads = s.heads,
          .kv_heads = s.kv_heads,
          .k_dim = s.k_dim,
          .v_dim = s.v_dim,
          .scale = s.scale,
          .key_rows = false,
          .row = s.v_dim,
          .value_offset = kKvBlock * s.k_dim,
          .head_elements = kKvBlock * (s.k_dim + s.v_dim),
          .q = q,
          .store = store,
          .out = out});
}

void MlaAttention(const Exec& exec, std::span<const SeqSpan> seqs, const MlaShape& s,
                  View2<const float> q, const KvStore& store, View2<float> out) {
  const int64_t width = s.latent + s.rope;
  CHECK(q.cols == s.heads * width && out.cols == s.heads * s.latent);
  const Problem problem = {.table = internal::Attention(exec.isa()),
                           .heads = s.heads,
                           .kv_heads = 1,
                           .k_dim = width,
                           .v_dim = s.latent,
                           .scale = s.scale,
                           .key_rows = true,
                           .row = width,
                           .value_offset = 0,
                           .head_elements = 0,
                           .q = q,
                           .store = store,
                           .out = out};
  if (s.latent % 16 != 0) return Attend(exec, seqs, problem);
  // Sequences of one new position have no tile of rows to cut.
  Workspace& memory = exec.shared();
  const Workspace::Position mark = memory.Mark();
  SeqSpan* list = memory.Take<SeqSpan>(static_cast<int64_t>(seqs.size()));
  const auto step = [](const SeqSpan& seq) { return seq.rows == 1; };
  SeqSpan* const tiles = std::copy_if(seqs.begin(), seqs.end(), list, step);
  SeqSpan* const end = std::remove_copy_if(seqs.begin(), seqs.end(), tiles, step);
  internal::LatentStep(exec, {list, tiles}, s, q, store, out);
  Attend(exec, {tiles, end}, problem);
  memory.Release(mark);
}

namespace {

constexpr int64_t kRowsATask = 16;

// Calls body(seq, row, worker) for every row of every span, rows of one block in one task.
template <typename Body>
void ForRows(const Exec& exec, std::span<const SeqSpan> seqs, const Body& body) {
  const auto tasks_of = [](const SeqSpan& seq) {
    return CeilDiv(seq.start % kRowsATask + seq.rows, kRowsATask);
  };
  int64_t tasks = 0, rows = 0;
  for (const SeqSpan& seq : seqs) {
    tasks += tasks_of(seq);
    rows += seq.rows;
  }
  if (rows < kRowsATask) {
    for (const SeqSpan& seq : seqs) {
      for (int64_t r = 0; r < seq.rows; ++r) body(seq, r, 0);
    }
    return;
  }
  exec.pool().For(tasks, [&](int64_t task, int worker) {
    for (const SeqSpan& seq : seqs) {
      const int64_t n = tasks_of(seq);
      if (task >= n) {
        task -= n;
        continue;
      }
      const int64_t first = task * kRowsATask - seq.start % kRowsATask;
      const int64_t end = std::min(first + kRowsATask, seq.rows);
      for (int64_t r = std::max<int64_t>(0, first); r < end; ++r) body(seq, r, worker);
      return;
    }
  });
}

std::byte* SlotBlock(const KvStore& store, const SeqSpan& seq, int64_t position) {
  return static_cast<std::byte*>(store.data) + seq.blocks[position / kKvBlock] * store.block_bytes;
}

template <typename T>
void Scatter(const T* from, int64_t n, T* to, int64_t stride) {
  for (int64_t i = 0; i < n; ++i) to[i * stride] = from[i];
}

}  // namespace

void GqaWrite(const Exec& exec, std::span<const SeqSpan> seqs, const GqaShape& s,
              View2<const float> k, View2<const float> v, const KvStore& store) {
  CHECK(k.cols == s.kv_heads * s.k_dim && v.cols == s.kv_heads * s.v_dim);
  const AttentionTable& table = internal::Attention(exec.isa());
  const int64_t head_elements = kKvBlock * (s.k_dim + s.v_dim);
  ForRows(exec, seqs, [&](const SeqSpan& seq, int64_t r, int worker) {
    const int64_t position = seq.start + r, slot = position % kKvBlock;
    std::byte* block = SlotBlock(store, seq, position);
    const float *key = k.row(seq.first_row + r), *value = v.row(seq.first_row + r);
    Workspace& memory = exec.scratch(worker);
    memory.Reset();
    auto* half_key = memory.Take<uint16_t>(k.cols);
    if (store.type == KvType::kF16) table.narrow(key, k.cols, half_key);
    for (int64_t h = 0; h < s.kv_heads; ++h) {
      if (store.type == KvType::kF16) {
        auto* to = reinterpret_cast<uint16_t*>(block) + h * head_elements;
        Scatter(half_key + h * s.k_dim, s.k_dim, to + slot, kKvBlock);
        table.narrow(value + h * s.v_dim, s.v_dim, to + kKvBlock * s.k_dim + slot * s.v_dim);
      } else {
        auto* to = reinterpret_cast<float*>(block) + h * head_elements;
        Scatter(key + h * s.k_dim, s.k_dim, to + slot, kKvBlock);
        std::copy_n(value + h * s.v_dim, s.v_dim, to + kKvBlock * s.k_dim + slot * s.v_dim);
      }
    }
  });
}

void MlaWrite(const Exec& exec, std::span<const SeqSpan> seqs, const MlaShape& s,
              View2<const float> kv, const KvStore& store) {
  const int64_t width = s.latent + s.rope;
  CHECK(kv.cols == width);
  const AttentionTable& table = internal::Attention(exec.isa());
  ForRows(exec, seqs, [&](const SeqSpan& seq, int64_t r, int) {
    const int64_t position = seq.start + r, offset = position % kKvBlock * width;
    std::byte* block = SlotBlock(store, seq, position);
    if (store.type == KvType::kF16) {
      table.narrow(kv.row(seq.first_row + r), width, reinterpret_cast<uint16_t*>(block) + offset);
    } else {
      std::copy_n(kv.row(seq.first_row + r), width, reinterpret_cast<float*>(block) + offset);
    }
  });
}

void MlaRead(const Exec& exec, const int32_t* blocks, int64_t count, const MlaShape& s,
             const KvStore& store, View2<float> out) {
  const int64_t width = s.latent + s.rope;
  CHECK(out.rows == count && out.cols == width);
  const AttentionTable& table = internal::Attention(exec.isa());
  const SeqSpan seq = {.blocks = blocks, .start = 0, .first_row = 0, .rows = count};
  ForRows(exec, {&seq, 1}, [&](const SeqSpan& span, int64_t j, int) {
    const std::byte* block = SlotBlock(store, span, j);
    const int64_t offset = j % kKvBlock * width;
    if (store.type == KvType::kF16) {
      table.widen(reinterpret_cast<const uint16_t*>(block) + offset, width, out.row(j));
    } else {
      std::copy_n(reinterpret_cast<const float*>(block) + offset, width, out.row(j));
    }
  });
}

}  // namespace hadal
