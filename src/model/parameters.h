// The parameters of a model in training: f32 masters and their gradients, each in one flat piece.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/weight_file.h"
#include "kernels/exec.h"
#include "model/config.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace hadal {

// Parameters start at multiples of this many floats, so that shards and sums of squares cut at the
// same places whatever the number of ranks. What lies between stays zero.
inline constexpr int64_t kParameterBlock = 4096;

class Parameters {
 public:
  explicit Parameters(const ModelConfig& config);
  Parameters(Parameters&&) = default;

  struct Entry {
    ParamSpec spec;
    int64_t offset = 0, rows = 0, cols = 0;  // a vector is one row
    // False for the selection bias of the gate: it follows the load, not a gradient.
    bool trained = true;
    bool matrix() const { return spec.shape.size() > 1; }
    int64_t size() const { return rows * cols; }
  };
  // As ListParams orders them.
  std::span<const Entry> entries() const { return entries_; }
  int64_t Find(std::string_view name) const;  // -1: none

  View2<float> value(int64_t index) const { return At(values_, index); }
  View2<float> gradient(int64_t index) const { return At(gradients_, index); }
  std::span<float> values() const { return Flat(values_); }
  std::span<float> gradients() const { return Flat(gradients_); }
  int64_t size() const { return size_; }    // padding included
  int64_t count() const { return count_; }  // parameters proper

  // Matrices N(0, std), norms 1, biases 0: a function of the seed and the parameter's place alone.
  // Those that write to the residual stream (o_proj, down_proj) are divided by sqrt(2 * layers).
  void Initialise(const Exec& exec, uint64_t seed, float std);
  // Every parameter from a folder or file, widened to f32. Errors name the tensor.
  Status Read(const WeightFile& file, const ModelConfig& config);

 private:
  View2<float> At(const Buffer& b, int64_t index) const;
  std::span<float> Flat(const Buffer& b) const {
    return {b.as<float>(), static_cast<size_t>(size_)};
  }
  std::vector<Entry> entries_;
  int64_t size_ = 0, count_ = 0;
  Buffer values_, gradients_;
};

}  // namespace hadal
