// Attention of a layer: grouped-query, and multi-head latent in its expanded and absorbed forms.
#include <algorithm>

#include "kernels/matmul.h"
#include "kernels/ops.h"
#include "model/internal_config.h"
#include "model/internal_step.h"

namespace hadal::internal {
namespace {

// As many rows as heads times the rows: a norm per head.
View2<float> ByHead(View2<float> x, int64_t heads) {
  return {x.data, x.rows * heads, x.cols / heads};
}

}  // namespace

void Step::Attention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                     View2<float> y) const {
  const Workspace::Position mark = g.Mark();
  const int64_t v_dim = config.mla() ? config.v_dim : config.head_dim;
  View2<float> out = g.Matrix(x.rows, config.heads * v_dim);  // [T, H * Dv]
  if (config.mla()) {
    LatentAttention(w, x, store, out);
  } else {
    GroupedAttention(w, x, store, out);
  }
  const LinearPart o[] = {{w.o, w.o_bias, y}};
  g.Linear(out, o);  // [T, D]
  g.Release(mark);
}

void Step::GroupedAttention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                            View2<float> out) const {
  const ModelConfig& c = config;
  const int64_t d = c.head_dim;
  View2<float> q = g.Matrix(x.rows, c.heads * d);     // [T, H * Dk]
  View2<float> k = g.Matrix(x.rows, c.kv_heads * d);  // [T, Hkv * Dk]
  View2<float> v = g.Matrix(x.rows, c.kv_heads * d);  // [T, Hkv * Dk]
  const LinearPart parts[] = {{w.q, w.q_bias, q}, {w.k, w.k_bias, k}, {w.v, w.v_bias, v}};
  g.Linear(x, parts);
  if (c.qk_norm) {
    const View2<float> q_norm = g.Own(q), k_norm = g.Own(k);
    g.Norm(ByHead(q, c.heads), w.q_norm, c.norm_eps, ByHead(q_norm, c.heads));
    g.Norm(ByHead(k, c.kv_heads), w.k_norm, c.norm_eps, ByHead(k_norm, c.kv_heads));
    q = q_norm;
    k = k_norm;
  }
  g.Rotate(q, batch.positions, batch.rope, {c.heads, d, d, 0, c.rope_interleaved});
  g.Rotate(k, batch.positions, batch.rope, {c.kv_heads, d, d, 0, c.rope_interleaved});
  g.Attend(batch.spans, {c.heads, c.kv_heads, d, d, c.attention_scale()}, q, k, v, store, out);
}

// arXiv:2405.04434 eq. 37-47. Only the normalised latent and the rotated key are kept.
void Step::LatentAttention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                           View2<float> out) const {
  const ModelConfig& c = config;
  const int64_t dk = c.q_head_dim();
  View2<float> q = g.Matrix(x.rows, c.heads * dk);             // [T, H * (nope + rope)]
  View2<float> raw = g.Matrix(x.rows, c.latent + c.rope_dim);  // [T, latent + rope]
  const LinearPart latent = {w.kv_a, w.kv_a_bias, raw};
  if (c.q_latent > 0) {
    View2<float> cq = g.Matrix(x.rows, c.q_latent);  // [T, q_latent]
    const LinearPart parts[] = {{w.q_a, w.q_a_bias, cq}, latent};
    g.Linear(x, parts);
    const View2<float> normed = g.Own(cq);
    g.Norm(cq, w.q_a_norm, kLatentNormEps, normed);
    const LinearPart up[] = {{w.q_b, kNoBias, q}};
    g.Linear(normed, up);
  } else {
    const LinearPart parts[] = {{w.q, kNoBias, q}, latent};
    g.Linear(x, parts);
  }
  const View2<float> kv = g.Own(raw);  // [T, latent + rope]
  g.Norm(raw.Cols(0, c.latent), w.kv_a_norm, kLatentNormEps, kv.Cols(0, c.latent));
  g.Copy(raw.Cols(c.latent, c.rope_dim), kv.Cols(c.latent, c.rope_dim));
  g.Rotate(q, batch.positions, batch.rope,
           {c.heads, dk, c.rope_dim, c.nope_dim, c.rope_interleaved});
  g.Rotate(kv, batch.positions, batch.rope,
           {1, c.rope_dim, c.rope_dim, c.latent, c.rope_interleaved});
  if (g.training()) {
    KeptLatent(w, q, kv, store, out);
    return;
  }
  MlaWrite(g.exec, batch.spans, {c.heads, c.latent, c.rope_dim, c.attention_scale()}, kv, store);

  // Neighbours of one form go together; each form sees rows of its own from 0.
  for (size_t i = 0; i < batch.seqs.size();) {
    const bool expanded = batch.seqs[i].expanded;
    const int64_t first = batch.spans[i].first_row;
    const Workspace::Position mark = g.Mark();
    auto* spans = g.memory.Take<SeqSpan>(static_cast<int64_t>(batch.seqs.size() - i));
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
    g.Release(mark);
  }
}

// The expanded form as training runs it: whole documents, so that keys and values come straight
// from this step's latents and stay for the backward half. The bits are those of Expanded().
void Step::KeptLatent(const LayerWeights& w, View2<const float> q, View2<const float> kv,
                      const KvStore& store, View2<float> out) const {
  const ModelConfig& c = config;
  const int64_t dk = c.q_head_dim();
  View2<float> up = g.Matrix(q.rows, c.heads * (c.nope_dim + c.v_dim));  // [T, H * (nope + Dv)]
  View2<float> k = g.Matrix(q.rows, c.heads * dk);                       // [T, H * Dk]
  View2<float> v = g.Matrix(q.rows, c.heads * c.v_dim);                  // [T, H * Dv]
  g.ExpandLatent(kv.Cols(0, c.latent), w.kv_b, up);
  const int64_t row = c.nope_dim + c.v_dim;
  g.CopyHeads(up, {0, row}, k, {0, dk}, {c.heads, c.nope_dim});
  g.CopyHeads(up, {c.nope_dim, row}, v, {0, c.v_dim}, {c.heads, c.v_dim});
  g.CopyHeads(kv, {c.latent, 0}, k, {c.nope_dim, dk}, {c.heads, c.rope_dim});
  g.Attend(batch.spans, {c.heads, c.heads, dk, c.v_dim, c.attention_scale()}, q, k, v, store, out);
}

// q_i goes into the latent space (W_UK,i^T q_i), attention runs over the latents themselves, and
// the weighted latent comes back through W_UV,i.
void Step::Absorbed(const LayerWeights& w, std::span<const SeqSpan> spans, View2<const float> q,
                    const KvStore& store, View2<float> out) const {
  const ModelConfig& c = config;
  const int64_t dk = c.q_head_dim(), row = c.latent + c.rope_dim;
  View2<float> ql = g.memory.Matrix(q.rows, c.heads * row);      // [T, H * (latent + rope)]
  View2<float> z = g.memory.Matrix(q.rows, c.heads * c.latent);  // [T, H * latent]
  auto* jobs = g.memory.Take<MatMulJob>(c.heads);
  const std::span<const MatMulJob> all(jobs, static_cast<size_t>(c.heads));
  for (int64_t h = 0; h < c.heads; ++h) {
    jobs[h] = {&w.q_absorb[static_cast<size_t>(h)],
               q.Cols(h * dk, c.nope_dim),
               {},
               ql.Cols(h * row, c.latent)};
  }
  MatMulJobs(g.exec, all);
  g.CopyHeads(q, {c.nope_dim, dk}, ql, {c.latent, row}, {c.heads, c.rope_dim});
  MlaAttention(g.exec, spans, {c.heads, c.latent, c.rope_dim, c.attention_scale()}, ql, store, z);
  for (int64_t h = 0; h < c.heads; ++h) {
    jobs[h] = {&w.v_up[static_cast<size_t>(h)],
               z.Cols(h * c.latent, c.latent),
               {},
               out.Cols(h * c.v_dim, c.v_dim)};
  }
  MatMulJobs(g.exec, all);
}

// Keys and values of all positions so far come back out of the cached latents, some heads at a
// time. Reading them from the cache, not from this step, makes a prefix hit give the same bits.
void Step::Expanded(const LayerWeights& w, std::span<const SeqSpan> spans, View2<const float> q,
                    const KvStore& store, View2<float> out) const {
  const ModelConfig& c = config;
  const int64_t dk = c.q_head_dim();
  int64_t blocks = 0;
  for (const SeqSpan& s : spans) blocks += (s.start + s.rows + kKvBlock - 1) / kKvBlock;
  auto* table = g.memory.Take<int32_t>(blocks);
  for (int64_t b = 0; b < blocks; ++b) table[b] = static_cast<int32_t>(b);
  auto* local = g.memory.Take<SeqSpan>(static_cast<int64_t>(spans.size()));
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
  expanded.data = g.memory.Take<float>(blocks * GqaBlockBytes(whole, KvType::kF32) / 4);
  for (int64_t head = 0; head < c.heads; head += group) {
    const int64_t heads = std::min(group, c.heads - head);
    const GqaShape shape = {heads, heads, dk, c.v_dim, whole.scale};
    expanded.block_bytes = GqaBlockBytes(shape, KvType::kF32);
    const auto at = static_cast<size_t>(head), n = static_cast<size_t>(heads);
    const auto k_up = std::span(w.k_up).subspan(at, n), v_up = std::span(w.v_up).subspan(at, n);
    for (size_t i = 0; i < spans.size(); ++i) {
      ExpandKeys(spans[i], local[i], k_up, v_up, store, expanded);
    }
    GqaAttention(g.exec, {local, spans.size()}, shape, q.Cols(head * dk, heads * dk), expanded,
                 out.Cols(head * c.v_dim, heads * c.v_dim));
  }
}

void Step::ExpandKeys(const SeqSpan& from, const SeqSpan& to, std::span<const PackedMatrix> k_up,
                      std::span<const PackedMatrix> v_up, const KvStore& store,
                      const KvStore& expanded) const {
  const ModelConfig& c = config;
  const auto heads = static_cast<int64_t>(k_up.size());
  const int64_t dk = c.q_head_dim(), total = from.start + from.rows;
  const GqaShape shape = {heads, heads, dk, c.v_dim, 0};
  const MlaShape latent_shape = {c.heads, c.latent, c.rope_dim, 0};
  for (int64_t first = 0; first < total; first += kExpandTile) {
    const Workspace::Position mark = g.memory.Mark();
    const int64_t rows = std::min(kExpandTile, total - first);
    View2<float> kv = g.memory.Matrix(rows, c.latent + c.rope_dim);  // [rows, latent + rope]
    View2<float> k = g.memory.Matrix(rows, heads * dk);              // [rows, H * (nope + rope)]
    View2<float> v = g.memory.Matrix(rows, heads * c.v_dim);         // [rows, H * Dv]
    MlaRead(g.exec, from.blocks + first / kKvBlock, rows, latent_shape, store, kv);
    auto* parts = g.memory.Take<MatMulPart>(2 * heads);
    for (int64_t h = 0; h < heads; ++h) {
      const auto i = static_cast<size_t>(h);
      parts[2 * h] = {&k_up[i], k.Cols(h * dk, c.nope_dim), {}};
      parts[2 * h + 1] = {&v_up[i], v.Cols(h * c.v_dim, c.v_dim), {}};
    }
    MatMulGroup(g.exec, kv.Cols(0, c.latent), {parts, static_cast<size_t>(2 * heads)});
    g.CopyHeads(kv, {c.latent, 0}, k, {c.nope_dim, dk}, {heads, c.rope_dim});
    const SeqSpan span = {to.blocks, first, 0, rows};
    GqaWrite(g.exec, {&span, 1}, shape, k, v, expanded);
    g.memory.Release(mark);
  }
}

}  // namespace hadal::internal
