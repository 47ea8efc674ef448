// Lines from a file descriptor, with ctrl-C told apart from the end.
#pragma once

#include <string>

namespace hadal::cli {

class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}
  enum class Outcome { kLine, kEnd, kInterrupted };
  // A line without its break; the last may lack one. A line that ends in a backslash goes on in the
  // next. kInterrupted needs an InterruptGuard to be alive; what was typed is dropped then.
  Outcome Read(std::string& line);

 private:
  int fd_;
  std::string buffer_;
  bool ended_ = false;
};

}  // namespace hadal::cli
