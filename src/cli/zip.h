// Reading a zip archive that may lie: a wheel from a package index.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace hadal::cli {

struct ZipEntry {
  std::string name;  // safe: relative, no "..", no backslash or control character
  uint64_t size = 0;
  uint64_t compressed = 0;
  uint32_t crc = 0;
  uint16_t method = 0;  // 0 stored, 8 deflated
  uint64_t offset = 0;  // of the data
};

class ZipFile {
 public:
  // Checks the whole directory first: bounds, names, duplicate names, overlapping data (the trick
  // behind most bombs), encryption, ZIP64 and sizes no deflate stream can reach are refused.
  static Result<ZipFile> Open(const std::string& path);

  std::span<const ZipEntry> entries() const { return entries_; }
  // Writes an entry to `path`, under a temporary name until its size and CRC-32 are right.
  Status Extract(const ZipEntry& entry, const std::string& path,
                 const std::function<bool(uint64_t done)>& progress = {}) const;

 private:
  explicit ZipFile(MappedFile file) : file_(std::move(file)) {}
  Status ReadDirectory();
  Result<ZipEntry> ReadEntry(uint64_t* position, uint64_t end) const;
  MappedFile file_;
  std::vector<ZipEntry> entries_;
};

}  // namespace hadal::cli
