#include "cli/thought_printer.h"

#include <fmt/format.h>

#include "base/terminal.h"

namespace hadal::cli {
namespace {

constexpr std::string_view kDim = "\x1b[2m", kPlain = "\x1b[0m", kClearLine = "\r\x1b[K";

int64_t Words(std::string_view text) {
  int64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t';
    words += !space && !inside;
    inside = !space;
  }
  return words;
}

}  // namespace

ThoughtPrinter::ThoughtPrinter(std::string_view mode, bool terminal, FILE* out)
    : mode_(mode == "show"       ? Mode::kShow
            : mode == "collapse" ? Mode::kCollapse
                                 : Mode::kHide),
      terminal_(terminal),
      out_(out) {}

void ThoughtPrinter::Write(std::string_view text) {
  fwrite(text.data(), 1, text.size(), out_);
  fflush(out_);
}

void ThoughtPrinter::OpenThought() {
  in_thought_ = true;
  if (mode_ == Mode::kShow) Write(terminal_ ? kDim : "[thinking]\n");
}

void ThoughtPrinter::CloseThought() {
  if (!in_thought_) return;
  in_thought_ = false;
  if (mode_ == Mode::kShow) Write(terminal_ ? fmt::format("{}\n\n", kPlain) : "\n[answer]\n");
  if (mode_ == Mode::kCollapse) {
    const std::string line = fmt::format("[thought: {} words]", Words(thought_));
    Write(terminal_ ? fmt::format("{}{}{}{}\n", kClearLine, kDim, line, kPlain) : line + "\n");
  }
}

void ThoughtPrinter::Print(const ThoughtSplitter::Piece& piece) {
  const std::string safe = Printable(piece.text);
  if (piece.part == ThoughtSplitter::Part::kAnswer) {
    CloseThought();
    answer_ += piece.text;
    Write(safe);
    return;
  }
  if (!in_thought_) OpenThought();
  thought_ += piece.text;
  if (mode_ == Mode::kShow) Write(safe);
  if (mode_ == Mode::kCollapse && terminal_) {
    Write(fmt::format("{}{}thinking ... {} words{}", kClearLine, kDim, Words(thought_), kPlain));
  }
}

void ThoughtPrinter::Finish(std::string_view note) {
  CloseThought();
  Write(fmt::format("{}\n", note));
}

}  // namespace hadal::cli
