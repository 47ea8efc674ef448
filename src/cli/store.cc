#include "cli/store.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "base/terminal.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxManifestBytes = 16 << 20;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string Text(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

bool IsSha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// The first part of a split set opens the whole set, and sorts first.
std::vector<fs::path> GgufFiles(const std::string& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".gguf") found.push_back(it->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool IsSplitPart(const std::string& stem) {
  return stem.size() > 15 && stem.substr(stem.size() - 9, 4) == "-of-";
}

std::string KnownNames() {
  const auto models = ListModels();
  std::string names;
  if (models.ok()) {
    for (const auto& m : *models) names += (names.empty() ? "" : ", ") + m.manifest.name;
  }
  return names.empty() ? "none is pulled yet" : "pulled: " + names;
}

}  // namespace

std::string Quoted(std::string_view text) {
  std::string out = Printable(text.substr(0, 200));
  std::replace(out.begin(), out.end(), '\n', ' ');
  return "'" + out + (text.size() > 200 ? "...'" : "'");
}

Result<std::string> HomeFolder() {
  if (std::string home = Environment("HADAL_HOME"); !home.empty()) return home;
  if (std::string cache = Environment("XDG_CACHE_HOME"); !cache.empty()) return cache + "/hadal";
  if (std::string home = Environment("HOME"); !home.empty()) return home + "/.cache/hadal";
  return Error{Code::kNotFound, "HOME is not set: set HADAL_HOME to a folder for models"};
}

Result<std::string> ModelsFolder() { return TRY(HomeFolder()) + "/models"; }

Status MakeFolders(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return Error{Code::kIo, fmt::format("{}: cannot create: {}", folder, error.message())};
  return {};
}

Status CheckRelativePath(std::string_view path) {
  const auto bad = [&](std::string_view why) {
    return Error{Code::kCorrupt, fmt::format("unsafe file name {}: {}", Quoted(path), why)};
  };
  if (path.empty()) return bad("empty");
  if (path.size() > 1024) return bad("too long");
  if (path.front() == '/') return bad("absolute");
  if (path.find('\\') != path.npos) return bad("holds a backslash");
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return bad("holds a control character");
  }
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return bad("leaves its folder or is empty");
    if (part.size() > 255) return bad("too long");
    begin = end + 1;
  }
  return {};
}

Status CheckModelName(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-' || c == '+';
  };
  if (name.empty() || name.size() > 128 || name.front() == '.' || name.front() == '-' ||
      !std::all_of(name.begin(), name.end(), allowed)) {
    return Error{Code::kInvalid,
                 fmt::format("{} is no model name: letters, digits and . _ - + (not first), at "
                             "most 128; give one with --name",
                             Quoted(name))};
  }
  return {};
}

Status CheckDiskSpace(const std::string& path, uint64_t bytes) {
  constexpr uint64_t kReserve = 16 << 20;  // for manifests and directory blocks
  struct statvfs info {};
  std::string folder = fs::path(path).parent_path().string();
  if (folder.empty()) folder = ".";
  if (statvfs(folder.c_str(), &info) != 0) return {};  // cannot tell: the write itself will
  const uint64_t free = uint64_t{info.f_bavail} * info.f_frsize;
  if (free < bytes || free - bytes < kReserve) {
    return Error{Code::kIo,
                 fmt::format("{}: needs {} bytes, {} are free on this disk: free some or "
                             "set HADAL_HOME to another",
                             folder, bytes, free)};
  }
  return {};
}

uint64_t StoredModel::bytes() const {
  uint64_t sum = 0;
  for (const auto& f : manifest.files) sum += f.size;
  return sum;
}

Result<Manifest> ReadManifest(const std::string& folder) {
  const std::string path = folder + "/manifest.json";
  const std::string text = TRY(ReadFile(path, kMaxManifestBytes));
  const json j = json::parse(text, nullptr, false);
  if (!j.is_object() || !j.contains("files") || !j["files"].is_array()) {
    return Error{Code::kCorrupt, path + ": not a manifest: pull the model again with --force"};
  }
  Manifest m{.name = Text(j, "name"),
             .source = Text(j, "source"),
             .revision = Text(j, "revision"),
             .files = {}};
  for (const json& f : j["files"]) {
    if (!f.is_object() || !f.contains("size") || !f["size"].is_number_unsigned() ||
        !IsSha256(Text(f, "sha256"))) {
      return Error{Code::kCorrupt, path + ": a file lacks its size or SHA-256"};
    }
    ManifestFile file{.path = Text(f, "path"),
                      .size = f["size"].get<uint64_t>(),
                      .sha256 = Text(f, "sha256"),
                      .url = Text(f, "url"),
                      .etag = Text(f, "etag")};
    if (const Status safe = CheckRelativePath(file.path); !safe.ok()) {
      return Error{Code::kCorrupt, path + ": " + safe.error().message};
    }
    m.files.push_back(std::move(file));
  }
  return m;
}

Status WriteManifest(const std::string& folder, const Manifest& manifest) {
  json files = json::array();
  for (const auto& f : manifest.files) {
    json file = {{"path", f.path}, {"size", f.size}, {"sha256", f.sha256}};
    if (!f.url.empty()) file["url"] = f.url;
    if (!f.etag.empty()) file["etag"] = f.etag;
    files.push_back(std::move(file));
  }
  const json j = {{"name", manifest.name},
                  {"source", manifest.source},
                  {"revision", manifest.revision},
                  {"files", std::move(files)}};
  return WriteFileAtomic(folder + "/manifest.json",
                         j.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

Result<std::vector<StoredModel>> ListModels() {
  const std::string folder = TRY(ModelsFolder());
  std::vector<StoredModel> models;
  std::error_code error;
  if (!fs::exists(folder, error)) return models;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (name.front() == '.' || !it->is_directory(ignored)) continue;
    if (!fs::exists(it->path() / "manifest.json", ignored)) continue;  // a pull in progress
    StoredModel model{.folder = it->path().string(), .manifest = {}, .problem = {}};
    auto manifest = ReadManifest(model.folder);
    if (manifest.ok())
      model.manifest = *std::move(manifest);
    else
      model.problem = manifest.error().message;
    model.manifest.name = name;  // the folder is the truth
    models.push_back(std::move(model));
  }
  if (error) return Error{Code::kIo, fmt::format("{}: {}", folder, error.message())};
  std::sort(models.begin(), models.end(),
            [](const auto& a, const auto& b) { return a.manifest.name < b.manifest.name; });
  return models;
}

Result<std::string> WeightsPath(const std::string& folder) {
  std::error_code error;
  if (fs::exists(fs::path(folder) / "config.json", error)) return folder;
  const auto found = GgufFiles(folder);
  if (found.empty()) {
    return Error{Code::kNotFound, folder + ": holds neither config.json nor a .gguf file"};
  }
  if (found.size() > 1 && !IsSplitPart(found[0].stem().string())) {
    return Error{Code::kInvalid, fmt::format("{}: holds {} .gguf files: name one of them, for "
                                             "example {}",
                                             folder, found.size(), found[0].filename().string())};
  }
  return found[0].string();
}

Result<std::string> ResolveModel(const std::string& model) {
  std::error_code error;
  if (model.empty()) return Error{Code::kInvalid, "--model is empty"};
  if (fs::is_directory(model, error)) return WeightsPath(model);
  if (fs::exists(model, error)) return model;
  if (model.find('/') == model.npos && CheckModelName(model).ok()) {
    const std::string folder = TRY(ModelsFolder()) + "/" + model;
    if (fs::is_regular_file(folder + "/manifest.json", error)) return WeightsPath(folder);
  }
  if (model.find(':') != model.npos && model.find("://") == model.npos) {
    return Error{Code::kNotFound, fmt::format("{} is a source, not a model on this machine: run "
                                              "hadal pull {} first",
                                              Quoted(model), Printable(model))};
  }
  return Error{Code::kNotFound,
               fmt::format("no model {}: neither a path nor the name of a pulled model ({}); hadal "
                           "pull gets one",
                           Quoted(model), KnownNames())};
}

Result<std::vector<FileCheck>> CheckFiles(const StoredModel& model,
                                          const std::function<void(uint64_t, uint64_t)>& progress) {
  std::vector<FileCheck> checks;
  uint64_t done = 0;
  for (const auto& file : model.manifest.files) {
    FileCheck check{file, ""};
    const std::string path = model.folder + "/" + file.path;
    std::error_code error;
    const uint64_t size = fs::file_size(path, error);
    if (error) {
      check.problem = "missing";
    } else if (size != file.size) {
      check.problem = fmt::format("{} bytes, the manifest says {}", size, file.size);
    } else {
      const std::string sha256 = TRY(Sha256File(path));
      if (sha256 != file.sha256) {
        check.problem = fmt::format("SHA-256 {}, the manifest says {}", sha256, file.sha256);
      }
    }
    done += file.size;
    if (progress) progress(done, model.bytes());
    checks.push_back(std::move(check));
  }
  return checks;
}

}  // namespace hadal::cli
