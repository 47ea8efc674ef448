// safetensors:
//
//   u64 header length | header: a JSON object, perhaps padded with spaces | tensor data
//
//   header  {"NAME": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [BEGIN, END]}, ...,
//            "__metadata__": {"key": "value", ...}}
//   offsets count from the start of the tensor data. The tensors cover the data exactly: no gaps,
//   no overlaps, nothing behind the last one (so a file still being written is recognised).
//
// and model.safetensors.index.json of a sharded folder:
//
//   {"metadata": {...}, "weight_map": {"NAME": "model-00001-of-00002.safetensors", ...}}
//
// Both are read as a stream of JSON events: a tree of a hostile header would take many times its
// size, and would hide duplicate keys.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "formats/internal_weight_file.h"

namespace hadal::internal {
namespace {

static_assert(std::endian::native == std::endian::little);

// Events of nlohmann's parser. A handler returns false to stop, after setting error_.
// Everything is refused here; the two readers below accept what their file may hold.
class Events : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Events(std::string path) : path_(std::move(path)) {}

  bool null() override { return Refuse("null"); }
  bool boolean(bool) override { return Refuse("a boolean"); }
  bool number_integer(number_integer_t v) override { return Refuse(std::to_string(v)); }
  bool number_unsigned(number_unsigned_t v) override { return Refuse(std::to_string(v)); }
  bool number_float(number_float_t, const string_t& text) override { return Refuse(Quote(text)); }
  bool string(string_t& text) override { return Refuse(Quote(text)); }
  bool binary(binary_t&) override { return Refuse("binary data"); }
  bool start_array(size_t) override { return Refuse("an array"); }
  bool end_array() override { return true; }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail("not valid JSON at byte " + std::to_string(position) +
                " of its text; the file is damaged, or not what its name says");
  }

  Status Run(std::span<const std::byte> text) {
    const auto* begin = reinterpret_cast<const char*>(text.data());
    if (nlohmann::json::sax_parse(begin, begin + text.size(), this)) return {};
    return Error{code_, path_ + ": " + error_};
  }

 protected:
  // Where the parser is, for error messages.
  virtual std::string Place() const = 0;

  bool Fail(std::string error, Code code = Code::kCorrupt) {
    error_ = std::move(error);
    code_ = code;
    return false;
  }
  bool Refuse(const std::string& value) {
    return Fail(Place() + ": " + value + " is not expected");
  }
  // A name that is fit to be a tensor's.
  bool TakeName(const string_t& name) {
    const Status status = CheckName("tensor", name, kMaxNameBytes);
    return status.ok() || Fail(status.error().message);
  }

  std::string path_, error_;
  Code code_ = Code::kCorrupt;
};

class HeaderEvents final : public Events {
 public:
  // data: what follows the header.
  HeaderEvents(std::string path, std::span<const std::byte> data)
      : Events(std::move(path)), data_(data) {}

  std::vector<TensorInfo> tensors;

  bool start_object(size_t) override {
    if (depth_ == 2 || in_array_) return Refuse("an object");
    if (++depth_ == 2) {
      current_ = {};
      have_type_ = have_shape_ = have_offsets_ = false;
      current_.name = name_;
    }
    return true;
  }
  bool key(string_t& text) override {
    if (depth_ == 1) {
      in_metadata_ = text == "__metadata__";
      if (in_metadata_ && std::exchange(had_metadata_, true)) {
        return Fail("\"__metadata__\": stated twice");
      }
      name_ = text;
      return in_metadata_ || TakeName(text);
    }
    field_ = in_metadata_             ? Field::kText
             : text == "dtype"        ? Field::kType
             : text == "shape"        ? Field::kShape
             : text == "data_offsets" ? Field::kOffsets
                                      : Field::kNone;
    if (field_ == Field::kNone) return Fail(Place() + ": unknown key " + Quote(text));
    const bool twice = (field_ == Field::kType && std::exchange(have_type_, true)) ||
                       (field_ == Field::kShape && std::exchange(have_shape_, true)) ||
                       (field_ == Field::kOffsets && std::exchange(have_offsets_, true));
    return !twice || Fail(Place() + ": " + Quote(text) + " is stated twice");
  }
  bool string(string_t& text) override {
    if (depth_ != 2 || in_array_) return Refuse(Quote(text));
    if (field_ == Field::kText) return true;
    if (field_ != Field::kType) return Refuse(Quote(text));
    const std::optional<DType> type = DTypeFromName(text);
    if (!type || Info(*type).block != 1) {
      return Fail(Place() + ": dtype " + Quote(text) + " is not supported", Code::kUnsupported);
    }
    current_.type = *type;
    return true;
  }
  bool start_array(size_t) override {
    const bool fits =
        depth_ == 2 && !in_array_ && (field_ == Field::kShape || field_ == Field::kOffsets);
    in_array_ = true;
    offset_count_ = 0;
    return fits || Refuse("an array");
  }
  bool end_array() override {
    in_array_ = false;
    return field_ != Field::kOffsets || offset_count_ == 2 ||
           Fail(Place() + ": data_offsets must be two numbers");
  }
  bool number_unsigned(number_unsigned_t v) override {
    if (!in_array_) return Refuse(std::to_string(v));
    if (field_ == Field::kOffsets) {
      if (offset_count_ == 2) return Fail(Place() + ": data_offsets must be two numbers");
      offsets_[offset_count_++] = v;
      return true;
    }
    if (current_.shape.size() == kMaxFolderDims) {
      return Fail(Place() + ": over " + std::to_string(kMaxFolderDims) + " dimensions");
    }
    if (v > static_cast<uint64_t>(kMaxElements)) {
      return Fail(Place() + ": dimension " + std::to_string(v) + " is impossibly large");
    }
    current_.shape.push_back(static_cast<int64_t>(v));
    return true;
  }
  bool end_object() override {
    if (--depth_ == 0 || in_metadata_) return true;
    if (!have_type_ || !have_shape_ || !have_offsets_) {
      return Fail(Place() + ": dtype, shape or data_offsets is missing");
    }
    return PlaceTensor();
  }

 protected:
  std::string Place() const override {
    return depth_ == 0 || name_.empty() ? "header" : "tensor " + Quote(name_);
  }

 private:
  enum class Field { kNone, kText, kType, kShape, kOffsets };

  bool PlaceTensor() {
    if (tensors.size() == kMaxFolderTensors) {
      return Fail("over " + std::to_string(kMaxFolderTensors) + " tensors", Code::kLimit);
    }
    const auto size = TensorBytes(current_.type, current_.shape);
    if (!size.ok()) return Fail(Place() + ": " + size.error().message, size.error().code);
    const auto [begin, end] = offsets_;
    const std::string range =
        "data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) + "]";
    if (begin > end || end > data_.size()) {
      return Fail(Place() + ": " + range + " do not lie in the " + std::to_string(data_.size()) +
                  " bytes of tensor data; the file is cut off or damaged");
    }
    if (end - begin != *size) {
      return Fail(Place() + ": " + range + " hold " + std::to_string(end - begin) + " bytes, but " +
                  std::string(Info(current_.type).name) + " " + ShapeText(current_.shape) +
                  " needs " + std::to_string(*size));
    }
    current_.bytes = data_.subspan(begin, *size);
    tensors.push_back(std::move(current_));
    return true;
  }

  std::span<const std::byte> data_;
  int depth_ = 0;
  bool in_array_ = false, in_metadata_ = false, had_metadata_ = false;
  bool have_type_ = false, have_shape_ = false, have_offsets_ = false;
  Field field_ = Field::kNone;
  std::string name_;
  TensorInfo current_;
  std::array<uint64_t, 2> offsets_ = {};
  size_t offset_count_ = 0;
};

class IndexEvents final : public Events {
 public:
  using Events::Events;

  ShardIndex index;
  bool had_map = false;

  bool null() override { return in_other_ || Refuse("null"); }
  bool boolean(bool) override { return in_other_ || Refuse("a boolean"); }
  bool number_integer(number_integer_t v) override {
    return in_other_ || Refuse(std::to_string(v));
  }
  bool number_unsigned(number_unsigned_t v) override {
    return in_other_ || Refuse(std::to_string(v));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return in_other_ || Refuse(Quote(text));
  }
  // Other keys than the weight map ("metadata") may hold anything.
  bool start_array(size_t) override { return in_other_ ? Enter() : Refuse("an array"); }
  bool end_array() override { return Leave(); }
  bool start_object(size_t) override {
    return in_other_ || depth_ <= 1 ? Enter() : Refuse("an object");
  }
  bool end_object() override { return Leave(); }
  bool key(string_t& text) override {
    if (depth_ == 1) {
      in_other_ = text != "weight_map";
      if (!in_other_ && std::exchange(had_map, true)) return Fail("weight_map: stated twice");
      return true;
    }
    if (in_other_) return true;
    name_ = text;
    return TakeName(text);
  }
  bool string(string_t& text) override {
    if (in_other_) return true;
    if (depth_ != 2) return Refuse(Quote(text));
    if (!IsPlainFileName(text) || !text.ends_with(".safetensors")) {
      return Fail(Place() + ": shard " + Quote(text) +
                  " is not the plain name of a .safetensors file in the same folder");
    }
    if (index.tensors.size() == kMaxFolderTensors) {
      return Fail("over " + std::to_string(kMaxFolderTensors) + " tensors", Code::kLimit);
    }
    const auto [it, added] = shards_.emplace(text, static_cast<uint32_t>(index.files.size()));
    if (added) index.files.push_back(text);
    if (index.files.size() > kMaxParts) {
      return Fail("over " + std::to_string(kMaxParts) + " shards", Code::kLimit);
    }
    index.tensors.emplace_back(name_, it->second);
    return true;
  }

 protected:
  std::string Place() const override {
    return depth_ < 2 ? "index" : "weight_map: tensor " + Quote(name_);
  }

 private:
  bool Enter() {
    return ++depth_ <= kMaxDepth ||
           Fail("nested over " + std::to_string(kMaxDepth) + " deep", Code::kLimit);
  }
  bool Leave() {
    --depth_;
    return true;
  }

  static constexpr int kMaxDepth = 64;
  int depth_ = 0;
  bool in_other_ = false;
  std::string name_;
  std::unordered_map<std::string, uint32_t> shards_;
};

}  // namespace

Result<std::vector<TensorInfo>> ParseSafetensors(const std::string& path,
                                                 std::span<const std::byte> bytes) {
  uint64_t header = 0;
  if (bytes.size() < sizeof header) {
    return Error{Code::kCorrupt, path + ": not a safetensors file: only " +
                                     std::to_string(bytes.size()) + " bytes"};
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  bytes = bytes.subspan(sizeof header);
  if (header > bytes.size()) {
    return Error{Code::kCorrupt,
                 path + ": header length " + std::to_string(header) + " exceeds the " +
                     std::to_string(bytes.size()) +
                     " bytes left in the file; it is cut off, damaged or no safetensors file"};
  }
  if (header > kMaxHeaderBytes) {
    return Error{Code::kLimit, path + ": header length " + std::to_string(header) +
                                   " exceeds the limit of " + std::to_string(kMaxHeaderBytes)};
  }
  const std::span<const std::byte> data = bytes.subspan(header);
  HeaderEvents events(path, data);
  TRY(events.Run(bytes.first(header)));
  std::vector<TensorInfo> tensors = std::move(events.tensors);
  TRY(SortAndCheckOverlap(path, tensors));
  const std::byte* expected = data.data();
  for (const TensorInfo& t : tensors) {
    if (t.bytes.data() != expected) {
      return Error{Code::kCorrupt,
                   path + ": tensor " + Quote(t.name) + ": begins at " +
                       std::to_string(t.bytes.data() - data.data()) + ", leaving a gap of " +
                       std::to_string(t.bytes.data() - expected) + " bytes before it"};
    }
    expected += t.bytes.size();
  }
  const auto covered = static_cast<uint64_t>(expected - data.data());
  if (covered != data.size()) {
    return Error{Code::kCorrupt, path + ": the header describes " + std::to_string(covered) +
                                     " bytes of tensors, but the file holds " +
                                     std::to_string(data.size()) + "; is it still being written?"};
  }
  return tensors;
}

Result<ShardIndex> ParseShardIndex(const std::string& path, std::span<const std::byte> bytes) {
  IndexEvents events(path);
  TRY(events.Run(bytes));
  if (!events.had_map) return Error{Code::kCorrupt, path + ": no weight_map in the index"};
  ShardIndex index = std::move(events.index);
  std::sort(index.tensors.begin(), index.tensors.end());
  const auto twice =
      std::adjacent_find(index.tensors.begin(), index.tensors.end(),
                         [](const auto& a, const auto& b) { return a.first == b.first; });
  if (twice != index.tensors.end()) {
    return Error{Code::kCorrupt,
                 path + ": weight_map: tensor " + Quote(twice->first) + " is stated twice"};
  }
  return index;
}

}  // namespace hadal::internal
