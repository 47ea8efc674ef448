#include "data/source.h"

#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kPieceBytes = 256 << 10;
constexpr unsigned char kZstdMagic[4] = {0x28, 0xB5, 0x2F, 0xFD};

constexpr std::string_view kTextEndings[] = {
    ".txt", ".md",   ".rst", ".tex",  ".jsonl", ".ndjson", ".c",     ".h",    ".cc",
    ".hh",  ".cpp",  ".hpp", ".cu",   ".cuh",   ".py",     ".js",    ".ts",   ".java",
    ".go",  ".rs",   ".rb",  ".sh",   ".cs",    ".php",    ".scala", ".kt",   ".swift",
    ".sql", ".html", ".css", ".lua",  ".hs",    ".ml",     ".jl",    ".r",    ".pl",
    ".asm", ".s",    ".f90", ".toml", ".yaml",  ".yml",    ".xml",   ".cmake"};
constexpr std::string_view kSkippedFolders[] = {"build", "node_modules", "__pycache__", "target"};

struct CloseFile {
  void operator()(FILE* f) const { std::fclose(f); }
};
struct FreeStream {
  void operator()(ZSTD_DStream* s) const { ZSTD_freeDStream(s); }
};

// The ending that tells what is inside: that before .zst.
std::string InnerEnding(const std::string& path) {
  fs::path p(path);
  if (p.extension() == ".zst") p = p.stem();
  std::string ending = p.extension().string();
  for (char& c : ending) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return ending;
}

bool IsRows(const std::string& path) {
  const std::string ending = InnerEnding(path);
  return ending == ".jsonl" || ending == ".ndjson";
}

// Takes the string under one key of the outermost object, without building the rest.
struct TextReader : nlohmann::json_sax<json> {
  explicit TextReader(std::string_view k) : key_wanted(k) {}
  bool Other() {
    here = false;
    return true;
  }
  bool null() override { return Other(); }
  bool boolean(bool) override { return Other(); }
  bool number_integer(number_integer_t) override { return Other(); }
  bool number_unsigned(number_unsigned_t) override { return Other(); }
  bool number_float(number_float_t, const string_t&) override { return Other(); }
  bool binary(binary_t&) override { return Other(); }
  bool string(string_t& value) override {
    if (here) {
      text = std::move(value);
      found = true;
    }
    return Other();
  }
  bool start_object(size_t) override {
    if (depth == 0) is_object = true;
    ++depth;
    return Other();
  }
  bool end_object() override {
    --depth;
    return true;
  }
  bool start_array(size_t) override {
    ++depth;
    return Other();
  }
  bool end_array() override {
    --depth;
    return true;
  }
  bool key(string_t& name) override {
    here = is_object && depth == 1 && name == key_wanted;
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    error_at = position;
    return false;
  }
  std::string_view key_wanted;
  std::string text;
  bool found = false, here = false, is_object = false;
  int64_t depth = 0;
  size_t error_at = 0;
};

Status ListFolder(const std::string& folder, std::vector<std::string>* files) {
  std::vector<std::string> found;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error), end;
  for (; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (it->is_symlink(ignored)) continue;
    if (it->is_directory(ignored)) {
      const bool skipped = std::find(std::begin(kSkippedFolders), std::end(kSkippedFolders),
                                     name) != std::end(kSkippedFolders);
      if (skipped || name.starts_with('.')) it.disable_recursion_pending();
      continue;
    }
    const bool known = std::find(std::begin(kTextEndings), std::end(kTextEndings),
                                 InnerEnding(name)) != std::end(kTextEndings);
    if (known && !name.starts_with('.') && it->is_regular_file(ignored)) {
      found.push_back(it->path().string());
    }
  }
  if (error) return Error{Code::kIo, "cannot list " + folder + ": " + error.message()};
  if (found.empty()) {
    return Error{Code::kInvalid, folder + " holds no text, JSONL or code file"};
  }
  std::sort(found.begin(), found.end());
  files->insert(files->end(), found.begin(), found.end());
  return {};
}

}  // namespace

struct ByteSource::Impl {
  std::unique_ptr<FILE, CloseFile> file;
  std::unique_ptr<ZSTD_DStream, FreeStream> stream;  // null: the file's bytes are the text
  std::string path, input;
  size_t input_at = 0;
  bool file_ended = false, frame_open = false;

  Status ReadFile() {
    input.resize(kPieceBytes);
    input.resize(std::fread(input.data(), 1, input.size(), file.get()));
    input_at = 0;
    if (std::ferror(file.get())) {
      return Error{Code::kIo, "cannot read " + path + ": " + std::strerror(errno)};
    }
    file_ended = input.empty();
    return {};
  }
  Status Decompress(std::string* piece);
};

Status ByteSource::Impl::Decompress(std::string* piece) {
  piece->resize(kPieceBytes);
  ZSTD_outBuffer out = {piece->data(), piece->size(), 0};
  while (out.pos == 0 && !file_ended) {
    if (input_at == input.size()) {
      TRY(ReadFile());
      if (file_ended) break;
    }
    ZSTD_inBuffer in = {input.data(), input.size(), input_at};
    const size_t left = ZSTD_decompressStream(stream.get(), &out, &in);
    if (ZSTD_isError(left)) {
      return Error{Code::kCorrupt, path + ": damaged zstd data: " + ZSTD_getErrorName(left)};
    }
    input_at = in.pos;
    frame_open = left != 0;
  }
  if (out.pos == 0 && frame_open) {
    return Error{Code::kCorrupt, path + ": the zstd data ends in the middle: the file was cut off"};
  }
  piece->resize(out.pos);
  return {};
}

ByteSource::ByteSource(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ByteSource::ByteSource(ByteSource&&) noexcept = default;
ByteSource& ByteSource::operator=(ByteSource&&) noexcept = default;
ByteSource::~ByteSource() = default;

Result<ByteSource> ByteSource::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    return Error{Code::kInvalid, path + " is a folder, not a file"};
  }
  impl->file.reset(std::fopen(path.c_str(), "rb"));
  if (!impl->file) {
    const Code code = errno == ENOENT ? Code::kNotFound : Code::kIo;
    return Error{code, "cannot open " + path + ": " + std::strerror(errno)};
  }
  std::setvbuf(impl->file.get(), nullptr, _IONBF, 0);  // pieces are buffer enough
  TRY(impl->ReadFile());
  if (impl->input.size() >= 4 && std::memcmp(impl->input.data(), kZstdMagic, 4) == 0) {
    impl->stream.reset(ZSTD_createDStream());
    if (!impl->stream) return Error{Code::kMemory, "no memory for reading " + path};
  } else if (path.ends_with(".zst")) {
    return Error{Code::kCorrupt, path + " is no zstd file, whatever its name says"};
  }
  return ByteSource(std::move(impl));
}

Status ByteSource::Next(std::string* piece) {
  if (impl_->stream) return impl_->Decompress(piece);
  piece->swap(impl_->input);
  if (piece->empty()) return {};
  return impl_->ReadFile();
}

Result<LineSource> LineSource::Open(const std::string& path, uint64_t max_bytes) {
  return LineSource(TRY(ByteSource::Open(path)), path, max_bytes);
}

Result<bool> LineSource::Next(std::string* line) {
  line->clear();
  bool any = false;
  while (!ended_) {
    if (at_ == piece_.size()) {
      TRY(bytes_.Next(&piece_));
      at_ = 0;
      if (piece_.empty()) {
        ended_ = true;
        break;
      }
    }
    any = true;
    const size_t stop = piece_.find('\n', at_);
    const size_t to = stop == std::string::npos ? piece_.size() : stop;
    if (line->size() + (to - at_) > max_bytes_) {
      return Error{Code::kLimit, path_ + ":" + std::to_string(line_number_ + 1) +
                                     ": the line is longer than " + std::to_string(max_bytes_) +
                                     " bytes"};
    }
    line->append(piece_, at_, to - at_);
    at_ = stop == std::string::npos ? to : to + 1;
    if (stop != std::string::npos) break;
  }
  if (!any) return false;
  if (!line->empty() && line->back() == '\r') line->pop_back();
  ++line_number_;
  return true;
}

struct DocumentSource::Impl {
  SourceOptions options;
  std::vector<std::string> files;
  size_t next_file = 0;
  std::optional<LineSource> rows;
  std::optional<ByteSource> text;
  std::string held, line;  // of a text file: read, not given out
  uint64_t offset = 0;     // of held in its file
  bool text_ended = false;
  int64_t bad_rows = 0;
  uint64_t text_bytes = 0;

  Result<std::optional<Document>> NextRow();
  Result<std::optional<Document>> NextText();
  Status OpenNext();
};

Status DocumentSource::Impl::OpenNext() {
  const std::string& path = files[next_file++];
  if (IsRows(path)) {
    rows = TRY(LineSource::Open(path));
  } else {
    text = TRY(ByteSource::Open(path));
    held.clear();
    offset = 0;
    text_ended = false;
  }
  return {};
}

Result<std::optional<Document>> DocumentSource::Impl::NextRow() {
  while (TRY(rows->Next(&line))) {
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    TextReader reader(options.text_key);
    const bool parsed = json::sax_parse(line, &reader);
    std::string where = rows->path() + ":" + std::to_string(rows->line_number());
    if (parsed && reader.found) {
      return std::optional<Document>({std::move(reader.text), std::move(where)});
    }
    if (options.skip_bad_rows) {
      ++bad_rows;
      continue;
    }
    if (!parsed) {
      return Error{Code::kInvalid, where + ": no JSON (byte " + std::to_string(reader.error_at) +
                                       "): every line must be one JSON object"};
    }
    return Error{Code::kInvalid, where + ": no string under \"" + options.text_key + "\""};
  }
  rows.reset();
  return std::optional<Document>();
}

Result<std::optional<Document>> DocumentSource::Impl::NextText() {
  const uint64_t most = options.max_document_bytes;
  std::string piece;
  while (!text_ended && held.size() <= most) {
    TRY(text->Next(&piece));
    text_ended = piece.empty();
    held += piece;
  }
  const std::string& path = files[next_file - 1];
  std::string where = path;
  if (offset > 0) where.append(1, '+').append(std::to_string(offset));
  size_t cut = held.size();
  if (cut > most) {
    const size_t line_end = held.rfind('\n', most - 1);
    cut = line_end == std::string::npos ? most : line_end + 1;
    while (cut > 1 && (static_cast<unsigned char>(held[cut]) & 0xC0) == 0x80) --cut;
  }
  std::optional<Document> document;
  if (cut > 0) document = Document{held.substr(0, cut), std::move(where)};
  held.erase(0, cut);
  offset += cut;
  if (held.empty() && text_ended) text.reset();
  return document;
}

DocumentSource::DocumentSource(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DocumentSource::DocumentSource(DocumentSource&&) noexcept = default;
DocumentSource& DocumentSource::operator=(DocumentSource&&) noexcept = default;
DocumentSource::~DocumentSource() = default;

Result<DocumentSource> DocumentSource::Open(SourceOptions options) {
  if (options.paths.empty()) return Error{Code::kInvalid, "no input file or folder was given"};
  if (options.max_document_bytes < 1) {
    return Error{Code::kInvalid, "the longest document must be at least 1 byte"};
  }
  auto impl = std::make_unique<Impl>();
  for (const std::string& path : options.paths) {
    std::error_code error;
    const auto status = fs::status(path, error);
    if (!fs::exists(status)) return Error{Code::kNotFound, "no file or folder " + path};
    if (fs::is_directory(status)) {
      TRY(ListFolder(path, &impl->files));
    } else {
      impl->files.push_back(path);
    }
  }
  impl->options = std::move(options);
  return DocumentSource(std::move(impl));
}

Result<std::optional<Document>> DocumentSource::Next() {
  Impl& impl = *impl_;
  while (true) {
    std::optional<Document> document;
    if (impl.rows) {
      document = TRY(impl.NextRow());
    } else if (impl.text) {
      document = TRY(impl.NextText());
    } else if (impl.next_file < impl.files.size()) {
      TRY(impl.OpenNext());
      continue;
    } else {
      return std::optional<Document>();
    }
    if (!document) continue;
    impl.text_bytes += document->text.size();
    return document;
  }
}

const std::vector<std::string>& DocumentSource::files() const { return impl_->files; }
int64_t DocumentSource::bad_rows() const { return impl_->bad_rows; }
int64_t DocumentSource::files_done() const {
  const bool open = impl_->rows || impl_->text;
  return static_cast<int64_t>(impl_->next_file) - (open ? 1 : 0);
}
uint64_t DocumentSource::text_bytes() const { return impl_->text_bytes; }

}  // namespace hadal
