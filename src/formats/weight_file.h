// One front door to the world's weight files: GGUF (v2, v3, single or split) and Hugging Face
// folders (safetensors single or sharded by index). Opening maps files and checks every size,
// offset, name and overlap; nothing is read ahead and nothing is copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace hadal {

// One tensor, row-major, outermost dimension first (as Hugging Face writes shapes; GGUF's reversed
// order is turned round on reading).
struct TensorInfo {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // in the mapped file, at any address: no alignment promised

  int64_t elements() const;
  int64_t rows() const;  // product of all but the last dimension
  int64_t cols() const;  // the last dimension
};

// A GGUF metadata value. Arrays are homogeneous; nested arrays are refused on reading. Keys are
// UTF-8; strings are the bytes of the file, UTF-8 or not (vocabularies hold both).
using MetaArray = std::variant<std::vector<int64_t>, std::vector<uint64_t>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string>>;
struct MetaValue {
  uint32_t gguf_type = 0;   // as in the file, so that writing it again keeps the exact type
  uint32_t array_type = 0;  // element type when gguf_type is array (9)
  std::variant<int64_t, uint64_t, double, bool, std::string, MetaArray> value;
};
using Metadata = std::map<std::string, MetaValue>;

class WeightFile {
 public:
  enum class Kind { kGguf, kHuggingFace };

  // path: a GGUF file (any part of a split set opens the whole set, whose split.* keys are left
  // out), a folder with config.json and safetensors, or a .safetensors file alone. Of a folder that
  // holds both, model.safetensors goes before an index, as in transformers.
  //
  // Refused: counts, lengths, dimensions and offsets that do not fit the file, names stated twice,
  // overlaps, dimensions of zero, unknown types, names that are not UTF-8 or hold control
  // characters, parts that contradict each other, and whatever exceeds the limits in
  // internal_weight_file.h. Opening takes at most 64 MB beyond the size of the file.
  //
  // A name inside an index must be plain: no slash, not "..". The file of that name may itself be a
  // symbolic link to anywhere, as in the cache of huggingface_hub: whoever made the folder put it
  // there, a downloaded index cannot.
  static Result<WeightFile> Open(const std::string& path);
  WeightFile(WeightFile&&) noexcept;
  WeightFile& operator=(WeightFile&&) noexcept;
  ~WeightFile();

  Kind kind() const;
  const std::string& path() const;
  std::span<const TensorInfo> tensors() const;
  const TensorInfo* Find(std::string_view name) const;

  const Metadata& metadata() const;  // GGUF only, else empty
  // Text of a file beside the weights (config.json, tokenizer.json, ...): Hugging Face only.
  // Bounded in size, never outside the folder.
  Result<std::string> ReadText(std::string_view file_name) const;

  // Tells the system that a tensor's pages will not be read again.
  void Drop(const TensorInfo& tensor) const;
  // An error when a mapped file was cut off or written to since it was opened; one that was deleted
  // or replaced keeps its contents here. Check after reading tensors.
  Status CheckIntact() const;

 private:
  struct Impl;
  explicit WeightFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Typed look-ups. Missing key: nullopt; present with another type: an error naming the key.
Result<std::optional<uint64_t>> MetaUint(const Metadata& m, std::string_view key);
Result<std::optional<double>> MetaFloat(const Metadata& m, std::string_view key);
Result<std::optional<bool>> MetaBool(const Metadata& m, std::string_view key);
Result<std::optional<std::string>> MetaString(const Metadata& m, std::string_view key);
const MetaArray* MetaFindArray(const Metadata& m, std::string_view key);

}  // namespace hadal
