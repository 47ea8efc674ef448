// Shapes of models to benchmark without having their weights.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/thread_pool.h"
#include "formats/weight_file.h"
#include "model/config.h"
#include "tensor/dtype.h"

namespace hadal::cli {

// "v2-lite": DeepSeek-V2-Lite at half width. "smol": SmolLM2-135M. Errors list the names.
Result<ModelConfig> ShapeByName(const std::string& name);

// A GGUF of that shape with random weights N(0, 0.02) in `type`, without a tokenizer: for
// benchmarks of other programs on the same file.
Status WriteRandomGguf(ThreadPool& pool, const ModelConfig& config, DType type, uint64_t seed,
                       const std::string& path);
// The same under given metadata.
struct RandomWeights {
  DType type;
  uint64_t seed = 0;
};
Status WriteRandomGguf(ThreadPool& pool, const ModelConfig& config, const Metadata& metadata,
                       const RandomWeights& weights, const std::string& path);

}  // namespace hadal::cli
