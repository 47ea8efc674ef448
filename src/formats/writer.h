// Writing weight files. Tensors are handed over one at a time through a callback, so a model is
// never held twice; files appear under their final name only when complete.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/weight_file.h"
#include "tensor/dtype.h"

namespace hadal {

struct TensorSpec {
  std::string name;
  DType type;
  std::vector<int64_t> shape;  // outermost first
};
// Fills `out` (exactly the bytes of the spec's type and shape) with the contents of tensor `index`.
using TensorFill = std::function<Status(size_t index, std::span<std::byte> out)>;

// GGUF v3, alignment 32 (general.alignment honoured when the metadata states it).
Status WriteGguf(const std::string& path, const Metadata& metadata,
                 std::span<const TensorSpec> tensors, const TensorFill& fill);

// model.safetensors, or model-0000i-of-0000n.safetensors with an index when larger than
// max_shard_bytes. `texts` are further files of the folder (config.json, tokenizer.json, ...).
struct FolderText {
  std::string name, text;
};
Status WriteHuggingFaceFolder(const std::string& folder, std::span<const TensorSpec> tensors,
                              const TensorFill& fill, std::span<const FolderText> texts,
                              uint64_t max_shard_bytes = 5'000'000'000);

// One .safetensors file alone.
Status WriteSafetensors(const std::string& path, std::span<const TensorSpec> tensors,
                        const TensorFill& fill);

}  // namespace hadal
