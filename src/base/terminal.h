// What a terminal needs: is there one, how wide is it, which bytes may reach it, did ctrl-C come.
#pragma once

#include <string>
#include <string_view>

namespace hadal {

bool IsTerminal(int fd);
int TerminalWidth(int fd);  // 80 where the system does not say

// Text that is safe to print: C0 and C1 controls other than \n and \t are dropped (model output and
// file names must not move the cursor or set the clipboard), DEL too; a byte that is not UTF-8
// becomes U+FFFD. `text` must not end inside a character.
std::string Printable(std::string_view text);

// While one lives, ctrl-C sets a flag instead of ending the process. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  static bool interrupted();
  static void Clear();
};

}  // namespace hadal
