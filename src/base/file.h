// Files: read-only mappings that survive truncation, atomic writes, small reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal {

// A read-only memory map of a whole file. If the file is cut off while mapped, reads past its new
// end see zero bytes instead of raising SIGBUS and `damaged()` turns true: whoever consumed the
// bytes checks it afterwards. Move-only; views into bytes() die with it.
class MappedFile {
 public:
  static Result<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  bool damaged() const;
  // Tells the system that bytes [offset, offset+size) will not be read again.
  void DropPages(size_t offset, size_t size) const;
  void DropPages(std::span<const std::byte> part) const;

 private:
  MappedFile() = default;
  void Close();
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int slot_ = -1;  // index in the table of guarded regions
};

// The whole file (or what a pipe or terminal gives) as a string; refuses more than max_bytes.
Result<std::string> ReadFile(const std::string& path, uint64_t max_bytes = 1ull << 30);

// A file written under a temporary name beside `path`, then synced and renamed by Commit().
// Destroyed without Commit() it leaves nothing behind.
class AtomicFile {
 public:
  static Result<AtomicFile> Create(const std::string& path);
  AtomicFile(AtomicFile&&) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status Write(const void* data, size_t size);
  Status Write(std::string_view text) { return Write(text.data(), text.size()); }
  uint64_t position() const { return position_; }
  Status Commit();

 private:
  AtomicFile() = default;
  Status Flush();
  std::string path_, temporary_;
  std::vector<char> buffer_;
  uint64_t position_ = 0;
  int fd_ = -1;
};

Status WriteFileAtomic(const std::string& path, std::string_view text);

}  // namespace hadal
