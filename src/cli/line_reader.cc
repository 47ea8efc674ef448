#include "cli/line_reader.h"

#include <unistd.h>

#include <cerrno>

#include "base/terminal.h"

namespace hadal::cli {

LineReader::Outcome LineReader::Read(std::string& line) {
  line.clear();
  for (;;) {
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos || (ended_ && !buffer_.empty())) {
      line += buffer_.substr(0, end);
      buffer_.erase(0, end == std::string::npos ? buffer_.size() : end + 1);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty() || line.back() != '\\' || (ended_ && buffer_.empty())) return Outcome::kLine;
      line.back() = '\n';
      continue;
    }
    if (ended_) return line.empty() ? Outcome::kEnd : Outcome::kLine;
    char chunk[4096];
    const ssize_t n = read(fd_, chunk, sizeof chunk);
    if (n > 0) {
      buffer_.append(chunk, static_cast<size_t>(n));
    } else if (n < 0 && errno == EINTR) {
      if (!InterruptGuard::interrupted()) continue;
      buffer_.clear();
      line.clear();
      return Outcome::kInterrupted;
    } else {
      ended_ = true;
    }
  }
}

}  // namespace hadal::cli
