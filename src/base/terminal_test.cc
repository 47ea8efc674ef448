#include "base/terminal.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "base/progress.h"

namespace hadal {
namespace {

TEST(PrintableTest, DropsEscapesAndKeepsText) {
  EXPECT_EQ(Printable("plain \xc3\xa9 \xe6\xb7\xb1 \xf0\x9f\x90\x8b\n\tend"),
            "plain \xc3\xa9 \xe6\xb7\xb1 \xf0\x9f\x90\x8b\n\tend");
  EXPECT_EQ(Printable("a\x1b[31mb\x1b]0;title\x07"), "a[31mb]0;title");
  EXPECT_EQ(Printable("bell\x07 back\x08 return\r nul" + std::string(1, '\0')),
            "bell back return nul");
  EXPECT_EQ(Printable("c1 \xc2\x9b"
                      "31m del \x7f."),
            "c1 31m del .");
}

TEST(PrintableTest, BrokenUtf8BecomesReplacementCharacters) {
  EXPECT_EQ(Printable("\x9b"
                      "31m"),
            "\xef\xbf\xbd"
            "31m");                                                                // a raw C1 byte
  EXPECT_EQ(Printable("\xc0\x9b"), "\xef\xbf\xbd\xef\xbf\xbd");                    // overlong
  EXPECT_EQ(Printable("\xe6\xb7"), "\xef\xbf\xbd\xef\xbf\xbd");                    // cut off
  EXPECT_EQ(Printable("\xed\xa0\x80x"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx");  // surrogate
}

TEST(InterruptGuardTest, CatchesAndRestores) {
  {
    InterruptGuard guard;
    EXPECT_FALSE(InterruptGuard::interrupted());
    raise(SIGINT);
    EXPECT_TRUE(InterruptGuard::interrupted());
    InterruptGuard::Clear();
    EXPECT_FALSE(InterruptGuard::interrupted());
  }
  struct sigaction now {};
  sigaction(SIGINT, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
}

TEST(ProgressTest, HumanBytes) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1000), "1.00 kB");
  EXPECT_EQ(HumanBytes(92871040), "92.9 MB");
  EXPECT_EQ(HumanBytes(999999), "1.00 MB");
}

TEST(ProgressTest, LineFitsTheWidth) {
  const std::string line =
      ProgressLine("model.gguf", 25'000'000, 100'000'000, 5e6, Progress::Unit::kBytes, 80);
  EXPECT_LT(line.size(), 80u);
  EXPECT_NE(line.find(" 25%"), std::string::npos);
  EXPECT_NE(line.find("5.00 MB/s  0:15"), std::string::npos);
  EXPECT_LT(ProgressLine(std::string(200, 'x'), 1, 2, 1, Progress::Unit::kCount, 40).size(), 40u);
  EXPECT_EQ(ProgressLine("rows", 7, 0, 0, Progress::Unit::kCount, 80), "rows  7");
}

}  // namespace
}  // namespace hadal
