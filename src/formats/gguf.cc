// GGUF, versions 2 and 3 (little-endian):
//
//   magic "GGUF" | u32 version | u64 tensor count | u64 metadata count
//   metadata:  string key | u32 value type | value                        (count times)
//   tensors:   string name | u32 n_dims | u64 dims[n_dims] | u32 type | u64 offset
//   padding to the alignment, then the tensor data
//
//   string     u64 length | bytes, no terminator
//   value      types 0..12: u8 i8 u16 i16 u32 i32 f32 bool(1 byte) string array u64 i64 f64
//   array      u32 element type | u64 count | elements
//   dims       innermost first; TensorInfo has them outermost first
//   offset     from the start of the tensor data, a multiple of the alignment
//   alignment  metadata general.alignment (u32, a power of two), else 32
//
// Keys and tensor names must be UTF-8 without control characters. String values are bytes and kept
// as they are: vocabularies hold tokens that are not UTF-8. Bytes behind the last tensor are
// tolerated; gaps between tensors too; overlaps are not.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "formats/internal_weight_file.h"

namespace hadal::internal {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kHeaderBytes = 24;
// Shortest possible entries: an empty-named u8, and a tensor with a name of one byte and no dims.
constexpr uint64_t kMinMetadataBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 4 + 8;

// Reads the file from front to back. Every number is read once, so a file that changes under the
// mapping cannot pass a check with one value and be used with another.
class Cursor {
 public:
  Cursor(const std::string& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }

  Error Bad(const std::string& what) const { return {Code::kCorrupt, path_ + ": " + what}; }
  Error TooMuch(const std::string& what) const { return {Code::kLimit, path_ + ": " + what}; }

  // `what` names the thing being read, for the error message.
  template <typename T>
  Result<T> Number(const std::string& what) {
    T v;
    std::memcpy(&v, TRY(Take(what, sizeof v)), sizeof v);
    return v;
  }

  Result<const std::byte*> Take(const std::string& what, uint64_t size) {
    if (size > left()) return Cut(what, size);
    const std::byte* data = bytes_.data() + position_;
    position_ += size;
    return data;
  }

  Result<std::string> String(const std::string& what, uint64_t max_bytes) {
    const auto size = TRY(Number<uint64_t>(what));
    if (size > left()) {
      return Bad(what + ": string length " + std::to_string(size) + " exceeds the " +
                 std::to_string(left()) + " bytes left in the file; it is cut off or damaged");
    }
    if (size > max_bytes) {
      return TooMuch(what + ": string length " + std::to_string(size) + " exceeds the limit of " +
                     std::to_string(max_bytes));
    }
    return std::string(reinterpret_cast<const char*>(TRY(Take(what, size))), size);
  }

 private:
  Error Cut(const std::string& what, uint64_t need) const {
    return Bad(what + ": " + std::to_string(need) + " bytes wanted at byte " +
               std::to_string(position_) + ", but the file ends at " +
               std::to_string(bytes_.size()) + "; it is cut off or damaged");
  }

  const std::string& path_;
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

class Parser {
 public:
  Parser(const std::string& path, std::span<const std::byte> bytes)
      : path_(path), bytes_(bytes), in_(path, bytes) {}

  Result<GgufPart> Parse();

 private:
  Status ReadHeader();
  Status ReadMetadata();
  Status ReadTensor(uint64_t number);
  Status ReadTypeAndPlace(const std::string& what, TensorInfo& tensor, uint64_t& offset);
  Result<MetaValue> ReadValue(const std::string& what);
  Result<MetaArray> ReadArray(const std::string& what, uint32_t type);
  template <typename Wide, typename T>
  Result<MetaArray> ReadNumbers(const std::string& what, uint64_t count);
  Result<bool> ReadBool(const std::string& what);
  Status ReadAlignment();
  Status PlaceTensors();

  const std::string& path_;
  std::span<const std::byte> bytes_;
  Cursor in_;
  GgufPart part_;
  std::vector<uint64_t> offsets_;
  uint64_t tensor_count_ = 0, metadata_count_ = 0, array_elements_ = 0, alignment_ = 32;
};

Status Parser::ReadHeader() {
  if (bytes_.size() < kHeaderBytes || std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
    return in_.Bad("not a GGUF file: it does not start with a GGUF header");
  }
  TRY(in_.Number<uint32_t>("magic"));
  const auto version = TRY(in_.Number<uint32_t>("version"));
  if (version != 2 && version != 3) {
    const bool swapped = version != 0 && (version & 0xffff) == 0;
    return Error{Code::kUnsupported, path_ + ": GGUF version " + std::to_string(version) +
                                         (swapped ? ", a big-endian file" : "") +
                                         "; versions 2 and 3 can be read"};
  }
  tensor_count_ = TRY(in_.Number<uint64_t>("tensor count"));
  metadata_count_ = TRY(in_.Number<uint64_t>("metadata count"));
  if (tensor_count_ > kMaxGgufTensors) {
    return in_.TooMuch("tensor count " + std::to_string(tensor_count_) + " exceeds the limit of " +
                       std::to_string(kMaxGgufTensors));
  }
  if (metadata_count_ > kMaxMetadataKeys) {
    return in_.TooMuch("metadata count " + std::to_string(metadata_count_) +
                       " exceeds the limit of " + std::to_string(kMaxMetadataKeys));
  }
  const uint64_t need = tensor_count_ * kMinTensorBytes + metadata_count_ * kMinMetadataBytes;
  if (need > in_.left()) {
    return in_.Bad("tensor count " + std::to_string(tensor_count_) + " and metadata count " +
                   std::to_string(metadata_count_) + " cannot fit in a file of " +
                   std::to_string(bytes_.size()) + " bytes; it is cut off or damaged");
  }
  return {};
}

Result<bool> Parser::ReadBool(const std::string& what) {
  const auto v = TRY(in_.Number<uint8_t>(what));
  if (v > 1) return in_.Bad(what + ": bool is " + std::to_string(v) + ", not 0 or 1");
  return v == 1;
}

template <typename Wide, typename T>
Result<MetaArray> Parser::ReadNumbers(const std::string& what, uint64_t count) {
  const std::byte* data = TRY(in_.Take(what, count * sizeof(T)));
  std::vector<Wide> values(count);
  for (uint64_t i = 0; i < count; ++i) {
    T v;
    std::memcpy(&v, data + i * sizeof v, sizeof v);
    values[i] = static_cast<Wide>(v);
  }
  return MetaArray(std::move(values));
}

Result<MetaArray> Parser::ReadArray(const std::string& what, uint32_t type) {
  if (type == kGgufArray) {
    return Error{Code::kUnsupported, path_ + ": " + what + ": an array of arrays is not supported"};
  }
  if (type >= kGgufTypeCount) {
    return in_.Bad(what + ": unknown array element type " + std::to_string(type));
  }
  const auto count = TRY(in_.Number<uint64_t>(what + ": array count"));
  if (count > in_.left() / kGgufTypeBytes[type]) {
    return in_.Bad(what + ": array count " + std::to_string(count) + " exceeds the " +
                   std::to_string(in_.left()) +
                   " bytes left in the file; it is cut off or damaged");
  }
  array_elements_ += count;
  if (array_elements_ > kMaxArrayElements) {
    return in_.TooMuch(what + ": array count " + std::to_string(count) +
                       " takes the file over the limit of " + std::to_string(kMaxArrayElements) +
                       " array elements");
  }
  switch (type) {
    case kGgufU8:
      return ReadNumbers<uint64_t, uint8_t>(what, count);
    case kGgufI8:
      return ReadNumbers<int64_t, int8_t>(what, count);
    case kGgufU16:
      return ReadNumbers<uint64_t, uint16_t>(what, count);
    case kGgufI16:
      return ReadNumbers<int64_t, int16_t>(what, count);
    case kGgufU32:
      return ReadNumbers<uint64_t, uint32_t>(what, count);
    case kGgufI32:
      return ReadNumbers<int64_t, int32_t>(what, count);
    case kGgufU64:
      return ReadNumbers<uint64_t, uint64_t>(what, count);
    case kGgufI64:
      return ReadNumbers<int64_t, int64_t>(what, count);
    case kGgufF32:
      return ReadNumbers<double, float>(what, count);
    case kGgufF64:
      return ReadNumbers<double, double>(what, count);
    case kGgufBool: {
      std::vector<bool> values;
      values.reserve(count);
      for (uint64_t i = 0; i < count; ++i) values.push_back(TRY(ReadBool(what)));
      return MetaArray(std::move(values));
    }
    default:
      break;
  }
  std::vector<std::string> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) values.push_back(TRY(in_.String(what, kMaxStringBytes)));
  return MetaArray(std::move(values));
}

Result<MetaValue> Parser::ReadValue(const std::string& what) {
  MetaValue v;
  v.gguf_type = TRY(in_.Number<uint32_t>(what + ": type"));
  switch (v.gguf_type) {
    case kGgufU8:
      v.value = uint64_t{TRY(in_.Number<uint8_t>(what))};
      break;
    case kGgufI8:
      v.value = int64_t{TRY(in_.Number<int8_t>(what))};
      break;
    case kGgufU16:
      v.value = uint64_t{TRY(in_.Number<uint16_t>(what))};
      break;
    case kGgufI16:
      v.value = int64_t{TRY(in_.Number<int16_t>(what))};
      break;
    case kGgufU32:
      v.value = uint64_t{TRY(in_.Number<uint32_t>(what))};
      break;
    case kGgufI32:
      v.value = int64_t{TRY(in_.Number<int32_t>(what))};
      break;
    case kGgufU64:
      v.value = TRY(in_.Number<uint64_t>(what));
      break;
    case kGgufI64:
      v.value = TRY(in_.Number<int64_t>(what));
      break;
    case kGgufF32:
      v.value = double{TRY(in_.Number<float>(what))};
      break;
    case kGgufF64:
      v.value = TRY(in_.Number<double>(what));
      break;
    case kGgufBool:
      v.value = TRY(ReadBool(what));
      break;
    case kGgufString:
      v.value = TRY(in_.String(what, kMaxStringBytes));
      break;
    case kGgufArray:
      v.array_type = TRY(in_.Number<uint32_t>(what + ": array element type"));
      v.value = TRY(ReadArray(what, v.array_type));
      break;
    default:
      return in_.Bad(what + ": unknown value type " + std::to_string(v.gguf_type));
  }
  return v;
}

Status Parser::ReadMetadata() {
  for (uint64_t i = 0; i < metadata_count_; ++i) {
    const std::string entry = "metadata key " + std::to_string(i);
    std::string key = TRY(in_.String(entry, kMaxKeyBytes));
    TRY(CheckName(path_ + ": " + entry, key, kMaxKeyBytes));
    const std::string what = "metadata key " + Quote(key);
    MetaValue value = TRY(ReadValue(what));
    if (!part_.metadata.emplace(std::move(key), std::move(value)).second) {
      return in_.Bad(what + ": stated twice");
    }
  }
  return {};
}

Status Parser::ReadAlignment() {
  const auto it = part_.metadata.find("general.alignment");
  if (it == part_.metadata.end()) return {};
  const auto* v = std::get_if<uint64_t>(&it->second.value);
  if (v == nullptr) return in_.Bad("metadata key \"general.alignment\": not of type u32");
  if (!std::has_single_bit(*v) || *v > kMaxAlignment) {
    return in_.Bad("metadata key \"general.alignment\": " + std::to_string(*v) +
                   " is not a power of two up to " + std::to_string(kMaxAlignment));
  }
  alignment_ = *v;
  return {};
}

Status Parser::ReadTypeAndPlace(const std::string& what, TensorInfo& tensor, uint64_t& offset) {
  const auto type = TRY(in_.Number<uint32_t>(what + ": type"));
  offset = TRY(in_.Number<uint64_t>(what + ": offset"));
  const std::optional<DType> known = DTypeFromGguf(type);
  if (!known) {
    return Error{Code::kUnsupported,
                 path_ + ": " + what + ": tensor type " + std::to_string(type) +
                     " is not supported; convert the model to another type, for example Q4_K"};
  }
  tensor.type = *known;
  if (offset % alignment_ != 0) {
    return in_.Bad(what + ": offset " + std::to_string(offset) +
                   " is not a multiple of the alignment " + std::to_string(alignment_));
  }
  return {};
}

Status Parser::ReadTensor(uint64_t number) {
  TensorInfo tensor;
  const std::string entry = "tensor " + std::to_string(number);
  tensor.name = TRY(in_.String(entry, kMaxNameBytes));
  TRY(CheckName(path_ + ": " + entry, tensor.name, kMaxNameBytes));
  const std::string what = "tensor " + Quote(tensor.name);
  const auto dims = TRY(in_.Number<uint32_t>(what + ": dimension count"));
  if (dims > kMaxGgufDims) {
    return in_.Bad(what + ": dimension count " + std::to_string(dims) + ", GGUF has at most " +
                   std::to_string(kMaxGgufDims));
  }
  for (uint32_t d = 0; d < dims; ++d) {
    const auto n = TRY(in_.Number<uint64_t>(what + ": dimension"));
    if (n > static_cast<uint64_t>(kMaxElements)) {
      return in_.Bad(what + ": dimension " + std::to_string(n) + " is impossibly large");
    }
    tensor.shape.push_back(static_cast<int64_t>(n));
  }
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  uint64_t offset = 0;
  TRY(ReadTypeAndPlace(what, tensor, offset));
  part_.tensors.push_back(std::move(tensor));
  offsets_.push_back(offset);
  return {};
}

Status Parser::PlaceTensors() {
  const uint64_t start = (in_.position() + alignment_ - 1) / alignment_ * alignment_;
  const uint64_t available = start < bytes_.size() ? bytes_.size() - start : 0;
  for (size_t i = 0; i < part_.tensors.size(); ++i) {
    TensorInfo& t = part_.tensors[i];
    const auto size = TensorBytes(t.type, t.shape);
    if (!size.ok()) {
      return Error{size.error().code,
                   path_ + ": tensor " + Quote(t.name) + ": " + size.error().message};
    }
    if (offsets_[i] > available || *size > available - offsets_[i]) {
      return in_.Bad("tensor " + Quote(t.name) + ": " + std::string(Info(t.type).name) + " " +
                     ShapeText(t.shape) + " needs " + std::to_string(*size) + " bytes at offset " +
                     std::to_string(offsets_[i]) + ", but the file holds " +
                     std::to_string(available) + " bytes of tensors; it is cut off or damaged");
    }
    t.bytes = bytes_.subspan(start + offsets_[i], *size);
  }
  return SortAndCheckOverlap(path_, part_.tensors);
}

Result<GgufPart> Parser::Parse() {
  TRY(ReadHeader());
  TRY(ReadMetadata());
  TRY(ReadAlignment());
  if (tensor_count_ * kMinTensorBytes > in_.left()) {
    return in_.Bad("tensor count " + std::to_string(tensor_count_) + " cannot fit in the " +
                   std::to_string(in_.left()) +
                   " bytes behind the metadata; the file is cut off or damaged");
  }
  part_.tensors.reserve(tensor_count_);
  offsets_.reserve(tensor_count_);
  for (uint64_t i = 0; i < tensor_count_; ++i) TRY(ReadTensor(i));
  TRY(PlaceTensors());
  return std::move(part_);
}

}  // namespace

Result<GgufPart> ParseGguf(const std::string& path, std::span<const std::byte> bytes) {
  return Parser(path, bytes).Parse();
}

}  // namespace hadal::internal
