// Prints an answer as it comes: thoughts dimmed, collapsed to one line or hidden, nothing that
// could steer a terminal.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "tokenizer/thought_splitter.h"

namespace hadal::cli {

class ThoughtPrinter {
 public:
  // mode: "show", "collapse" or "hide". terminal: escape sequences may be written to `out`.
  ThoughtPrinter(std::string_view mode, bool terminal, FILE* out);

  void Print(const ThoughtSplitter::Piece& piece);
  // Ends the answer: `note` and a line break.
  void Finish(std::string_view note);

  const std::string& answer() const { return answer_; }  // as the model wrote it
  const std::string& thought() const { return thought_; }

 private:
  void OpenThought();
  void CloseThought();
  void Write(std::string_view text);

  enum class Mode { kShow, kCollapse, kHide } mode_;
  bool terminal_, in_thought_ = false;
  FILE* out_;
  std::string answer_, thought_;
};

}  // namespace hadal::cli
