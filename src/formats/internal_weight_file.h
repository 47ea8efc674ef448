// What the readers of this module share: the limits, the checks, the parts of an opened file.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/weight_file.h"
#include "formats/writer.h"
#include "tensor/dtype.h"

namespace hadal::internal {

// Limits on what a file may ask for, some way above the largest models known: V3 has 91,991 tensors
// in its Hugging Face folder, 1,086 in GGUF; the largest vocabulary with its merges makes 1.3
// million array elements. With them opening a file never takes over 64 MB beyond its size.
inline constexpr uint64_t kMaxGgufTensors = 1 << 16;
inline constexpr uint64_t kMaxFolderTensors = 1 << 18;
inline constexpr uint64_t kMaxMetadataKeys = 1 << 15;
inline constexpr uint64_t kMaxArrayElements = 1 << 21;  // in all arrays of a file together
inline constexpr uint64_t kMaxKeyBytes = 65535;         // the GGUF specification's own
inline constexpr uint64_t kMaxNameBytes = 1024;
inline constexpr uint64_t kMaxStringBytes = 16 << 20;
inline constexpr uint64_t kMaxAlignment = 1 << 20;
inline constexpr uint64_t kMaxGgufDims = 4;
inline constexpr uint64_t kMaxFolderDims = 8;
inline constexpr uint64_t kMaxParts = 2048;               // files of a split or sharded set
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the safetensors library's own
inline constexpr uint64_t kMaxTextBytes = 256 << 20;
inline constexpr int64_t kMaxElements = int64_t{1} << 56;  // times 8 bytes still fits 63 bits

// GGUF numbers of metadata value types.
enum GgufType : uint32_t {
  kGgufU8,
  kGgufI8,
  kGgufU16,
  kGgufI16,
  kGgufU32,
  kGgufI32,
  kGgufF32,
  kGgufBool,
  kGgufString,
  kGgufArray,
  kGgufU64,
  kGgufI64,
  kGgufF64,
  kGgufTypeCount,
};
// Bytes of a value in the file; of a string, of its length alone; 0 for an array.
inline constexpr uint64_t kGgufTypeBytes[kGgufTypeCount] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};

// A mapped file that knows which file on disk it is, so that later changes of it are seen.
class Part {
 public:
  // Refuses what is not a regular file (opening a pipe would wait for ever).
  static Result<Part> Open(const std::string& path);
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  const std::string& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }
  Status CheckIntact() const;

 private:
  explicit Part(MappedFile file) : file_(std::move(file)) {}
  MappedFile file_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  timespec modified_ = {};
};

// `text` between quotes, printable: control bytes and broken UTF-8 as \xNN, cut at 80 bytes.
std::string Quote(std::string_view text);
bool IsUtf8(std::string_view text);
// Tensor names and metadata keys: 1..max_bytes bytes of UTF-8 without control characters. `what`
// begins the error message.
Status CheckName(const std::string& what, std::string_view name, uint64_t max_bytes);
// A name of a file beside another: no slash, not "." or "..", no control characters.
bool IsPlainFileName(std::string_view name);
std::string FolderOf(const std::string& path);

// The bytes of a tensor. Errors (without naming the tensor): a dimension of zero or below, too many
// elements, a last dimension that is not a whole number of blocks.
Result<uint64_t> TensorBytes(DType type, std::span<const int64_t> shape);
std::string ShapeText(std::span<const int64_t> shape);

// Orders tensors by place in the file and refuses overlaps.
Status SortAndCheckOverlap(const std::string& path, std::vector<TensorInfo>& tensors);

struct GgufPart {
  Metadata metadata;
  std::vector<TensorInfo> tensors;
};
Result<GgufPart> ParseGguf(const std::string& path, std::span<const std::byte> bytes);

Result<std::vector<TensorInfo>> ParseSafetensors(const std::string& path,
                                                 std::span<const std::byte> bytes);

// model.safetensors.index.json: the shard files, and for each tensor the number of its shard.
struct ShardIndex {
  std::vector<std::string> files;
  std::vector<std::pair<std::string, uint32_t>> tensors;  // sorted by name
};
Result<ShardIndex> ParseShardIndex(const std::string& path, std::span<const std::byte> bytes);

// Appends tensor `index` of `bytes` bytes to a file that is being written.
Status WriteTensor(AtomicFile& file, const TensorSpec& spec, size_t index, uint64_t bytes,
                   const TensorFill& fill);

}  // namespace hadal::internal
