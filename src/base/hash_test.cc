#include "base/hash.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"

namespace hadal {
namespace {

// FIPS 180-4 examples.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, AFileHashesAsItsBytes) {
  const std::string path = "/tmp/hadal-hash-test-" + std::to_string(getpid());
  const std::string text((9 << 20) + 3, 'q');
  ASSERT_TRUE(WriteFileAtomic(path, text).ok());
  EXPECT_EQ(Sha256File(path).value(), Sha256Hex(text));
  unlink(path.c_str());
  EXPECT_FALSE(Sha256File(path).ok());
}

}  // namespace
}  // namespace hadal
