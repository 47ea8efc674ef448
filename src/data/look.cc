#include "data/look.h"

#include <algorithm>
#include <span>

#include "base/terminal.h"
#include "tokenizer/unicode.h"

namespace hadal {
namespace {

enum class Style : uint8_t { kContext, kTarget, kSpecial, kSpecialTarget };

std::string_view ColourOf(Style style) {
  switch (style) {
    case Style::kContext:
      return "\x1b[90m";
    case Style::kTarget:
      return "\x1b[32m";
    case Style::kSpecial:
      return "\x1b[7;90m";
    case Style::kSpecialTarget:
      return "\x1b[7;32m";
  }
  return "";
}

bool IsTarget(Style style) { return style == Style::kTarget || style == Style::kSpecialTarget; }

class Painter {
 public:
  Painter(const Tokenizer& tokenizer, const LookOptions& options)
      : tokenizer_(tokenizer), options_(options) {}

  void Add(TokenId id, bool target) {
    const bool known = id >= 0 && id < tokenizer_.vocab_size();
    const bool special = !known || tokenizer_.IsSpecial(id);
    const Style style = special ? (target ? Style::kSpecialTarget : Style::kSpecial)
                                : (target ? Style::kTarget : Style::kContext);
    if (style != style_ || !known || options_.tokens) Flush();
    style_ = style;
    if (known) {
      run_.push_back(id);
    } else {
      Paint("<id " + std::to_string(id) + ">");
    }
  }

  std::string Take() {
    Flush();
    if (!options_.colour && marked_) out_ += "»";
    return std::move(out_);
  }

 private:
  void Flush() {
    if (run_.empty()) return;
    std::string text = tokenizer_.Decode(run_);
    run_.clear();
    text = Printable(internal::ReplaceInvalidUtf8(text));
    if (options_.tokens) text += "│";
    Paint(text);
  }
  void Paint(const std::string& text) {
    if (options_.colour) {
      out_ += ColourOf(style_);
      out_ += text;
      out_ += "\x1b[0m";
      return;
    }
    if (IsTarget(style_) != marked_) out_ += marked_ ? "»" : "«";
    marked_ = IsTarget(style_);
    out_ += text;
  }

  const Tokenizer& tokenizer_;
  const LookOptions& options_;
  Style style_ = Style::kContext;
  std::vector<TokenId> run_;
  std::string out_;
  bool marked_ = false;
};

}  // namespace

std::string RenderSample(const Tokenizer& tokenizer, const PackedSequence& sample,
                         const LookOptions& options) {
  std::string out;
  size_t left = options.max_tokens > 0 ? static_cast<size_t>(options.max_tokens) : SIZE_MAX;
  for (size_t d = 0; d < sample.document_first.size() && left > 0; ++d) {
    const auto begin = static_cast<size_t>(sample.document_first[d]);
    const size_t end = d + 1 < sample.document_first.size()
                           ? static_cast<size_t>(sample.document_first[d + 1])
                           : sample.tokens.size();
    const auto targets = std::count(sample.loss.begin() + static_cast<ptrdiff_t>(begin),
                                    sample.loss.begin() + static_cast<ptrdiff_t>(end), 1);
    out += "-- document " + std::to_string(d + 1) + " of " +
           std::to_string(sample.document_first.size()) + ": " + std::to_string(end - begin) +
           " tokens, " + std::to_string(targets) + " targets\n";
    Painter painter(tokenizer, options);
    const size_t shown = std::min(end - begin, left);
    for (size_t i = begin; i < begin + shown; ++i)
      painter.Add(sample.tokens[i], sample.loss[i] != 0);
    left -= shown;
    out += painter.Take();
    if (shown < end - begin) out += " …";
    out += "\n";
  }
  return out;
}

}  // namespace hadal
