// Writes Hugging Face folders (the formats stand in safetensors.cc).
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "base/file.h"
#include "formats/internal_weight_file.h"
#include "formats/writer.h"

namespace hadal {
namespace {

using internal::Quote;
using Json = nlohmann::json;

constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";

// Indices of the tensors of one file, in the order in which they are written.
struct Shard {
  std::vector<size_t> tensors;
  uint64_t bytes = 0;
};

Result<std::vector<uint64_t>> CheckedBytes(std::span<const TensorSpec> tensors) {
  std::set<std::string_view> names;
  std::vector<uint64_t> sizes;
  for (const TensorSpec& spec : tensors) {
    const std::string what = "tensor " + Quote(spec.name);
    TRY(internal::CheckName("tensor", spec.name, internal::kMaxNameBytes));
    if (!names.insert(spec.name).second || spec.name == "__metadata__") {
      return Error{Code::kInvalid, what + ": given twice or reserved"};
    }
    if (Info(spec.type).block != 1) {
      return Error{Code::kUnsupported, what + ": type " + std::string(Info(spec.type).name) +
                                           " cannot be written to safetensors; convert to BF16"};
    }
    const auto bytes = internal::TensorBytes(spec.type, spec.shape);
    if (!bytes.ok()) return Error{Code::kInvalid, what + ": " + bytes.error().message};
    sizes.push_back(*bytes);
  }
  return sizes;
}

// Fills files in the given order up to max_bytes each; a larger tensor has a file of its own.
std::vector<Shard> MakeShards(std::span<const TensorSpec> tensors, std::span<const uint64_t> sizes,
                              uint64_t max_bytes) {
  std::vector<Shard> shards(1);
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (!shards.back().tensors.empty() && shards.back().bytes + sizes[i] > max_bytes) {
      shards.emplace_back();
    }
    shards.back().tensors.push_back(i);
    shards.back().bytes += sizes[i];
  }
  // Wide elements first, so that every tensor is aligned to its element.
  for (Shard& shard : shards) {
    std::stable_sort(shard.tensors.begin(), shard.tensors.end(), [&](size_t a, size_t b) {
      return Info(tensors[a].type).bytes > Info(tensors[b].type).bytes;
    });
  }
  return shards;
}

Status WriteShard(const std::string& path, std::span<const TensorSpec> tensors,
                  std::span<const uint64_t> sizes, const Shard& shard, const TensorFill& fill) {
  Json header;
  header["__metadata__"] = {{"format", "pt"}};  // transformers asks for it
  uint64_t offset = 0;
  for (const size_t i : shard.tensors) {
    header[tensors[i].name] = {{"dtype", Info(tensors[i].type).name},
                               {"shape", tensors[i].shape},
                               {"data_offsets", {offset, offset + sizes[i]}}};
    offset += sizes[i];
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  AtomicFile file = TRY(AtomicFile::Create(path));
  TRY(file.Write(&length, sizeof length));
  TRY(file.Write(text));
  for (const size_t i : shard.tensors) {
    const Status status = internal::WriteTensor(file, tensors[i], i, sizes[i], fill);
    if (!status.ok()) return Error{status.error().code, path + ": " + status.error().message};
  }
  return file.Commit();
}

// What an earlier model left here would be read in place of, or beside, the new one.
Status RemoveStale(const std::string& folder, const std::string& name) {
  std::error_code error;
  std::filesystem::remove(folder + "/" + name, error);
  if (!error) return {};
  return Error{Code::kIo, folder + "/" + name + ": cannot remove: " + error.message()};
}

Status WriteShards(const std::string& folder, std::span<const TensorSpec> tensors,
                   std::span<const uint64_t> sizes, std::span<const Shard> shards,
                   const TensorFill& fill) {
  Json index;
  index["metadata"]["total_size"] = std::accumulate(sizes.begin(), sizes.end(), uint64_t{0});
  Json& map = index["weight_map"] = Json::object();
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    TRY(WriteShard(folder + "/" + name, tensors, sizes, shards[s], fill));
    for (const size_t i : shards[s].tensors) map[tensors[i].name] = name;
  }
  TRY(WriteFileAtomic(folder + "/" + kIndexName, index.dump(2) + "\n"));
  return RemoveStale(folder, kSingleName);
}

}  // namespace

Status WriteSafetensors(const std::string& path, std::span<const TensorSpec> tensors,
                        const TensorFill& fill) {
  const std::vector<uint64_t> sizes = TRY(CheckedBytes(tensors));
  return WriteShard(path, tensors, sizes, MakeShards(tensors, sizes, UINT64_MAX)[0], fill);
}

Status WriteHuggingFaceFolder(const std::string& folder, std::span<const TensorSpec> tensors,
                              const TensorFill& fill, std::span<const FolderText> texts,
                              uint64_t max_shard_bytes) {
  const auto sizes = CheckedBytes(tensors);
  if (!sizes.ok()) return Error{sizes.error().code, folder + ": " + sizes.error().message};
  for (const FolderText& text : texts) {
    if (internal::IsPlainFileName(text.name)) continue;
    return Error{Code::kInvalid, folder + ": " + Quote(text.name) + " is not a plain file name"};
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return Error{Code::kIo, folder + ": cannot create: " + error.message()};

  const std::vector<Shard> shards = MakeShards(tensors, *sizes, max_shard_bytes);
  if (shards.size() > 1) {
    TRY(WriteShards(folder, tensors, *sizes, shards, fill));
  } else {
    TRY(WriteShard(folder + "/" + kSingleName, tensors, *sizes, shards[0], fill));
    TRY(RemoveStale(folder, kIndexName));
  }
  for (const FolderText& text : texts) {
    TRY(WriteFileAtomic(folder + "/" + text.name, text.text));
  }
  return {};
}

}  // namespace hadal
