// Where parameters come from while a model is put together: a file, or a random generator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "formats/weight_file.h"
#include "model/config.h"
#include "model/model.h"
#include "tensor/dtype.h"

namespace hadal::internal {

// A parameter as stored. data is null when only the type is wanted (plans).
struct StoredMatrix {
  DType type = DType::kF32;
  const std::byte* data = nullptr;
  int64_t rows = 0, cols = 0;
  const float* fp8_scale = nullptr;  // [ceil(rows/128), ceil(cols/128)] when type is F8_E4M3
};

class ParamSource {
 public:
  virtual ~ParamSource() = default;
  virtual bool Has(const ParamSpec& spec) const = 0;
  // False for an expert that another rank keeps: its place in the model stays empty.
  virtual bool Kept(const ParamSpec&) const { return true; }
  // Valid until the next call. Errors name the tensor, what is wrong and what was wanted.
  virtual Result<StoredMatrix> Get(const ParamSpec& spec) = 0;
  // The bytes of a parameter are no longer needed; an error when the caller cancels.
  virtual Status Done(const ParamSpec& spec) = 0;
};

// The values of a stored matrix as f32, row-major.
Status Widen(const StoredMatrix& m, float* out);

// file outlives the source. with_data false: types and shapes only, no page is read.
std::unique_ptr<ParamSource> NewFileSource(const WeightFile& file, const ModelConfig& config,
                                           const LoadOptions& options, bool with_data);
// Random parameters; matrices in `type` where their rows hold whole blocks, else Q8_0 or F32.
// exec null: types only.
std::unique_ptr<ParamSource> NewRandomSource(const Exec* exec, DType type, uint64_t seed);

}  // namespace hadal::internal
