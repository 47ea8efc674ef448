#include "base/terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>

namespace hadal {
namespace {

volatile sig_atomic_t interrupt_flag = 0;
struct sigaction saved_action;

void OnInterrupt(int) { interrupt_flag = 1; }

// Length of the well-formed UTF-8 character at the start of `text` (RFC 3629: no overlong forms,
// surrogates or values past U+10FFFF), 0 when there is none.
size_t CharacterLength(std::string_view text, uint32_t* code) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) {
    *code = lead;
    return 1;
  }
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  *code = lead & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    *code = (*code << 6) | (byte(i) & 0x3fu);
  }
  if (length == 3 && (*code < 0x800 || (*code >= 0xd800 && *code < 0xe000))) return 0;
  if (length == 4 && (*code < 0x10000 || *code > 0x10ffff)) return 0;
  return length;
}

}  // namespace

bool IsTerminal(int fd) { return isatty(fd) == 1; }

int TerminalWidth(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::string Printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    uint32_t code = 0;
    const size_t length = CharacterLength(text, &code);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      text.remove_prefix(1);
      continue;
    }
    const bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
    if (!control || code == '\n' || code == '\t') out += text.substr(0, length);
    text.remove_prefix(length);
  }
  return out;
}

InterruptGuard::InterruptGuard() {
  interrupt_flag = 0;
  struct sigaction action {};
  action.sa_handler = OnInterrupt;  // no SA_RESTART: a blocking read must come back
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &saved_action);
}

InterruptGuard::~InterruptGuard() { sigaction(SIGINT, &saved_action, nullptr); }

bool InterruptGuard::interrupted() { return interrupt_flag != 0; }

void InterruptGuard::Clear() { interrupt_flag = 0; }

}  // namespace hadal
