// The parameters of a model in training: f32 masters and their gradients, each in one flat piece:
// first those that every rank has, then routed experts, expert by expert, so that the experts of a
// rank are a run of what one rank alone would hold.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/weight_file.h"
#include "kernels/exec.h"
#include "model/config.h"
#include "model/expert_exchange.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace hadal {

// Parameters start at multiples of this many floats, so that shards and sums of squares cut at the
// same places whatever the number of ranks. What lies between stays zero.
inline constexpr int64_t kParameterBlock = 4096;

class Parameters {
 public:
  // Keeps the routed experts of `share` alone, but a gradient of theirs for each rank whose tokens
  // they see, so that sums run in the order of one rank that sees them one after the other.
  explicit Parameters(const ModelConfig& config, ExpertShare share = {});
  Parameters(Parameters&&) = default;

  struct Entry {
    ParamSpec spec;
    int64_t offset = 0, rows = 0, cols = 0;  // a vector is one row
    // False for the selection bias of the gate: it follows the load, not a gradient.
    bool trained = true;
    bool kept = true;  // false: an expert of another rank; it has no value and no gradient here
    bool matrix() const { return spec.shape.size() > 1; }
    int64_t size() const { return rows * cols; }
  };
  // As ListParams orders them.
  std::span<const Entry> entries() const { return entries_; }
  int64_t Find(std::string_view name) const;  // -1: none

  View2<float> value(int64_t index) const { return At(values_, index); }
  View2<float> gradient(int64_t index) const { return At(gradients_, index); }
  // Of a kept expert, by tokens of rank `source` of the share.
  View2<float> gradient(int64_t index, int64_t source) const;
  std::span<float> values() const { return {values_.as<float>(), static_cast<size_t>(size_)}; }
  // [common_size, then expert_size for each rank of the share]
  std::span<float> gradients() const {
    return {gradients_.as<float>(), gradients_.bytes() / sizeof(float)};
  }
  ExpertShare share() const { return share_; }
  int64_t size() const { return size_; }  // of what is kept, padding included
  int64_t common_size() const { return common_size_; }
  int64_t expert_size() const { return size_ - common_size_; }
  int64_t count() const { return count_; }  // parameters proper of the whole model

  // Matrices N(0, std), norms 1, biases 0: a function of the seed and the parameter's place alone.
  // Those that write to the residual stream (o_proj, down_proj) are divided by sqrt(2 * layers).
  void Initialise(const Exec& exec, uint64_t seed, float std);
  // Every parameter from a folder or file, widened to f32. Errors name the tensor.
  Status Read(const WeightFile& file, const ModelConfig& config);

 private:
  View2<float> At(const Buffer& b, int64_t index) const;
  std::vector<Entry> entries_;
  ExpertShare share_;
  int64_t common_size_ = 0, size_ = 0, count_ = 0;
  Buffer values_, gradients_;
};

}  // namespace hadal
