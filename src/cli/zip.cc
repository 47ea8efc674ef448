// Layout (PKWARE APPNOTE 6.3): local header + data per entry, then the central directory (one
// record of 46 bytes + names per entry), then the end record of 22 bytes + comment, found by
// searching backwards. Little-endian throughout.
#include "cli/zip.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "cli/store.h"

namespace hadal::cli {
namespace {

constexpr uint32_t kLocalMagic = 0x04034b50, kCentralMagic = 0x02014b50, kEndMagic = 0x06054b50;
constexpr uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr size_t kMaxEntries = 100'000;
constexpr uint64_t kMaxEntryBytes = 1ull << 40;
// Deflate cannot expand more than 1032:1 (a 258-byte match in two bits).
constexpr uint64_t kMaxRatio = 1032;

uint16_t U16(const std::byte* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
uint32_t U32(const std::byte* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

struct Inflater {
  z_stream stream{};
  bool ready;
  Inflater() : ready(inflateInit2(&stream, -MAX_WBITS) == Z_OK) {}
  ~Inflater() {
    if (ready) inflateEnd(&stream);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
};

// Takes the entry's plain bytes: counts, sums and writes them, never more than the entry states.
struct Sink {
  const ZipEntry& entry;
  AtomicFile& file;
  const std::function<bool(uint64_t)>& progress;
  uint64_t done = 0;
  uint32_t crc = 0;

  Status Take(const void* data, size_t size) {
    if (size > entry.size - done) {
      return Error{Code::kCorrupt,
                   fmt::format("unpacks to more than the {} bytes it states", entry.size)};
    }
    crc = static_cast<uint32_t>(crc32_z(crc, static_cast<const Bytef*>(data), size));
    done += size;
    TRY(file.Write(data, size));
    if (progress && !progress(done)) return Error{Code::kCancelled, "interrupted"};
    return {};
  }
};

Status CopyStored(std::span<const std::byte> data, Sink& sink) {
  constexpr size_t kChunk = 1 << 20;
  for (size_t at = 0; at < data.size(); at += kChunk) {
    TRY(sink.Take(data.data() + at, std::min(kChunk, data.size() - at)));
  }
  return {};
}

Status Inflate(std::span<const std::byte> data, Sink& sink) {
  Inflater inflater;
  if (!inflater.ready) return Error{Code::kMemory, "zlib cannot start"};
  z_stream& z = inflater.stream;
  std::vector<char> out(1 << 18);
  size_t fed = 0;
  for (int state = Z_OK; state != Z_STREAM_END;) {
    if (z.avail_in == 0) {
      const size_t n = std::min<size_t>(data.size() - fed, 1 << 20);
      z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(data.data() + fed));
      z.avail_in = static_cast<uInt>(n);
      fed += n;
    }
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    state = inflate(&z, Z_NO_FLUSH);
    if (state != Z_OK && state != Z_STREAM_END) {
      return Error{Code::kCorrupt, "the compressed data is damaged"};
    }
    TRY(sink.Take(out.data(), out.size() - z.avail_out));
  }
  return {};
}

}  // namespace

Result<ZipFile> ZipFile::Open(const std::string& path) {
  ZipFile zip(TRY(MappedFile::Open(path)));
  const Status status = zip.ReadDirectory();
  if (!status.ok()) {
    return Error{status.error().code, fmt::format("{}: {}", path, status.error().message)};
  }
  return zip;
}

Status ZipFile::ReadDirectory() {
  const auto bytes = file_.bytes();
  const uint64_t size = bytes.size();
  if (size < kEndBytes) return Error{Code::kCorrupt, "not a zip archive: too short"};
  const uint64_t lowest = size > kEndBytes + 0xffff ? size - kEndBytes - 0xffff : 0;
  uint64_t end = size - kEndBytes;
  while (U32(bytes.data() + end) != kEndMagic) {
    if (end == lowest) return Error{Code::kCorrupt, "not a zip archive: no end record"};
    --end;
  }
  const std::byte* record = bytes.data() + end;
  const size_t count = U16(record + 10);
  uint64_t position = U32(record + 16);
  const uint64_t directory_bytes = U32(record + 12);
  if (count == 0xffff || position == 0xffffffff) {
    return Error{Code::kUnsupported, "a ZIP64 archive (over 4 GB), which is not read"};
  }
  if (position > end || directory_bytes > end - position) {
    return Error{Code::kCorrupt, fmt::format("directory at {} + {} bytes lies outside the file",
                                             position, directory_bytes)};
  }
  if (count > kMaxEntries) return Error{Code::kLimit, "too many entries"};

  std::set<std::string> names;
  for (size_t i = 0; i < count; ++i) {
    auto entry = TRY(ReadEntry(&position, end));
    if (!names.insert(entry.name).second) {
      return Error{Code::kCorrupt, fmt::format("entry {} appears twice", Quoted(entry.name))};
    }
    if (entry.name.back() != '/') entries_.push_back(std::move(entry));
  }
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& e : entries_) ranges.emplace_back(e.offset, e.offset + e.compressed);
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) {
      return Error{Code::kCorrupt, "entries share the same bytes: refused as a zip bomb"};
    }
  }
  return {};
}

Result<ZipEntry> ZipFile::ReadEntry(uint64_t* position, uint64_t end) const {
  const auto bytes = file_.bytes();
  if (end - *position < kCentralBytes || U32(bytes.data() + *position) != kCentralMagic) {
    return Error{Code::kCorrupt, fmt::format("directory record at {} is damaged", *position)};
  }
  const std::byte* p = bytes.data() + *position;
  ZipEntry entry;
  entry.method = U16(p + 10);
  entry.crc = U32(p + 16);
  entry.compressed = U32(p + 20);
  entry.size = U32(p + 24);
  const uint64_t name_bytes = U16(p + 28);
  const uint64_t record = kCentralBytes + name_bytes + U16(p + 30) + U16(p + 32);
  if (record > end - *position) {
    return Error{Code::kCorrupt, fmt::format("directory record at {} is cut off", *position)};
  }
  entry.name.assign(reinterpret_cast<const char*>(p + kCentralBytes), name_bytes);
  const bool folder = !entry.name.empty() && entry.name.back() == '/';
  TRY(CheckRelativePath(folder ? entry.name.substr(0, entry.name.size() - 1) : entry.name));
  const std::string where = "entry " + Quoted(entry.name);
  if (U16(p + 8) & 1) return Error{Code::kUnsupported, where + " is encrypted"};
  if (entry.compressed == 0xffffffff || entry.size == 0xffffffff) {
    return Error{Code::kUnsupported, where + " is in ZIP64 form (over 4 GB), which is not read"};
  }
  if (entry.method != 0 && entry.method != 8) {
    return Error{Code::kUnsupported, fmt::format("{} uses compression method {}; stored (0) and "
                                                 "deflate (8) are read",
                                                 where, entry.method)};
  }
  if (entry.method == 0 && entry.size != entry.compressed) {
    return Error{Code::kCorrupt, fmt::format("{} is stored, yet {} bytes are said to be {}", where,
                                             entry.compressed, entry.size)};
  }
  if (entry.size > kMaxEntryBytes || entry.size / kMaxRatio > entry.compressed) {
    return Error{Code::kLimit, fmt::format("{} claims {} bytes from {}: refused as a zip bomb",
                                           where, entry.size, entry.compressed)};
  }
  const uint64_t local = U32(p + 42);
  if (local > end || end - local < kLocalBytes || U32(bytes.data() + local) != kLocalMagic) {
    return Error{Code::kCorrupt, where + " points outside the file or at no entry"};
  }
  const std::byte* l = bytes.data() + local;
  const uint64_t header = kLocalBytes + U16(l + 26) + U16(l + 28);
  if (header > end - local || entry.compressed > end - local - header) {
    return Error{Code::kCorrupt, fmt::format("{}: {} bytes at {} run past the end of the file",
                                             where, entry.compressed, local)};
  }
  const std::string_view local_name(reinterpret_cast<const char*>(l + kLocalBytes), U16(l + 26));
  if (U16(l + 26) > end - local - kLocalBytes || local_name != entry.name) {
    return Error{Code::kCorrupt, where + " has another name in its own header"};
  }
  entry.offset = local + header;
  *position += record;
  return entry;
}

Status ZipFile::Extract(const ZipEntry& entry, const std::string& path,
                        const std::function<bool(uint64_t done)>& progress) const {
  TRY(CheckDiskSpace(path, entry.size));
  auto file = TRY(AtomicFile::Create(path));
  Sink sink{entry, file, progress};
  const auto data = file_.bytes().subspan(entry.offset, entry.compressed);
  Status status = entry.method == 0 ? CopyStored(data, sink) : Inflate(data, sink);
  if (status.ok() && file_.damaged()) {
    status = Error{Code::kIo, "the archive was cut off while it was read"};
  }
  if (status.ok() && sink.done != entry.size) {
    status =
        Error{Code::kCorrupt, fmt::format("unpacks to {} bytes, states {}", sink.done, entry.size)};
  }
  if (status.ok() && sink.crc != entry.crc) {
    status =
        Error{Code::kCorrupt, fmt::format("CRC-32 is {:08x}, states {:08x}", sink.crc, entry.crc)};
  }
  if (!status.ok()) {
    return Error{status.error().code, fmt::format("{}: entry {}: {}", file_.path(),
                                                  Quoted(entry.name), status.error().message)};
  }
  return file.Commit();
}

}  // namespace hadal::cli
