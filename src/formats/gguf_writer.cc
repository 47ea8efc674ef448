// Writes GGUF version 3 (the format stands in gguf.cc). Offsets and sizes are padded to the
// alignment, the last tensor too: llama.cpp reads the padded size of each.
#include <algorithm>
#include <limits>
#include <new>
#include <set>
#include <type_traits>

#include "base/file.h"
#include "formats/internal_weight_file.h"
#include "formats/writer.h"

namespace hadal {
namespace {

using internal::GgufType;
using internal::Quote;

// ggml keeps names in 64 bytes with the terminator.
constexpr uint64_t kMaxWrittenName = 63;
constexpr uint64_t kDefaultAlignment = 32;

uint64_t RoundUp(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

class HeaderWriter {
 public:
  explicit HeaderWriter(AtomicFile& file) : file_(file) {}

  template <typename T>
  Status Number(T v) {
    static_assert(std::is_arithmetic_v<T>);
    return file_.Write(&v, sizeof v);
  }
  Status String(const std::string& text) {
    TRY(Number(static_cast<uint64_t>(text.size())));
    return file_.Write(text);
  }
  Status Value(const std::string& key, const MetaValue& v);

 private:
  template <typename T>
  Status Scalar(uint32_t type, T v);
  Status Element(uint32_t type, int64_t v) { return Scalar(type, v); }
  Status Element(uint32_t type, uint64_t v) { return Scalar(type, v); }
  Status Element(uint32_t type, double v) { return Scalar(type, v); }
  Status Element(uint32_t type, bool v) {
    return type == GgufType::kGgufBool ? Number(static_cast<uint8_t>(v)) : Mismatch();
  }
  Status Element(uint32_t type, const std::string& v) {
    return type == GgufType::kGgufString ? String(v) : Mismatch();
  }
  template <typename To, typename T>
  Status Exact(T v);
  static Error Mismatch() { return {Code::kInvalid, "the value is not of its stated type"}; }

  AtomicFile& file_;
};

template <typename To, typename T>
Status HeaderWriter::Exact(T v) {
  // A NaN is kept although it equals nothing.
  const auto narrow = static_cast<To>(v);
  if constexpr (std::is_floating_point_v<T> != std::is_floating_point_v<To>) {
    return Mismatch();
  } else {
    const bool sign_kept = std::is_signed_v<T> == std::is_signed_v<To>;
    if (!sign_kept || (static_cast<T>(narrow) != v && v == v)) return Mismatch();
    return Number(narrow);
  }
}

template <typename T>
Status HeaderWriter::Scalar(uint32_t type, T v) {
  switch (type) {
    case internal::kGgufU8:
      return Exact<uint8_t>(v);
    case internal::kGgufI8:
      return Exact<int8_t>(v);
    case internal::kGgufU16:
      return Exact<uint16_t>(v);
    case internal::kGgufI16:
      return Exact<int16_t>(v);
    case internal::kGgufU32:
      return Exact<uint32_t>(v);
    case internal::kGgufI32:
      return Exact<int32_t>(v);
    case internal::kGgufU64:
      return Exact<uint64_t>(v);
    case internal::kGgufI64:
      return Exact<int64_t>(v);
    case internal::kGgufF32:
      return Exact<float>(v);
    case internal::kGgufF64:
      return Exact<double>(v);
    default:
      return Mismatch();
  }
}

Status HeaderWriter::Value(const std::string& key, const MetaValue& v) {
  const auto write = [&]() -> Status {
    TRY(String(key));
    TRY(Number(v.gguf_type));
    return std::visit(
        [&](const auto& value) -> Status {
          if constexpr (std::is_same_v<std::decay_t<decltype(value)>, MetaArray>) {
            if (v.gguf_type != GgufType::kGgufArray) return Mismatch();
            TRY(Number(v.array_type));
            return std::visit(
                [&](const auto& elements) -> Status {
                  TRY(Number(static_cast<uint64_t>(elements.size())));
                  for (auto&& e : elements) {
                    TRY(Element(
                        v.array_type,
                        static_cast<typename std::decay_t<decltype(elements)>::value_type>(e)));
                  }
                  return {};
                },
                value);
          } else {
            return Element(v.gguf_type, value);
          }
        },
        v.value);
  };
  Status status = write();
  if (status.ok() || status.error().code != Code::kInvalid) return status;
  return Error{Code::kInvalid, "metadata key " + Quote(key) + ": " + status.error().message};
}

Result<uint64_t> Alignment(const Metadata& metadata) {
  const uint64_t alignment =
      TRY(MetaUint(metadata, "general.alignment")).value_or(kDefaultAlignment);
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > internal::kMaxAlignment) {
    return Error{Code::kInvalid,
                 "metadata key \"general.alignment\": " + std::to_string(alignment) +
                     " is not a power of two up to " + std::to_string(internal::kMaxAlignment)};
  }
  return alignment;
}

Result<uint64_t> CheckedBytes(const TensorSpec& spec, std::set<std::string_view>& names) {
  const std::string what = "tensor " + Quote(spec.name);
  TRY(internal::CheckName("tensor", spec.name, kMaxWrittenName));
  if (!names.insert(spec.name).second) return Error{Code::kInvalid, what + ": given twice"};
  if (Info(spec.type).gguf_id < 0) {
    return Error{Code::kUnsupported, what + ": type " + std::string(Info(spec.type).name) +
                                         " cannot be written to GGUF"};
  }
  if (spec.shape.size() > internal::kMaxGgufDims) {
    return Error{Code::kUnsupported,
                 what + ": shape " + internal::ShapeText(spec.shape) + " has over 4 dimensions"};
  }
  const auto bytes = internal::TensorBytes(spec.type, spec.shape);
  if (!bytes.ok()) return Error{Code::kInvalid, what + ": " + bytes.error().message};
  return *bytes;
}

Status Pad(AtomicFile& file, uint64_t alignment) {
  const std::string zeros(RoundUp(file.position(), alignment) - file.position(), '\0');
  return file.Write(zeros);
}

Status WriteTo(AtomicFile& file, const Metadata& metadata, std::span<const TensorSpec> tensors,
               const TensorFill& fill) {
  const uint64_t alignment = TRY(Alignment(metadata));
  std::set<std::string_view> names;
  std::vector<uint64_t> sizes;
  for (const TensorSpec& spec : tensors) sizes.push_back(TRY(CheckedBytes(spec, names)));

  HeaderWriter out(file);
  TRY(file.Write("GGUF"));
  TRY(out.Number(uint32_t{3}));
  TRY(out.Number(static_cast<uint64_t>(tensors.size())));
  TRY(out.Number(static_cast<uint64_t>(metadata.size())));
  for (const auto& [key, value] : metadata) {
    TRY(internal::CheckName("metadata key", key, internal::kMaxKeyBytes));
    TRY(out.Value(key, value));
  }
  uint64_t offset = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorSpec& spec = tensors[i];
    TRY(out.String(spec.name));
    TRY(out.Number(static_cast<uint32_t>(spec.shape.size())));
    for (auto n = spec.shape.rbegin(); n != spec.shape.rend(); ++n) {
      TRY(out.Number(static_cast<uint64_t>(*n)));
    }
    TRY(out.Number(static_cast<uint32_t>(Info(spec.type).gguf_id)));
    TRY(out.Number(offset));
    offset += RoundUp(sizes[i], alignment);
  }
  TRY(Pad(file, alignment));
  for (size_t i = 0; i < tensors.size(); ++i) {
    TRY(internal::WriteTensor(file, tensors[i], i, sizes[i], fill));
    TRY(Pad(file, alignment));
  }
  return {};
}

}  // namespace

namespace internal {

Status WriteTensor(AtomicFile& file, const TensorSpec& spec, size_t index, uint64_t bytes,
                   const TensorFill& fill) {
  std::vector<std::byte> data;
  try {
    data.resize(bytes);
  } catch (const std::bad_alloc&) {
    return Error{Code::kMemory, "tensor " + Quote(spec.name) + ": no memory for its " +
                                    std::to_string(bytes) + " bytes"};
  }
  TRY(fill(index, data));
  return file.Write(data.data(), data.size());
}

}  // namespace internal

Status WriteGguf(const std::string& path, const Metadata& metadata,
                 std::span<const TensorSpec> tensors, const TensorFill& fill) {
  AtomicFile file = TRY(AtomicFile::Create(path));
  Status status = WriteTo(file, metadata, tensors, fill);
  if (status.ok()) return file.Commit();
  return Error{status.error().code, path + ": " + status.error().message};
}

}  // namespace hadal
