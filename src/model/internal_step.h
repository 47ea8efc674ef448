// One forward step: the batch, laid out, and the blocks that layers are made of.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/exec.h"
#include "model/internal_graph.h"
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

// The first layer after which a row held NaN or Inf, for each row; -1: none so far.
class FiniteWatch {
 public:
  FiniteWatch(const Exec& exec, int64_t rows, Workspace& memory);
  // rows: which rows of the batch x holds; empty: all.
  void Look(View2<const float> x, std::span<const int32_t> rows, int64_t layer);
  // For each row with logits the first layer that spoilt it or an earlier row of its sequence.
  std::span<const int32_t> Report(const Batch& batch, Workspace& memory) const;
  // The first layer that spoilt any row; -1: none did.
  int64_t First() const;

 private:
  const Exec& exec_;
  std::span<int32_t> first_;
  std::span<uint8_t> ok_;
};

// Where keys and values of a layer go: the engine's cache, or, in training, one store that the
// layers use in turn.
struct KvStores {
  const KvCache* cache = nullptr;
  KvStore shared;
  KvStore layer(int64_t index) const { return cache != nullptr ? cache->layer(index) : shared; }
};

// The norm and the matrix that make logits of a hidden state.
struct Logits {
  const Vector& norm;
  const Weight& head;
};

struct Step {
  const Graph& g;
  const ModelConfig& config;
  const Batch& batch;
  RoutingTrace* trace;

  // ids -> the residual stream after the last layer, [T, D], or [R, D] with only the wanted rows
  // when a later layer needs no others and the graph does not record.
  View2<float> Layers(const ModelWeights& weights, const KvStores& stores,
                      FiniteWatch& watch) const;
  // The MTP block over hidden [T, D], the residual stream at the positions of this batch.
  View2<float> Mtp(const ModelWeights& weights, View2<const float> hidden, const KvStore& store,
                   FiniteWatch& watch) const;

 private:
  // The residual stream and its norm.
  struct Stream {
    View2<float> x, h;
  };
  Stream Layer(const ModelWeights& weights, int64_t index, const KvStore& store, Stream s,
               std::span<const int32_t>& rows, const Stream* into) const;
  Stream RecordedLayer(const ModelWeights& weights, int64_t index, const KvStores& stores,
                       Stream s) const;
  Stream Sum(Stream s, View2<const float> y, const Vector& norm,
             const Stream* into = nullptr) const;
  // x: [T, D], normalised -> y: [T, D]. Writes this step's keys and values to `store`.
  void Attention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                 View2<float> y) const;
  // x: [M, D], normalised -> y: [M, D].
  void FeedForward(const LayerWeights& w, View2<const float> x, View2<float> y) const;
  void GroupedAttention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                        View2<float> out) const;
  void LatentAttention(const LayerWeights& w, View2<const float> x, const KvStore& store,
                       View2<float> out) const;
  void KeptLatent(const LayerWeights& w, View2<const float> q, View2<const float> kv,
                  const KvStore& store, View2<float> out) const;
  void Absorbed(const LayerWeights& w, std::span<const SeqSpan> spans, View2<const float> q,
                const KvStore& store, View2<float> out) const;
  void Expanded(const LayerWeights& w, std::span<const SeqSpan> spans, View2<const float> q,
                const KvStore& store, View2<float> out) const;
  void ExpandKeys(const SeqSpan& from, const SeqSpan& to, std::span<const PackedMatrix> k_up,
                  std::span<const PackedMatrix> v_up, const KvStore& store,
                  const KvStore& expanded) const;
  void SwiGluBlock(const SwiGluWeights& w, View2<const float> x, View2<float> y) const;
};

}  // namespace hadal::internal
