#include "formats/weight_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <iterator>
#include <numeric>

#include "formats/internal_weight_file.h"

namespace hadal {
namespace internal {
namespace {

// Bytes of the well-formed UTF-8 sequence at text[i], 0 when there is none.
size_t Utf8Length(std::string_view text, size_t i) {
  const auto at = [&](size_t k) { return static_cast<uint8_t>(text[k]); };
  const uint8_t lead = at(i);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || i + length > text.size()) return 0;
  for (size_t k = i + 1; k < i + length; ++k) {
    if ((at(k) & 0xc0) != 0x80) return 0;
  }
  const uint8_t second = at(i + 1);
  const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
  const bool outside = (lead == 0xed && second > 0x9f) || (lead == 0xf4 && second > 0x8f);
  return overlong || outside ? 0 : length;
}

bool IsControl(char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; }

Result<struct stat> StatFile(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0) return info;
  return Error{errno == ENOENT || errno == ENOTDIR ? Code::kNotFound : Code::kIo,
               path + ": " + std::strerror(errno)};
}

}  // namespace

bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = Utf8Length(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

std::string Quote(std::string_view text) {
  constexpr size_t kMaxShown = 80;
  std::string out = "\"";
  size_t i = 0;
  while (i < text.size() && i < kMaxShown) {
    const size_t length = Utf8Length(text, i);
    if (length == 0 || IsControl(text[i])) {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(text[i++]));
    } else {
      out += text.substr(i, length);
      i += length;
    }
  }
  out += i < text.size() ? "\"..." : "\"";
  return out;
}

Status CheckName(const std::string& what, std::string_view name, uint64_t max_bytes) {
  if (name.empty()) return Error{Code::kCorrupt, what + ": an empty name"};
  if (name.size() > max_bytes) {
    return Error{Code::kLimit, fmt::format("{}: a name of {} bytes, over the limit of {}", what,
                                           name.size(), max_bytes)};
  }
  if (!IsUtf8(name)) {
    return Error{Code::kCorrupt, what + ": the name " + Quote(name) + " is not UTF-8"};
  }
  if (std::any_of(name.begin(), name.end(), IsControl)) {
    return Error{Code::kCorrupt, what + ": the name " + Quote(name) + " holds control characters"};
  }
  return {};
}

bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos &&
         std::none_of(name.begin(), name.end(), IsControl);
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string ShapeText(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Result<uint64_t> TensorBytes(DType type, std::span<const int64_t> shape) {
  int64_t elements = 1;
  for (const int64_t n : shape) {
    if (n <= 0) {
      return Error{Code::kCorrupt, "shape " + ShapeText(shape) + " has a dimension of " +
                                       std::to_string(n) + ", at least 1 is needed"};
    }
    if (__builtin_mul_overflow(elements, n, &elements) || elements > kMaxElements) {
      return Error{Code::kCorrupt, "shape " + ShapeText(shape) + " has impossibly many elements"};
    }
  }
  const DTypeInfo& info = Info(type);
  const int64_t cols = shape.empty() ? 1 : shape.back();
  if (cols % info.block != 0) {
    return Error{Code::kCorrupt, fmt::format("shape {}: rows of {} are not whole blocks of {} {}",
                                             ShapeText(shape), cols, info.block, info.name)};
  }
  return static_cast<uint64_t>(RowBytes(type, elements));
}

Status SortAndCheckOverlap(const std::string& path, std::vector<TensorInfo>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.bytes.data() < b.bytes.data();
  });
  for (size_t i = 1; i < tensors.size(); ++i) {
    const TensorInfo &a = tensors[i - 1], &b = tensors[i];
    if (a.name == b.name) {
      return Error{Code::kCorrupt, path + ": tensor " + Quote(a.name) + ": stated twice"};
    }
    if (a.bytes.data() + a.bytes.size() > b.bytes.data()) {
      return Error{Code::kCorrupt,
                   path + ": tensor " + Quote(b.name) + ": overlaps tensor " + Quote(a.name) +
                       " by " + std::to_string(a.bytes.data() + a.bytes.size() - b.bytes.data()) +
                       " bytes"};
    }
  }
  return {};
}

Result<Part> Part::Open(const std::string& path) {
  const struct stat before = TRY(StatFile(path));
  if (!S_ISREG(before.st_mode)) return Error{Code::kIo, path + ": not a regular file"};
  Part part(TRY(MappedFile::Open(path)));
  const struct stat info = TRY(StatFile(path));
  if (static_cast<uint64_t>(info.st_size) != part.bytes().size()) {
    return Error{Code::kCorrupt, path + ": its size changed while it was opened"};
  }
  part.device_ = info.st_dev;
  part.inode_ = info.st_ino;
  part.modified_ = info.st_mtim;
  return part;
}

Status Part::CheckIntact() const {
  if (file_.damaged()) {
    return Error{Code::kCorrupt, path() + ": was cut off while in use; what was read is not valid"};
  }
  // A fault is raised only beyond the last page; and a file that was deleted or replaced by
  // another under its name keeps its contents for whoever has it mapped.
  const auto info = StatFile(path());
  if (!info.ok() || info->st_dev != device_ || info->st_ino != inode_) return {};
  if (static_cast<uint64_t>(info->st_size) < bytes().size()) {
    return Error{Code::kCorrupt,
                 fmt::format("{}: was cut off while in use, from {} to {} bytes; what was read is "
                             "not valid",
                             path(), bytes().size(), info->st_size)};
  }
  if (info->st_mtim.tv_sec != modified_.tv_sec || info->st_mtim.tv_nsec != modified_.tv_nsec) {
    return Error{Code::kCorrupt,
                 path() + ": was written to while in use; what was read is not valid"};
  }
  return {};
}

}  // namespace internal

using internal::Part;
using internal::Quote;

int64_t TensorInfo::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}
int64_t TensorInfo::cols() const { return shape.empty() ? 1 : shape.back(); }
int64_t TensorInfo::rows() const { return elements() / cols(); }

struct WeightFile::Impl {
  Kind kind;
  std::string path, folder;
  std::vector<Part> parts;
  std::vector<TensorInfo> tensors;
  std::vector<uint32_t> part_of;  // for each tensor, its index in parts
  std::vector<uint32_t> by_name;  // indices in tensors, sorted by name
  Metadata metadata;

  // Appends the tensors of the last part.
  Status Add(std::vector<TensorInfo> more, uint64_t limit);
  std::optional<uint32_t> IndexOf(std::string_view name) const;
  Status IndexNames();
  Status CheckIntact() const;
  Status OpenGguf();
  Status OpenSplit(uint64_t count);
  Status OpenSafetensors(const std::string& file);
  Status OpenFolder();
  Status OpenShards(const std::string& index_path);
};

namespace {

// Which file of a split set a name says it is: STEM-00001-of-00003.gguf.
struct SplitName {
  std::string stem;
  uint64_t number, count;  // number from 1
  std::string Of(uint64_t i) const { return fmt::format("{}-{:05}-of-{:05}.gguf", stem, i, count); }
};

std::optional<SplitName> ParseSplitName(const std::string& path) {
  constexpr std::string_view kForm = "-00000-of-00000.gguf";
  if (path.size() <= kForm.size()) return std::nullopt;
  const size_t start = path.size() - kForm.size();
  uint64_t values[2] = {};
  for (size_t i = 0; i < kForm.size(); ++i) {
    const char c = path[start + i];
    if (kForm[i] == '0') {
      if (c < '0' || c > '9') return std::nullopt;
      values[i > 6] = values[i > 6] * 10 + static_cast<uint64_t>(c - '0');
    } else if (c != kForm[i]) {
      return std::nullopt;
    }
  }
  return SplitName{path.substr(0, start), values[0], values[1]};
}

// A whole number of the metadata of one part, with the part's name in the error.
Result<std::optional<uint64_t>> PartUint(const std::string& path, const Metadata& m,
                                         std::string_view key) {
  auto value = MetaUint(m, key);
  if (value.ok()) return value;
  return Error{Code::kCorrupt, path + ": " + value.error().message};
}

// The part at `number` must say the same about the set as the first one.
Status CheckSplitPart(const std::string& path, const Metadata& m, uint64_t number, uint64_t count,
                      const Metadata& first) {
  const auto own_count = TRY(PartUint(path, m, "split.count"));
  if (own_count != count) {
    return Error{Code::kCorrupt,
                 fmt::format("{}: metadata key \"split.count\": {}, but the set has {} files", path,
                             own_count ? std::to_string(*own_count) : "missing", count)};
  }
  const auto own_number = TRY(PartUint(path, m, "split.no"));
  if (own_number != number - 1) {
    return Error{Code::kCorrupt,
                 fmt::format("{}: metadata key \"split.no\": {}, but its name says {}", path,
                             own_number ? std::to_string(*own_number) : "missing", number - 1)};
  }
  for (const std::string_view key : {"split.tensors.count", "general.architecture"}) {
    const auto own = m.find(std::string(key)), other = first.find(std::string(key));
    if (own == m.end() || other == first.end()) continue;
    if (own->second.value != other->second.value) {
      return Error{Code::kCorrupt, fmt::format("{}: metadata key {}: differs from the first file's",
                                               path, Quote(key))};
    }
  }
  return {};
}

}  // namespace

Status WeightFile::Impl::Add(std::vector<TensorInfo> more, uint64_t limit) {
  if (tensors.size() + more.size() > limit) {
    return Error{Code::kLimit,
                 fmt::format("{}: over {} tensors in the model", parts.back().path(), limit)};
  }
  part_of.resize(tensors.size() + more.size(), static_cast<uint32_t>(parts.size() - 1));
  std::move(more.begin(), more.end(), std::back_inserter(tensors));
  return {};
}

std::optional<uint32_t> WeightFile::Impl::IndexOf(std::string_view name) const {
  const auto it = std::lower_bound(
      by_name.begin(), by_name.end(), name,
      [&](uint32_t i, std::string_view wanted) { return tensors[i].name < wanted; });
  if (it == by_name.end() || tensors[*it].name != name) return std::nullopt;
  return *it;
}

Status WeightFile::Impl::IndexNames() {
  by_name.resize(tensors.size());
  std::iota(by_name.begin(), by_name.end(), 0u);
  std::sort(by_name.begin(), by_name.end(),
            [&](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
  for (size_t i = 1; i < by_name.size(); ++i) {
    const uint32_t a = by_name[i - 1], b = by_name[i];
    if (tensors[a].name != tensors[b].name) continue;
    const std::string& first = parts[std::min(part_of[a], part_of[b])].path();
    const std::string& second = parts[std::max(part_of[a], part_of[b])].path();
    return Error{Code::kCorrupt, second + ": tensor " + Quote(tensors[a].name) + ": " +
                                     (first == second ? "stated twice" : "also in " + first)};
  }
  return {};
}

Status WeightFile::Impl::CheckIntact() const {
  for (const Part& part : parts) TRY(part.CheckIntact());
  return {};
}

Status WeightFile::Impl::OpenGguf() {
  kind = Kind::kGguf;
  const std::string opened = parts[0].path();
  internal::GgufPart part = TRY(internal::ParseGguf(opened, parts[0].bytes()));
  const uint64_t count = TRY(PartUint(opened, part.metadata, "split.count")).value_or(1);
  if (count > 1) return OpenSplit(count);
  metadata = std::move(part.metadata);
  return Add(std::move(part.tensors), internal::kMaxGgufTensors);
}

Status WeightFile::Impl::OpenSplit(uint64_t count) {
  const std::string opened = parts[0].path();
  const auto name = ParseSplitName(opened);
  if (!name || name->count != count || name->number < 1 || name->number > count) {
    return Error{Code::kCorrupt,
                 fmt::format("{}: metadata key \"split.count\": {}, so its name must end in "
                             "-00001-of-{:05}.gguf or another part's number; was it renamed?",
                             opened, count, count)};
  }
  if (count > internal::kMaxParts) {
    return Error{Code::kLimit, fmt::format("{}: split into {} files, over the limit of {}", opened,
                                           count, internal::kMaxParts)};
  }
  parts.clear();
  for (uint64_t i = 1; i <= count; ++i) {
    const std::string file = name->Of(i);
    parts.push_back(TRY(Part::Open(file)));
    internal::GgufPart part = TRY(internal::ParseGguf(file, parts.back().bytes()));
    TRY(CheckSplitPart(file, part.metadata, i, count, i == 1 ? part.metadata : metadata));
    if (i == 1) metadata = std::move(part.metadata);
    TRY(Add(std::move(part.tensors), internal::kMaxGgufTensors));
  }
  const auto total = TRY(PartUint(name->Of(1), metadata, "split.tensors.count"));
  if (total && *total != tensors.size()) {
    return Error{Code::kCorrupt,
                 fmt::format("{}: metadata key \"split.tensors.count\": {}, but the {} files hold "
                             "{} tensors",
                             name->Of(1), *total, count, tensors.size())};
  }
  // The set is shown, and written again, as one file.
  for (const char* key : {"split.no", "split.count", "split.tensors.count"}) metadata.erase(key);
  return {};
}

Status WeightFile::Impl::OpenSafetensors(const std::string& file) {
  kind = Kind::kHuggingFace;
  return Add(TRY(internal::ParseSafetensors(file, parts.back().bytes())),
             internal::kMaxFolderTensors);
}

Status WeightFile::Impl::OpenFolder() {
  kind = Kind::kHuggingFace;
  const auto exists = [&](const std::string& name) {
    return internal::StatFile(folder + "/" + name).ok();
  };
  if (!exists("config.json")) {
    return Error{Code::kNotFound, path +
                                      ": no config.json in this folder; give a Hugging Face "
                                      "model folder or a .gguf file"};
  }
  // Like transformers: a single file, where there is one, goes before an index.
  if (exists("model.safetensors")) {
    parts.push_back(TRY(Part::Open(folder + "/model.safetensors")));
    return OpenSafetensors(parts.back().path());
  }
  const std::string index = "model.safetensors.index.json";
  if (exists(index)) return OpenShards(folder + "/" + index);
  return Error{Code::kNotFound, path + ": neither model.safetensors nor " + index +
                                    " in this folder; other weight formats are not read"};
}

Status WeightFile::Impl::OpenShards(const std::string& index_path) {
  const Part index_file = TRY(Part::Open(index_path));
  const internal::ShardIndex index = TRY(internal::ParseShardIndex(index_path, index_file.bytes()));
  for (const std::string& file : index.files) {
    parts.push_back(TRY(Part::Open(folder + "/" + file)));
    TRY(OpenSafetensors(parts.back().path()));
  }
  TRY(IndexNames());
  for (const auto& [name, shard] : index.tensors) {
    const std::optional<uint32_t> found = IndexOf(name);
    if (found && part_of[*found] == shard) continue;
    return Error{Code::kCorrupt,
                 index_path + ": tensor " + Quote(name) + ": not in " + Quote(index.files[shard]) +
                     (found ? " but in " + parts[part_of[*found]].path() : ", nor in any shard")};
  }
  return index_file.CheckIntact();
}

Result<WeightFile> WeightFile::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  const struct stat info = TRY(internal::StatFile(path));
  if (S_ISDIR(info.st_mode)) {
    impl->folder = path;
    TRY(impl->OpenFolder());
  } else {
    impl->folder = internal::FolderOf(path);
    impl->parts.push_back(TRY(Part::Open(path)));
    const std::span<const std::byte> bytes = impl->parts[0].bytes();
    if (bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0) {
      TRY(impl->OpenGguf());
    } else if (path.ends_with(".safetensors")) {
      TRY(impl->OpenSafetensors(path));
    } else {
      return Error{Code::kUnsupported,
                   path +
                       ": neither a GGUF file nor named .safetensors; give one of these or a "
                       "Hugging Face model folder"};
    }
  }
  TRY(impl->IndexNames());
  TRY(impl->CheckIntact());
  return WeightFile(std::move(impl));
}

WeightFile::WeightFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WeightFile::WeightFile(WeightFile&&) noexcept = default;
WeightFile& WeightFile::operator=(WeightFile&&) noexcept = default;
WeightFile::~WeightFile() = default;

WeightFile::Kind WeightFile::kind() const { return impl_->kind; }
const std::string& WeightFile::path() const { return impl_->path; }
std::span<const TensorInfo> WeightFile::tensors() const { return impl_->tensors; }
const Metadata& WeightFile::metadata() const { return impl_->metadata; }

const TensorInfo* WeightFile::Find(std::string_view name) const {
  const std::optional<uint32_t> i = impl_->IndexOf(name);
  return i ? &impl_->tensors[*i] : nullptr;
}

Result<std::string> WeightFile::ReadText(std::string_view file_name) const {
  if (impl_->kind != Kind::kHuggingFace) {
    return Error{Code::kInvalid, impl_->path + ": a GGUF file has no " + Quote(file_name)};
  }
  if (!internal::IsPlainFileName(file_name)) {
    return Error{Code::kInvalid,
                 Quote(file_name) + " is not the plain name of a file in " + impl_->folder};
  }
  const Part part = TRY(Part::Open(impl_->folder + "/" + std::string(file_name)));
  const std::span<const std::byte> bytes = part.bytes();
  if (bytes.size() > internal::kMaxTextBytes) {
    return Error{Code::kLimit, fmt::format("{}: {} bytes, over the limit of {}", part.path(),
                                           bytes.size(), internal::kMaxTextBytes)};
  }
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  TRY(part.CheckIntact());
  return text;
}

void WeightFile::Drop(const TensorInfo& tensor) const {
  for (const Part& part : impl_->parts) {
    const std::byte* begin = part.bytes().data();
    if (tensor.bytes.data() < begin || tensor.bytes.data() >= begin + part.bytes().size()) continue;
    part.file().DropPages(tensor.bytes);
  }
}

Status WeightFile::CheckIntact() const { return impl_->CheckIntact(); }

}  // namespace hadal
