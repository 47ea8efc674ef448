#include "cli/zip.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstring>
#include <filesystem>

#include "base/file.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;

void Put(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
}

std::string Deflate(const std::string& text) {
  z_stream z{};
  deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&z, text.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

struct Item {
  std::string name, content;
  bool deflated = false;
  // Lies, when set:
  int64_t size = -1, crc = -1, offset = -1, method = -1, flags = 0;
  std::string local_name = {};
};

std::string MakeZip(const std::vector<Item>& items) {
  std::string out, directory;
  for (const Item& item : items) {
    const std::string data = item.deflated ? Deflate(item.content) : item.content;
    const uint64_t offset = item.offset >= 0 ? uint64_t(item.offset) : out.size();
    const uint64_t size = item.size >= 0 ? uint64_t(item.size) : item.content.size();
    const uint64_t real =
        crc32(0, reinterpret_cast<const Bytef*>(item.content.data()), uInt(item.content.size()));
    const uint64_t crc = item.crc >= 0 ? uint64_t(item.crc) : real;
    const uint64_t method = item.method >= 0 ? uint64_t(item.method) : item.deflated ? 8 : 0;
    const auto common = [&](std::string& to, const std::string& name) {
      Put(to, 20, 2);
      Put(to, uint64_t(item.flags), 2);
      Put(to, method, 2);
      Put(to, 0, 4);
      Put(to, crc, 4);
      Put(to, data.size(), 4);
      Put(to, size, 4);
      Put(to, name.size(), 2);
      Put(to, 0, 2);
    };
    const std::string local = item.local_name.empty() ? item.name : item.local_name;
    out += "PK\x03\x04";
    common(out, local);
    out += local + data;
    directory += "PK\x01\x02";
    Put(directory, 20, 2);
    common(directory, item.name);
    Put(directory, 0, 6);  // comment, disk, inner attributes
    Put(directory, 0, 4);  // outer attributes
    Put(directory, offset, 4);
    directory += item.name;
  }
  const size_t start = out.size();
  out += directory + "PK\x05\x06";
  Put(out, 0, 4);
  Put(out, items.size(), 2);
  Put(out, items.size(), 2);
  Put(out, directory.size(), 4);
  Put(out, start, 4);
  Put(out, 0, 2);
  return out;
}

class ZipTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("hadal_zip_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  Result<ZipFile> Open(const std::string& bytes) {
    const std::string path = folder_ / "a.zip";
    EXPECT_TRUE(WriteFileAtomic(path, bytes).ok());
    return ZipFile::Open(path);
  }
  Result<ZipFile> Open(const std::vector<Item>& items) { return Open(MakeZip(items)); }
  std::string OpenError(const std::vector<Item>& items) {
    const auto zip = Open(items);
    return zip.ok() ? "opened" : zip.error().message;
  }
  std::string ExtractError(const std::vector<Item>& items) {
    const auto zip = Open(items);
    if (!zip.ok()) return "not opened: " + zip.error().message;
    const Status status = zip->Extract(zip->entries()[0], folder_ / "out");
    EXPECT_EQ(fs::exists(folder_ / "out"), status.ok());
    return status.ok() ? "extracted" : status.error().message;
  }
  bool Has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }
  fs::path folder_;
};

TEST_F(ZipTest, StoredAndDeflatedRoundTrip) {
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += static_cast<char>('a' + i % 26);
  const auto zip = Open({{"d/one.gguf", text, true}, {"two.txt", "short"}, {"dir/", ""}});
  ASSERT_TRUE(zip.ok()) << zip.error().message;
  ASSERT_EQ(zip->entries().size(), 2u);
  const std::string path = folder_ / "out";
  uint64_t last = 0;
  ASSERT_TRUE(zip->Extract(zip->entries()[0], path,
                           [&](uint64_t done) {
                             last = done;
                             return true;
                           })
                  .ok());
  EXPECT_EQ(*ReadFile(path), text);
  EXPECT_EQ(last, text.size());
  ASSERT_TRUE(zip->Extract(zip->entries()[1], path).ok());
  EXPECT_EQ(*ReadFile(path), "short");
  const Status stopped = zip->Extract(zip->entries()[0], path, [](uint64_t) { return false; });
  EXPECT_EQ(stopped.error().code, Code::kCancelled);
}

TEST_F(ZipTest, SlipIsRefused) {
  for (const char* name :
       {"../evil", "/etc/passwd", "a/../../b", "a\\..\\b", "a//b", ".", "a/\x01"}) {
    EXPECT_TRUE(Has(OpenError({{name, "x"}}), "unsafe file name")) << name;
  }
}

TEST_F(ZipTest, BombsAreRefused) {
  const std::string zeros(1'000'000, '\0');
  EXPECT_TRUE(
      Has(OpenError({{.name = "a", .content = zeros, .deflated = true, .size = 4'000'000'000}}),
          "zip bomb"));
  EXPECT_TRUE(Has(ExtractError({{.name = "a", .content = zeros, .deflated = true, .size = 1000}}),
                  "more than the 1000 bytes"));
  EXPECT_TRUE(
      Has(OpenError({{"a", "x"}, {.name = "b", .content = "x", .offset = 0, .local_name = "a"}}),
          "another name"));
}

TEST_F(ZipTest, OverlappingEntriesAreRefused) {
  // Two directory records with the same name and data: duplicate; the same bytes under two names
  // cannot have both names in the local header.
  EXPECT_TRUE(Has(OpenError({{"a", "x"}, {.name = "a", .content = "x", .offset = 0}}), "twice"));
  // An entry whose data holds the next entry's header.
  std::string inner = MakeZip({{"b", "payload"}});
  inner.resize(30 + 1 + 7);
  const std::string lie = "PK";
  EXPECT_TRUE(Has(OpenError({{"a", inner}, {.name = "b", .content = "payload", .offset = 31}}),
                  "zip bomb"));
}

TEST_F(ZipTest, DamageIsFound) {
  EXPECT_TRUE(Has(ExtractError({{.name = "a", .content = "hello", .crc = 1}}), "CRC-32"));
  EXPECT_TRUE(
      Has(ExtractError({{.name = "a", .content = "hello hello", .deflated = true, .size = 500}}),
          "unpacks to 11 bytes, states 500"));
  EXPECT_TRUE(Has(ExtractError({{.name = "a", .content = "not deflate", .method = 8}}), "damaged"));
  EXPECT_TRUE(Has(OpenError({{.name = "a", .content = "x", .method = 12}}), "method 12"));
  EXPECT_TRUE(Has(OpenError({{.name = "a", .content = "x", .flags = 1}}), "encrypted"));
  EXPECT_TRUE(Has(OpenError({{.name = "a", .content = "x", .offset = 5000}}), "outside"));
}

TEST_F(ZipTest, EveryTruncationAndFlippedByteIsSafe) {
  const std::string good = MakeZip({{"one.gguf", "some text some text", true}, {"two", "22"}});
  for (size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(Open(good.substr(0, n)).ok()) << n;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0xff);
    const auto zip = Open(bad);
    if (!zip.ok()) continue;
    for (const auto& entry : zip->entries()) {
      (void)zip->Extract(entry, folder_ / "out").ok();
      EXPECT_LT(entry.size, 1'000'000u);
    }
  }
}

}  // namespace
}  // namespace hadal::cli
