#include "kernels/attention_latent.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "kernels/dispatch.h"

namespace hadal::internal {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kLatentFloats = 1 << 18;  // weights that wait for their values
constexpr int64_t kLatentVecs = 4;          // column vectors a task

struct Problem {
  const AttentionTable& table;
  int64_t heads, k_dim, v_dim;
  float scale;
  View2<const float> q;
  const KvStore& store;
  View2<float> out;

  int64_t value_vecs() const { return v_dim / 16; }
  bool f16() const { return store.type == KvType::kF16; }
  const std::byte* Block(const SeqSpan& seq, int64_t block) const {
    return static_cast<const std::byte*>(store.data) + seq.blocks[block] * store.block_bytes;
  }
};

class Step {
 public:
  Step(const Exec& exec, const Problem& problem, bool serial)
      : exec_(exec), p_(problem), serial_(serial) {}

  void Run(std::span<const SeqSpan> seqs) {
    Workspace& memory = exec_.shared();
    const Workspace::Position mark = memory.Mark();
    const auto most = static_cast<int64_t>(seqs.size()) * CeilDiv(p_.heads, kLanes);
    units_ = memory.Take<Unit>(most);
    float* query = memory.Take<float>(most * p_.k_dim * kLanes);
    int64_t room = kLatentFloats;
    for (const SeqSpan& seq : seqs) room = std::max(room, UnitFloats(seq));
    float* const weights = memory.Take<float>(room);
    int64_t used = 0;
    for (const SeqSpan& seq : seqs) {
      for (int64_t head = 0; head < p_.heads; head += kLanes) {
        if (used + UnitFloats(seq) > room) {
          Wave();
          used = 0;
        }
        units_[count_] = {.seq = &seq,
                          .first_head = head,
                          .heads = std::min(kLanes, p_.heads - head),
                          .first_task = tasks_,
                          .query = query + count_ * p_.k_dim * kLanes,
                          .weight = weights + used,
                          .sum = {}};
        tasks_ += Blocks(seq);
        used += UnitFloats(seq);
        ++count_;
      }
    }
    Wave();
    memory.Release(mark);
  }

 private:
  // Sixteen heads of a sequence.
  struct Unit {
    const SeqSpan* seq;
    int64_t first_head, heads;
    int64_t first_task;  // of its blocks
    float* query;        // [k_dim][16 heads]
    float* weight;       // [16 heads][keys, whole blocks]
    float sum[kLanes];
  };

  static int64_t Keys(const SeqSpan& seq) { return seq.start + 1; }
  static int64_t Blocks(const SeqSpan& seq) { return CeilDiv(Keys(seq), kKvBlock); }
  static int64_t UnitFloats(const SeqSpan& seq) { return kLanes * Blocks(seq) * kKvBlock; }

  template <typename Body>
  void Each(int64_t tasks, const Body& body) const {
    if (!serial_) return exec_.pool().For(tasks, body);
    for (int64_t task = 0; task < tasks; ++task) body(task, 0);
  }

  void Wave() {
    constexpr int64_t kHeadsATask = 4;
    const int64_t ranges = CeilDiv(p_.value_vecs(), kLatentVecs);
    Each(count_, [&](int64_t task, int) { TurnQuery(units_[task]); });
    Each(tasks_, [&](int64_t task, int worker) {
      int64_t u = 0;
      while (u + 1 < count_ && units_[u + 1].first_task <= task) ++u;
      Scores(units_[u], task - units_[u].first_task, exec_.scratch(worker));
    });
    Each(count_ * kLanes / kHeadsATask, [&](int64_t task, int) {
      Unit& u = units_[task * kHeadsATask / kLanes];
      const int64_t first = task * kHeadsATask % kLanes;
      for (int64_t h = first; h < std::min(first + kHeadsATask, u.heads); ++h) {
        u.sum[h] = p_.table.softmax(u.weight + h * Blocks(*u.seq) * kKvBlock, Keys(*u.seq));
      }
    });
    Each(count_ * ranges, [&](int64_t task, int worker) {
      Values(units_[task / ranges], task % ranges * kLatentVecs, exec_.scratch(worker));
    });
    count_ = tasks_ = 0;
  }

  // The heads that are not there stay zero.
  void TurnQuery(const Unit& u) const {
    const float* from = p_.q.row(u.seq->first_row) + u.first_head * p_.k_dim;
    if (u.heads == kLanes) return p_.table.transpose_f32(from, p_.k_dim, p_.k_dim, u.query);
    std::fill_n(u.query, p_.k_dim * kLanes, 0.0f);
    for (int64_t h = 0; h < u.heads; ++h) {
      for (int64_t d = 0; d < p_.k_dim; ++d) u.query[d * kLanes + h] = from[h * p_.k_dim + d];
    }
  }

  void Scores(const Unit& u, int64_t block, Workspace& memory) const {
    memory.Reset();
    float* rows = memory.Take<float>(kTileRows * p_.k_dim);
    alignas(64) float score[kKvBlock * kLanes] = {};  // [key][head]
    alignas(64) float turned[kLanes * kKvBlock];      // [head][key]
    const std::byte* keys = p_.Block(*u.seq, block);
    const int64_t count = std::min(kKvBlock, Keys(*u.seq) - block * kKvBlock);
    const int64_t groups = CeilDiv(count, kTileRows);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * count / groups, end = (g + 1) * count / groups;
      ScoreArgs args = {.q = {},
                        .rows = end - begin,
                        .k_dim = p_.k_dim,
                        .keys = {reinterpret_cast<const std::byte*>(u.query), nullptr, 0},
                        .blocks = 1,
                        .scale = p_.scale,
                        .out = score + begin * kLanes,
                        .out_stride = kLanes};
      for (int64_t key = begin; key < end; ++key) {
        args.q[key - begin] = Row(keys, key, rows + (key - begin) * p_.k_dim);
      }
      p_.table.scores_f32(args);
    }
    p_.table.transpose_f32(score, kLanes, kLanes, turned);
    const int64_t stride = Blocks(*u.seq) * kKvBlock;
    for (int64_t h = 0; h < u.heads; ++h) {
      std::copy_n(turned + h * kKvBlock, kKvBlock, u.weight + h * stride + block * kKvBlock);
    }
  }

  // A cached row as floats: where it lies, or at `wide`.
  const float* Row(const std::byte* block, int64_t slot, float* wide) const {
    if (!p_.f16()) return reinterpret_cast<const float*>(block) + slot * p_.k_dim;
    p_.table.widen(reinterpret_cast<const uint16_t*>(block) + slot * p_.k_dim, p_.k_dim, wide);
    return wide;
  }

  void Values(const Unit& u, int64_t vec, Workspace& memory) const {
    constexpr int64_t kKeys = 128;  // a pass: 16 KiB of the cache stay for all heads
    const int64_t vecs = std::min(kLatentVecs, p_.value_vecs() - vec), cols = vecs * 16;
    const int64_t stride = Blocks(*u.seq) * kKvBlock, groups = CeilDiv(u.heads, kTileRows);
    const auto run = p_.f16() ? p_.table.values_f16 : p_.table.values_f32;
    memory.Reset();
    float* acc = memory.Take<float>(kLanes * cols);
    std::fill_n(acc, u.heads * cols, 0.0f);
    for (int64_t key = 0; key < Keys(*u.seq); key += kKeys) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t begin = g * u.heads / groups, end = (g + 1) * u.heads / groups;
        run({.weight = u.weight + begin * stride + key,
             .weight_stride = stride,
             .rows = end - begin,
             .values = {static_cast<const std::byte*>(p_.store.data) +
                            vec * 16 * KvTypeBytes(p_.store.type),
                        u.seq->blocks + key / kKvBlock, p_.store.block_bytes},
             .key_stride = p_.k_dim,
             .vec_stride = 16,
             .first = 0,
             .end = std::min(kKeys, Keys(*u.seq) - key),
             .vecs = vecs,
             .acc = acc + begin * cols,
             .acc_stride = cols});
      }
    }
    for (int64_t h = 0; h < u.heads; ++h) {
      p_.table.divide(acc + h * cols, u.sum[h], cols,
                      p_.out.row(u.seq->first_row) + (u.first_head + h) * p_.v_dim + vec * 16);
    }
  }

  const Exec& exec_;
  const Problem& p_;
  const bool serial_;
  Unit* units_ = nullptr;
  int64_t count_ = 0, tasks_ = 0;  // of the wave
};

}  // namespace

bool AttendsAlone(const Exec& exec, std::span<const SeqSpan> seqs, int64_t work_a_key) {
  constexpr int64_t kSerialWork = 1 << 15;  // multiply-adds under which waking threads costs more
  int64_t keys = 0;
  for (const SeqSpan& seq : seqs) keys += seq.rows * (seq.start + seq.rows);
  return keys * work_a_key < kSerialWork || exec.threads() == 1;
}

void LatentStep(const Exec& exec, std::span<const SeqSpan> seqs, const MlaShape& s,
                View2<const float> q, const KvStore& store, View2<float> out) {
  CHECK(s.latent % kLanes == 0);
  if (seqs.empty()) return;
  const Problem problem = {.table = Attention(exec.isa()),
                           .heads = s.heads,
                           .k_dim = s.latent + s.rope,
                           .v_dim = s.latent,
                           .scale = s.scale,
                           .q = q,
                           .store = store,
                           .out = out};
  const bool serial = AttendsAlone(exec, seqs, s.heads * (problem.k_dim + problem.v_dim));
  Step(exec, problem, serial).Run(seqs);
}

}  // namespace hadal::internal
