// One forward step: the batch, laid out, and the blocks that layers are made of.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/exec.h"
#include "model/internal_model.h"
#include "model/model.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace hadal::internal {

// All sequences of a step one after the other: T rows.
struct Batch {
  int64_t tokens = 0;      // T
  int64_t logit_rows = 0;  // R
  std::span<const SeqInput> seqs;
  std::span<const SeqSpan> spans;        // [seqs]
  std::span<const int32_t> ids;          // [T]
  std::span<const int32_t> positions;    // [T]
  std::span<const int32_t> wanted_rows;  // [R]: rows whose logits are wanted, in order
  View2<const float> rope;               // [positions, RopeDim]
};

StepShape ShapeOf(const ModelConfig& config, std::span<const SeqInput> seqs);
// Lays the sequences out in `memory`. CHECKs token ids and lengths.
Batch LayOut(const ModelConfig& config, std::span<const SeqInput> seqs, Workspace& memory);

struct Step {
  const Exec& exec;
  const ModelConfig& config;
  Workspace& memory;
  const Batch& batch;
  RoutingTrace* trace;

  // x: [T, D], normalised -> y: [T, D]. Writes this step's keys and values to `store`.
  void Attention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                 View2<float> y) const;
  // x: [M, D], normalised -> y: [M, D].
  void FeedForward(const LayerWeights& w, View2<const float> x, View2<float> y) const;

 private:
  void GroupedAttention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                        View2<float> out) const;
  void LatentAttention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                       View2<float> out) const;
  void Absorbed(const LayerWeights& w, std::span<const SeqSpan> spans, View2<const float> q,
                const KvStore& store, View2<float> out) const;
  void Expanded(const LayerWeights& w, std::span<const SeqSpan> spans, View2<const float> q,
                const KvStore& store, View2<float> out) const;
  void ExpandKeys(const LayerWeights& w, const SeqSpan& from, const SeqSpan& to,
                  std::span<const PackedMatrix> k_up, std::span<const PackedMatrix> v_up,
                  const KvStore& store, const KvStore& expanded) const;
  void SwiGluBlock(const SwiGluWeights& w, View2<const float> x, View2<float> y) const;
};

}  // namespace hadal::internal
