// Documents from files: text, JSONL, zstd of both, folders of either or of code. Streaming: memory
// is bounded by the longest line or max_document_bytes, never by a file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace hadal {

struct Document {
  std::string text;
  std::string where;  // "path:line" of JSONL, "path" of text, with "+byte" where a file was cut
};

// The bytes of a file, or what a zstd file (told by its first bytes) holds, in pieces.
class ByteSource {
 public:
  static Result<ByteSource> Open(const std::string& path);
  ByteSource(ByteSource&&) noexcept;
  ByteSource& operator=(ByteSource&&) noexcept;
  ~ByteSource();
  // Replaces *piece by the next bytes, at most about 256 KiB; empty at the end. kCorrupt for a
  // damaged or cut zstd stream.
  Status Next(std::string* piece);

 private:
  struct Impl;
  explicit ByteSource(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Lines of a file, without their \n or \r\n. A line over max_bytes is kLimit.
class LineSource {
 public:
  static Result<LineSource> Open(const std::string& path, uint64_t max_bytes = 64 << 20);
  // False at the end. line_number() is then that of the last line, from 1.
  Result<bool> Next(std::string* line);
  int64_t line_number() const { return line_number_; }
  const std::string& path() const { return path_; }

 private:
  LineSource(ByteSource bytes, std::string path, uint64_t max_bytes)
      : bytes_(std::move(bytes)), path_(std::move(path)), max_bytes_(max_bytes) {}
  ByteSource bytes_;
  std::string path_, piece_;
  size_t at_ = 0;
  uint64_t max_bytes_;
  int64_t line_number_ = 0;
  bool ended_ = false;
};

struct SourceOptions {
  // Files or folders. Of a folder every file with a known ending is read, in the order of names,
  // hidden files, links and folders named like those of version control or builds left out.
  std::vector<std::string> paths;
  std::string text_key = "text";          // of a JSONL row
  uint64_t max_document_bytes = 8 << 20;  // a longer text file is cut at a line end, or anywhere
  bool skip_bad_rows = false;             // rows without text are counted, not an error
};

class DocumentSource {
 public:
  // Lists the files; an absent path, an empty list and a folder without files are errors.
  static Result<DocumentSource> Open(SourceOptions options);
  DocumentSource(DocumentSource&&) noexcept;
  DocumentSource& operator=(DocumentSource&&) noexcept;
  ~DocumentSource();

  // nullopt at the end. Errors name file and line.
  Result<std::optional<Document>> Next();
  const std::vector<std::string>& files() const;
  int64_t bad_rows() const;     // skipped
  int64_t files_done() const;   // for progress
  uint64_t text_bytes() const;  // of the documents given out

 private:
  struct Impl;
  explicit DocumentSource(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
