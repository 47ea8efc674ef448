// Attention of a layer: grouped-query, and multi-head latent in its expanded and absorbed forms.
#include <algorithm>

#include "kernels/matmul.h"
#include "kernels/ops.h"
#include "model/internal_config.h"
#include "model/internal_step.h"

namespace hadal::internal {
namespace {

// Copies `cols` columns per head from one row layout to another.
struct HeadColumns {
  int64_t offset, stride;  // first column of head 0; columns from head to head
};
void CopyHeads(const Exec& exec, View2<const float> from, HeadColumns source, View2<float> to,
               HeadColumns target, int64_t heads, int64_t cols) {
  exec.pool().For(from.rows, [&](int64_t t, int) {
    const float* in = from.row(t) + source.offset;
    float* out = to.row(t) + target.offset;
    for (int64_t h = 0; h < heads; ++h) {
      std::copy_n(in + h * source.stride, cols, out + h * target.stride);
    }
  });
}

// As many rows as heads times the rows: a norm per head.
View2<float> ByHead(View2<float> x, int64_t heads) {
  return {x.data, x.rows * heads, x.cols / heads};
}

}  // namespace

void Step::Attention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                     View2<float> y) const {
  const Workspace::Position mark = memory.Mark();
  const int64_t v_dim = config.mla() ? config.v_dim : config.head_dim;
  View2<float> out = memory.Matrix(x.rows, config.heads * v_dim);  // [T, H * Dv]
  if (config.mla()) {
    LatentAttention(w, x, store, out);
  } else {
    GroupedAttention(w, x, store, out);
  }
  MatMul(exec, out, w.o, y, w.o_bias);  // [T, D]
  memory.Release(mark);
}

void Step::GroupedAttention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                            View2<float> out) const {
  const ModelConfig& c = config;
  const int64_t d = c.head_dim;
  View2<float> q = memory.Matrix(x.rows, c.heads * d);     // [T, H * Dk]
  View2<float> k = memory.Matrix(x.rows, c.kv_heads * d);  // [T, Hkv * Dk]
  View2<float> v = memory.Matrix(x.rows, c.kv_heads * d);  // [T, Hkv * Dk]
  const MatMulPart parts[] = {{&w.q, q, w.q_bias}, {&w.k, k, w.k_bias}, {&w.v, v, w.v_bias}};
  MatMulGroup(exec, x, parts);
  if (c.qk_norm) {
    const View2<float> q_heads = ByHead(q, c.heads), k_heads = ByHead(k, c.kv_heads);
    RmsNorm(exec, q_heads, w.q_norm, c.norm_eps, q_heads);
    RmsNorm(exec, k_heads, w.k_norm, c.norm_eps, k_heads);
  }
  Rope(exec, q, batch.positions, batch.rope, {c.heads, d, d, 0, c.rope_interleaved});
  Rope(exec, k, batch.positions, batch.rope, {c.kv_heads, d, d, 0, c.rope_interleaved});
  const GqaShape shape = {c.heads, c.kv_heads, d, d, c.attention_scale()};
  GqaWrite(exec, batch.spans, shape, k, v, store);
  GqaAttention(exec, batch.spans, shape, q, store, out);
}

// arXiv:2405.04434 eq. 37-47. Only the normalised latent and the rotated key are kept.
void Step::LatentAttention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                           View2<float> out) const {
  const ModelConfig& c = config;
  const int64_t dk = c.q_head_dim();
  View2<float> q = memory.Matrix(x.rows, c.heads * dk);            // [T, H * (nope + rope)]
  View2<float> kv = memory.Matrix(x.rows, c.latent + c.rope_dim);  // [T, latent + rope]
  if (c.q_latent > 0) {
    View2<float> cq = memory.Matrix(x.rows, c.q_latent);  // [T, q_latent]
    const MatMulPart parts[] = {{&w.q_a, cq, w.q_a_bias}, {&w.kv_a, kv, w.kv_a_bias}};
    MatMulGroup(exec, x, parts);
    RmsNorm(exec, cq, w.q_a_norm, kLatentNormEps, cq);
    MatMul(exec, cq, w.q_b, q);
  } else {
    const MatMulPart parts[] = {{&w.q, q, {}}, {&w.kv_a, kv, w.kv_a_bias}};
    MatMulGroup(exec, x, parts);
  }
  const View2<float> latent = kv.Cols(0, c.latent);  // [T, latent]
  RmsNorm(exec, latent, w.kv_a_norm, kLatentNormEps, latent);
  Rope(exec, q, batch.positions, batch.rope,
       {c.heads, dk, c.rope_dim, c.nope_dim, c.rope_interleaved});
  Rope(exec, kv, batch.positions, batch.rope,
       {1, c.rope_dim, c.rope_dim, c.latent, c.rope_interleaved});
  MlaWrite(exec, batch.spans, {c.heads, c.latent, c.rope_dim, c.attention_scale()}, kv, store);

  // Neighbours of one form go together; each form sees rows of its own from 0.
  for (size_t i = 0; i < batch.seqs.size();) {
    const bool expanded = batch.seqs[i].expanded;
    const int64_t first = batch.spans[i].first_row;
    const Workspace::Position mark = memory.Mark();
    auto* spans = memory.Take<SeqSpan>(static_cast<int64_t>(batch.seqs.size() - i));
    size_t count = 0;
    int64_t rows = 0;
    for (; i < batch.seqs.size() && batch.seqs[i].expanded == expanded; ++i) {
      spans[count] = batch.spans[i];
      spans[count++].first_row = rows;
      rows += batch.spans[i].rows;
    }
    const std::span<const SeqSpan> run(spans, count);
    if (expanded) {
      Expanded(w, run, q.Rows(first, rows), store, out.Rows(first, rows));
    } else {
      Absorbed(w, run, q.Rows(first, rows), store, out.Rows(first, rows));
    }
    memory.Release(mark);
  }
}

// q_i goes into the latent space (W_UK,i^T q_i), attention runs over the latents themselves, and
// the weighted latent comes back through W_UV,i.
void Step::Absorbed(const LayerWeights& w, std::span<const SeqSpan> spans, View2<const float> q,
                    const KvStore& store, View2<float> out) const {
  const ModelConfig& c = config;
  const int64_t dk = c.q_head_dim(), row = c.latent + c.rope_dim;
  View2<float> ql = memory.Matrix(q.rows, c.heads * row);      // [T, H * (latent + rope)]
  View2<float> z = memory.Matrix(q.rows, c.heads * c.latent);  // [T, H * latent]
  auto* jobs = memory.Take<MatMulJob>(c.heads);
  const std::span<const MatMulJob> all(jobs, static_cast<size_t>(c.heads));
  for (int64_t h = 0; h < c.heads; ++h) {
    jobs[h] = {&w.q_absorb[static_cast<size_t>(h)],
               q.Cols(h * dk, c.nope_dim),
               {},
               ql.Cols(h * row, c.latent)};
  }
  MatMulJobs(exec, all);
  CopyHeads(exec, q, {c.nope_dim, dk}, ql, {c.latent, row}, c.heads, c.rope_dim);
  MlaAttention(exec, spans, {c.heads, c.latent, c.rope_dim, c.attention_scale()}, ql, store, z);
  for (int64_t h = 0; h < c.heads; ++h) {
    jobs[h] = {&w.v_up[static_cast<size_t>(h)],
               z.Cols(h * c.latent, c.latent),
               {},
               out.Cols(h * c.v_dim, c.v_dim)};
  }
  MatMulJobs(exec, all);
}

// Keys and values of all positions so far come back out of the cached latents, some heads at a
// time. Reading them from the cache, not from this step, makes a prefix hit give the same bits.
void Step::Expanded(const LayerWeights& w, std::span<const SeqSpan> spans, View2<const float> q,
                    const KvStore& store, View2<float> out) const {
  const ModelConfig& c = config;
  const int64_t dk = c.q_head_dim();
  int64_t blocks = 0;
  for (const SeqSpan& s : spans) blocks += (s.start + s.rows + kKvBlock - 1) / kKvBlock;
  auto* table = memory.Take<int32_t>(blocks);
  for (int64_t b = 0; b < blocks; ++b) table[b] = static_cast<int32_t>(b);
  auto* local = memory.Take<SeqSpan>(static_cast<int64_t>(spans.size()));
  int64_t used = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    local[i] = spans[i];
    local[i].blocks = table + used;
    used += (spans[i].start + spans[i].rows + kKvBlock - 1) / kKvBlock;
  }

  const int64_t group = ExpandHeads(c, blocks * kKvBlock);
  const GqaShape whole = {group, group, dk, c.v_dim, c.attention_scale()};
  KvStore expanded;
  expanded.type = KvType::kF32;
  expanded.data = memory.Take<float>(blocks * GqaBlockBytes(whole, KvType::kF32) / 4);
  for (int64_t head = 0; head < c.heads; head += group) {
    const int64_t heads = std::min(group, c.heads - head);
    const GqaShape shape = {heads, heads, dk, c.v_dim, whole.scale};
    expanded.block_bytes = GqaBlockBytes(shape, KvType::kF32);
    const auto at = static_cast<size_t>(head), n = static_cast<size_t>(heads);
    const auto k_up = std::span(w.k_up).subspan(at, n), v_up = std::span(w.v_up).subspan(at, n);
    for (size_t i = 0; i < spans.size(); ++i) {
      ExpandKeys(w, spans[i], local[i], k_up, v_up, store, expanded);
    }
    GqaAttention(exec, {local, spans.size()}, shape, q.Cols(head * dk, heads * dk), expanded,
                 out.Cols(head * c.v_dim, heads * c.v_dim));
  }
}

void Step::ExpandKeys(const LayerWeights&, const SeqSpan& from, const SeqSpan& to,
                      std::span<const PackedMatrix> k_up, std::span<const PackedMatrix> v_up,
                      const KvStore& store, const KvStore& expanded) const {
  const ModelConfig& c = config;
  const auto heads = static_cast<int64_t>(k_up.size());
  const int64_t dk = c.q_head_dim(), total = from.start + from.rows;
  const GqaShape shape = {heads, heads, dk, c.v_dim, 0};
  const MlaShape latent_shape = {c.heads, c.latent, c.rope_dim, 0};
  for (int64_t first = 0; first < total; first += kExpandTile) {
    const Workspace::Position mark = memory.Mark();
    const int64_t rows = std::min(kExpandTile, total - first);
    View2<float> kv = memory.Matrix(rows, c.latent + c.rope_dim);  // [rows, latent + rope]
    View2<float> k = memory.Matrix(rows, heads * dk);              // [rows, H * (nope + rope)]
    View2<float> v = memory.Matrix(rows, heads * c.v_dim);         // [rows, H * Dv]
    MlaRead(exec, from.blocks + first / kKvBlock, rows, latent_shape, store, kv);
    auto* parts = memory.Take<MatMulPart>(2 * heads);
    for (int64_t h = 0; h < heads; ++h) {
      const auto i = static_cast<size_t>(h);
      parts[2 * h] = {&k_up[i], k.Cols(h * dk, c.nope_dim), {}};
      parts[2 * h + 1] = {&v_up[i], v.Cols(h * c.v_dim, c.v_dim), {}};
    }
    MatMulGroup(exec, kv.Cols(0, c.latent), {parts, static_cast<size_t>(2 * heads)});
    CopyHeads(exec, kv, {c.latent, 0}, k, {c.nope_dim, dk}, heads, c.rope_dim);
    const SeqSpan span = {to.blocks, first, 0, rows};
    GqaWrite(exec, {&span, 1}, shape, k, v, expanded);
    memory.Release(mark);
  }
}

}  // namespace hadal::internal
