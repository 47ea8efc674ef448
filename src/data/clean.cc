#include "data/clean.h"

#include <algorithm>

#include "data/words.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace hadal {
namespace {

using internal::DecodeUtf8;
using internal::Utf8Char;

struct CodeRange {
  char32_t first, last;
};
// Characters that are in composed form, take no mark and are no mark: lines of these alone need no
// normalisation. (A safe part of NFC_Quick_Check = Yes, Unicode 15.)
constexpr CodeRange kComposed[] = {
    {0, 0x2FF},       {0x388, 0x482},   {0x48A, 0x590},   {0x2010, 0x2027},
    {0x2030, 0x205E}, {0x2070, 0x20CF}, {0x2190, 0x2328}, {0x232B, 0x2ADB},
    {0x3000, 0x3029}, {0x3030, 0x3098}, {0x309B, 0x4DBF}, {0x4E00, 0x9FFF},
    {0xAC00, 0xD7A3}, {0xFF00, 0xFFEF}, {0xFFFD, 0xFFFD}, {0x1F300, 0x1FAFF}};

bool IsComposed(char32_t code) {
  const auto* range = std::lower_bound(std::begin(kComposed), std::end(kComposed), code,
                                       [](const CodeRange& r, char32_t c) { return r.last < c; });
  return range != std::end(kComposed) && code >= range->first;
}

bool IsControl(char32_t code) {
  return (code < 0x20 && code != '\t' && code != '\n') || (code >= 0x7F && code < 0xA0) ||
         code == 0xFEFF || code == 0xFFFE || code == 0xFFFF;
}

bool IsLineEnd(char32_t code) { return code == 0x85 || code == 0x2028 || code == 0x2029; }

const internal::Normalizer& Nfc() {
  static const internal::Normalizer normalizer = [] {
    internal::Normalizer n;
    n.AddStep({.kind = internal::Normalizer::Step::Kind::kNfc});
    return n;
  }();
  return normalizer;
}

// Puts lines together.
class Lines {
 public:
  explicit Lines(const NormaliseOptions& options) : options_(options) {}

  void Append(const char* p, size_t size) { line_.append(p, size); }
  void NeedsNfc() { composed_ = false; }

  void End(bool last) {
    if (options_.nfc && !composed_) line_ = Nfc().Apply(line_);
    composed_ = true;
    if (options_.blank_runs) {
      line_.resize(line_.find_last_not_of(" \t") + 1);
      blank_ = line_.empty() ? blank_ + 1 : 0;
      if (blank_ > 1 && !last) return;
    }
    if (options_.trim && out_.empty() && line_.find_first_not_of(" \t") == std::string::npos) {
      line_.clear();
      return;
    }
    out_ += line_;
    if (!last) out_ += '\n';
    line_.clear();
  }

  std::string Take() {
    if (options_.trim) out_.resize(out_.find_last_not_of(" \t\n") + 1);
    return std::move(out_);
  }

 private:
  const NormaliseOptions& options_;
  std::string out_, line_;
  bool composed_ = true;
  int64_t blank_ = 0;
};

struct Counts {
  int64_t latin = 0, ideographs = 0, kana = 0, other = 0, marks = 0, printed = 0;
  int64_t lines = 0, code_lines = 0;
};

bool IsCodeLine(std::string_view line) {
  const size_t first = line.find_first_not_of(" \t"), last = line.find_last_not_of(" \t");
  if (first == std::string_view::npos) return false;
  const char c = line[last];
  if (c == ';' || c == '{' || c == '}' || c == '\\' || c == '(') return true;
  const std::string_view body = line.substr(first, last - first + 1);
  if ((c == ')' || c == ',') && body.find('(') != std::string_view::npos &&
      body.find_first_of("=_") != std::string_view::npos) {
    return true;
  }
  constexpr std::string_view kStarts[] = {"#include", "#define", "#if",  "#endif", "//",     "/*",
                                          "import ",  "from ",   "def ", "class ", "return", "if (",
                                          "for (",    "while (", "fn ",  "func "};
  for (const std::string_view start : kStarts) {
    if (body.starts_with(start)) return true;
  }
  return c == ':' && (body.starts_with("if ") || body.starts_with("for ") ||
                      body.starts_with("else") || body.starts_with("while "));
}

void CountLine(std::string_view line, Counts* n) {
  if (line.find_first_not_of(" \t") == std::string_view::npos) return;
  ++n->lines;
  n->code_lines += IsCodeLine(line);
  const char* end = line.data() + line.size();
  for (const char* p = line.data(); p < end;) {
    const Utf8Char c = DecodeUtf8(p, end);
    p += c.size;
    if (c.code <= ' ') continue;
    ++n->printed;
    if ((c.code | 32) >= 'a' && (c.code | 32) <= 'z') {
      ++n->latin;
    } else if (c.code < 0x80) {
      constexpr std::string_view kMarks = "{}()[];=<>_&|*+/\\\"";
      n->marks += kMarks.find(static_cast<char>(c.code)) != std::string_view::npos;
    } else if (internal::IsIdeograph(c.code)) {
      ++(c.code >= 0x3041 && c.code <= 0x30FF ? n->kana : n->ideographs);
    } else if ((internal::CharClasses()[c.code] & internal::kLetter) != 0) {
      ++(c.code < 0x250 ? n->latin : n->other);
    }
  }
}

// English lives on a few words; other languages in Latin letters hardly use them.
bool SoundsEnglish(std::string_view text) {
  constexpr std::string_view kCommon[] = {"the",  "of", "and", "to", "a",    "in", "is",
                                          "that", "it", "for", "as", "with", "on", "be"};
  int64_t words = 0, common = 0;
  char word[8];
  size_t size = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? static_cast<char>(text[i] | 32) : ' ';
    if (c >= 'a' && c <= 'z') {
      if (size < sizeof word) word[size] = c;
      ++size;
    } else if (size > 0) {
      ++words;
      const std::string_view w(word, std::min(size, sizeof word));
      common +=
          size <= 4 && std::find(std::begin(kCommon), std::end(kCommon), w) != std::end(kCommon);
      size = 0;
    }
  }
  return words < 10 || common * 20 >= words;
}

}  // namespace

std::string Normalise(std::string_view text, const NormaliseOptions& options) {
  Lines lines(options);
  const char* const end = text.data() + text.size();
  const char* p = text.data();
  while (p < end) {
    const char* plain = p;
    while (p < end && static_cast<uint8_t>(*p) >= 0x20 && static_cast<uint8_t>(*p) < 0x7F) ++p;
    lines.Append(plain, static_cast<size_t>(p - plain));
    if (p == end) break;
    const Utf8Char c = DecodeUtf8(p, end);
    const char* const here = p;
    p += c.size;
    if (c.code == '\n') {
      lines.End(false);
    } else if (options.line_ends && (c.code == '\r' || IsLineEnd(c.code))) {
      if (c.code == '\r' && p < end && *p == '\n') ++p;
      lines.End(false);
    } else if (!c.valid) {
      lines.Append("\xEF\xBF\xBD", 3);
    } else if (!options.controls || !IsControl(c.code)) {
      if (!IsComposed(c.code)) lines.NeedsNfc();
      lines.Append(here, c.size);
    }
  }
  lines.End(true);
  return lines.Take();
}

std::string_view TextKindName(TextKind kind) {
  constexpr std::string_view kNames[kTextKinds] = {"en", "zh", "code", "other"};
  return kNames[static_cast<size_t>(kind)];
}

TextKind EstimateTextKind(std::string_view text) {
  constexpr size_t kSample = 32 << 10;  // of the start: enough to tell, and the cost is bounded
  if (text.size() > kSample) text = text.substr(0, kSample);
  Counts n;
  for (size_t at = 0; at < text.size();) {
    const size_t stop = std::min(text.find('\n', at), text.size());
    CountLine(text.substr(at, stop - at), &n);
    at = stop + 1;
  }
  // A Chinese character says about as much as three letters.
  if (3 * (n.ideographs + n.kana) > n.latin + n.other) {
    return 4 * n.kana > n.ideographs ? TextKind::kOther : TextKind::kChinese;
  }
  const bool code =
      n.lines > 0 && 100 * n.marks >= 7 * n.printed && 10 * n.code_lines >= 3 * n.lines;
  if (code) return TextKind::kCode;
  const bool latin = n.latin > 0 && 10 * n.latin >= 9 * (n.latin + n.other);
  return latin && SoundsEnglish(text) ? TextKind::kEnglish : TextKind::kOther;
}

}  // namespace hadal
