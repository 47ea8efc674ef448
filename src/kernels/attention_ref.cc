// The definitions of attention: plain loops in the stated order, slow, for tests and for reading.
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/ops.h"
#include "tensor/half.h"

namespace hadal {
namespace {

constexpr int64_t kLanes = 16;

float Element(const KvStore& store, int32_t block, int64_t index) {
  const std::byte* base = static_cast<const std::byte*>(store.data) + block * store.block_bytes;
  if (store.type == KvType::kF32) return reinterpret_cast<const float*>(base)[index];
  return F16ToF32(reinterpret_cast<const uint16_t*>(base)[index]);
}

// Turns scores into weights that are not yet divided; returns their sum.
float Exponentials(std::vector<float>& score) {
  float max = -std::numeric_limits<float>::infinity();
  for (const float s : score) max = s > max ? s : max;
  float lane[kLanes] = {};
  for (size_t j = 0; j < score.size(); ++j) {
    score[j] = ExpRef(score[j] - max);
    lane[j % kLanes] += score[j];
  }
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

// One row of one head over `keys` keys; key(j, d) and value(j, d) read the cache.
template <typename Key, typename Value>
void AttendRow(const float* q, int64_t keys, int64_t k_dim, int64_t v_dim, float scale,
               const Key& key, const Value& value, float* out) {
  std::vector<float> weight(static_cast<size_t>(keys));
  for (int64_t j = 0; j < keys; ++j) {
    float score = 0;
    for (int64_t d = 0; d < k_dim; ++d) score = std::fma(q[d], key(j, d), score);
    weight[static_cast<size_t>(j)] = score * scale;
  }
  const float sum = Exponentials(weight);
  for (int64_t d = 0; d < v_dim; ++d) {
    float acc = 0;
    for (int64_t j = 0; j < keys; ++j) {
      acc = std::fma(weight[static_cast<size_t>(j)], value(j, d), acc);
    }
    out[d] = acc / sum;
  }
}

}  // namespace

void GqaAttentionRef(std::span<const SeqSpan> seqs, const GqaShape& s, View2<const float> q,
                     const KvStore& store, View2<float> out) {
  const int64_t head_elements = kKvBlock * (s.k_dim + s.v_dim);
  for (const SeqSpan& seq : seqs) {
    for (int64_t r = 0; r < seq.rows; ++r) {
      for (int64_t h = 0; h < s.heads; ++h) {
        const int64_t base = h / (s.heads / s.kv_heads) * head_elements;
        AttendRow(
            q.row(seq.first_row + r) + h * s.k_dim, seq.start + r + 1, s.k_dim, s.v_dim, s.scale,
            [&](int64_t j, int64_t d) {
              return Element(store, seq.blocks[j / kKvBlock], base + d * kKvBlock + j % kKvBlock);
            },
            [&](int64_t j, int64_t d) {
              return Element(store, seq.blocks[j / kKvBlock],
                             base + kKvBlock * s.k_dim + j % kKvBlock * s.v_dim + d);
            },
            out.row(seq.first_row + r) + h * s.v_dim);
      }
    }
  }
}

void MlaAttentionRef(std::span<const SeqSpan> seqs, const MlaShape& s, View2<const float> q,
                     const KvStore& store, View2<float> out) {
  const int64_t width = s.latent + s.rope;
  for (const SeqSpan& seq : seqs) {
    for (int64_t r = 0; r < seq.rows; ++r) {
      for (int64_t h = 0; h < s.heads; ++h) {
        const auto element = [&](int64_t j, int64_t d) {
          return Element(store, seq.blocks[j / kKvBlock], j % kKvBlock * width + d);
        };
        AttendRow(q.row(seq.first_row + r) + h * width, seq.start + r + 1, width, s.latent, s.scale,
                  element, element, out.row(seq.first_row + r) + h * s.latent);
      }
    }
  }
}

}  // namespace hadal
