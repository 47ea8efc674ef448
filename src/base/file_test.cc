#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace hadal {
namespace {

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hadal-file-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  std::string folder_;
};

TEST_F(FileTest, MapsWhatWasWritten) {
  ASSERT_TRUE(WriteFileAtomic(Path("a"), "hello").ok());
  auto file = MappedFile::Open(Path("a"));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file->bytes().data()), 5), "hello");
  EXPECT_FALSE(file->damaged());
}

TEST_F(FileTest, AnEmptyFileMapsToNothing) {
  ASSERT_TRUE(WriteFileAtomic(Path("a"), "").ok());
  auto file = MappedFile::Open(Path("a"));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->bytes().empty());
}

TEST_F(FileTest, ErrorsNameThePath) {
  auto missing = MappedFile::Open(Path("missing"));
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_NE(missing.error().message.find("missing"), std::string::npos);
  auto folder = MappedFile::Open(folder_);
  ASSERT_FALSE(folder.ok());
  EXPECT_EQ(folder.error().code, Code::kIo);
}

TEST_F(FileTest, PipesAndDevicesAreRefused) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::Open(Path("pipe")).error().code, Code::kIo);
  EXPECT_EQ(ReadFile("/dev/zero", 100000).error().code, Code::kLimit);
}

TEST_F(FileTest, TruncationWhileMappedReadsZerosAndIsNoticed) {
  ASSERT_TRUE(WriteFileAtomic(Path("a"), std::string(1 << 20, 'x')).ok());
  auto file = MappedFile::Open(Path("a"));
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(truncate(Path("a").c_str(), 5000), 0);
  const auto bytes = file->bytes();
  size_t zeros = 0;
  for (size_t i = 8192; i < bytes.size(); i += 4096) zeros += bytes[i] == std::byte{0};
  EXPECT_EQ(zeros, (bytes.size() - 8192 + 4095) / 4096);
  EXPECT_TRUE(file->damaged());
}

TEST_F(FileTest, MovedMappingsStayGuarded) {
  ASSERT_TRUE(WriteFileAtomic(Path("a"), std::string(1 << 16, 'x')).ok());
  MappedFile file = MappedFile::Open(Path("a")).value();
  MappedFile moved = std::move(file);
  ASSERT_EQ(truncate(Path("a").c_str(), 0), 0);
  EXPECT_EQ(moved.bytes()[40000], std::byte{0});
  EXPECT_TRUE(moved.damaged());
}

TEST_F(FileTest, ReadFileRefusesWhatIsTooLarge) {
  ASSERT_TRUE(WriteFileAtomic(Path("a"), std::string(100, 'x')).ok());
  EXPECT_EQ(ReadFile(Path("a")).value().size(), 100u);
  auto refused = ReadFile(Path("a"), 99);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kLimit);
}

TEST_F(FileTest, UncommittedFilesLeaveNothingBehind) {
  {
    auto file = AtomicFile::Create(Path("a"));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->Write("half").ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(FileTest, CommitReplacesTheOldContents) {
  ASSERT_TRUE(WriteFileAtomic(Path("a"), "old").ok());
  auto file = AtomicFile::Create(Path("a"));
  ASSERT_TRUE(file.ok());
  const std::string big((3 << 20) + 17, 'y');
  ASSERT_TRUE(file->Write(big).ok());
  EXPECT_EQ(ReadFile(Path("a")).value(), "old");
  ASSERT_TRUE(file->Commit().ok());
  EXPECT_EQ(ReadFile(Path("a")).value(), big);
}

TEST_F(FileTest, AnUnwritableFolderIsAnError) {
  auto file = AtomicFile::Create(Path("no/such/folder/a"));
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().code, Code::kNotFound);
}

}  // namespace
}  // namespace hadal
