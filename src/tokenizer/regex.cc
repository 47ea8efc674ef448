#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdio>
#include <ctime>
#include <optional>

#include "tokenizer/unicode.h"

namespace hadal::internal {
namespace {

constexpr size_t kMaxPattern = 64 << 10;
constexpr uint32_t kMatchLimit = 1'000'000;
constexpr uint32_t kHeapLimitKib = 64 << 10;
// A single match call tries at most this many start positions, so that the clock is looked at.
constexpr size_t kStartWindow = 1024;

// PCRE2's \s also holds U+180E: spelled out instead.
constexpr std::string_view kSpaceSet =
    "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"
    "\\x{3000}";
constexpr std::string_view kHexSet = "0-9a-fA-F";

// The members of \w as ranges: PCRE2's lacks marks, among others.
const std::string& WordSet() {
  static const std::string set = [] {
    std::string out;
    const uint8_t* classes = CharClasses();
    char hex[16];
    for (char32_t c = 0; c < kCodePoints; ++c) {
      if (!(classes[c] & kWord)) continue;
      char32_t last = c;
      while (last + 1 < kCodePoints && (classes[last + 1] & kWord)) ++last;
      for (const char32_t end : {c, last}) {
        std::snprintf(hex, sizeof(hex), "\\x{%x}", static_cast<unsigned>(end));
        out += end == last && last != c ? "-" : "";
        out += end == c || last != c ? hex : "";
        if (last == c) break;
      }
      c = last;
    }
    return out;
  }();
  return set;
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> Run() {
    while (at_ < in_.size()) {
      const Status status = Step();
      if (!status.ok()) return status.error();
    }
    return std::move(out_);
  }

 private:
  Error Bad(std::string_view what) const {
    return {Code::kUnsupported, "regular expression, byte " + std::to_string(at_) + ": " +
                                    std::string(what) + " is not supported"};
  }

  Status Step() {
    const char c = in_[at_];
    if (c == '\\') {
      atom_ = out_.size();
      return Escape(/*in_class=*/false);
    }
    if (c == '[') {
      atom_ = out_.size();
      return Class(/*nested=*/false);
    }
    if (c == '(') {
      groups_.push_back(out_.size());
      out_ += c;
      ++at_;
      return GroupFlags();
    }
    if (c == ')') {
      if (!groups_.empty()) {
        atom_ = groups_.back();
        groups_.pop_back();
      }
      out_ += c;
      ++at_;
      return {};
    }
    if (c == '{' && PossessiveInterval()) return {};
    // Quantifiers leave the atom as it is; the bytes of one character are one atom.
    const bool quantifier = c == '*' || c == '+' || c == '?' || c == '{' || c == '}' || c == ',' ||
                            (c >= '0' && c <= '9' && in_interval_);
    if (c == '{') in_interval_ = true;
    if (c == '}') in_interval_ = false;
    const bool tail = (static_cast<unsigned char>(c) & 0xC0) == 0x80;
    if (!quantifier && !tail) atom_ = out_.size();
    out_ += c;
    ++at_;
    return {};
  }

  // Oniguruma reads X{n,m}+ as (?:X{n,m})+, PCRE2 as possessive.
  bool PossessiveInterval() {
    const size_t close = in_.find('}', at_);
    if (close == std::string_view::npos || close + 1 >= in_.size() || in_[close + 1] != '+') {
      return false;
    }
    const std::string_view body = in_.substr(at_ + 1, close - at_ - 1);
    if (body.empty() || body.find_first_not_of("0123456789,") != std::string_view::npos) {
      return false;
    }
    out_.insert(atom_, "(?:");
    out_ += '{';
    out_ += body;
    out_ += "})+";
    at_ = close + 2;
    return true;
  }

  // (?m) means "dot matches line breaks" to Oniguruma, which PCRE2 spells (?s).
  Status GroupFlags() {
    if (at_ < in_.size() && in_[at_] == '*') return Bad("(*");
    if (at_ >= in_.size() || in_[at_] != '?') return {};
    const size_t end = in_.find_first_not_of("imx-", at_ + 1);
    if (end == std::string_view::npos || (in_[end] != ':' && in_[end] != ')')) {
      if (at_ + 1 < in_.size() && (in_[at_ + 1] == 'C' || in_[at_ + 1] == 'R'))
        return Bad("(?C, (?R");
      return {};
    }
    for (; at_ < end; ++at_) out_ += in_[at_] == 'm' ? 's' : in_[at_];
    return {};
  }

  void Set(std::string_view set, bool in_class, bool negated) {
    if (in_class) {
      out_ += set;
    } else {
      out_ += negated ? "[^" : "[";
      out_ += set;
      out_ += ']';
    }
  }

  Status Escape(bool in_class) {
    if (at_ + 1 >= in_.size()) return Bad("a lone backslash at the end");
    const char c = in_[at_ + 1];
    const bool upper = c == 'S' || c == 'W' || c == 'H';
    if (upper && in_class) return Bad("a negated shorthand inside a class");
    switch (c) {
      case 's':
      case 'S':
        Set(kSpaceSet, in_class, upper);
        break;
      case 'w':
      case 'W':
        Set(WordSet(), in_class, upper);
        break;
      case 'h':
      case 'H':
        Set(kHexSet, in_class, upper);
        break;
      case 'u':
        if (at_ + 6 > in_.size()) return Bad("\\u without four digits");
        out_ += "\\x{";
        out_ += in_.substr(at_ + 2, 4);
        out_ += '}';
        at_ += 6;
        return {};
      case 'p':
      case 'P': {
        const size_t close = in_.find('}', at_);
        if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == std::string_view::npos) {
          return Bad("\\p without braces");
        }
        out_ += in_.substr(at_, close + 1 - at_);
        at_ = close + 1;
        return {};
      }
      case 'K':
      case 'C':
        return Bad("\\K or \\C");
      default:
        out_ += in_.substr(at_, 2);
    }
    at_ += 2;
    return {};
  }

  // Oniguruma takes [a[bc]] as a union: the inner brackets are dropped.
  Status Class(bool nested) {
    if (++class_depth_ > 16) return Bad("deeply nested class");
    if (!nested) out_ += '[';
    ++at_;
    if (at_ < in_.size() && in_[at_] == '^') {
      if (nested) return Bad("a negated class inside a class");
      out_ += '^';
      ++at_;
    }
    bool first = true;
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == ']' && !first) {
        if (!nested) out_ += ']';
        ++at_;
        --class_depth_;
        return {};
      }
      first = false;
      if (c == '&' && in_.substr(at_, 2) == "&&") return Bad("the intersection && of classes");
      Status status;
      if (c == '[' && at_ + 1 < in_.size() && in_[at_ + 1] == ':') {
        const size_t close = in_.find(":]", at_ + 2);
        if (close == std::string_view::npos) return Bad("an unclosed [:");
        out_ += in_.substr(at_, close + 2 - at_);
        at_ = close + 2;
      } else if (c == '[') {
        status = Class(/*nested=*/true);
      } else if (c == '\\') {
        status = Escape(/*in_class=*/true);
      } else {
        out_ += c;
        ++at_;
      }
      if (!status.ok()) return status;
    }
    return Bad("an unclosed class");
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;  // where the last quantifiable item starts in out_
  std::vector<size_t> groups_;
  int class_depth_ = 0;
  bool in_interval_ = false;
};

struct MatchState {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  explicit MatchState(const pcre2_code* code)
      : data(pcre2_match_data_create_from_pattern(code, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(32 << 10, 1 << 20, nullptr)) {
    if (!ok()) return;
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;
  ~MatchState() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  bool ok() const { return data != nullptr && context != nullptr; }
};

// Of this thread alone, so that a busy machine does not change ids.
double ThreadSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

size_t NextChar(std::string_view text, size_t at) {
  if (at >= text.size()) return at + 1;
  return at + DecodeUtf8(text.data() + at, text.data() + text.size()).size;
}

}  // namespace

struct Regex::Program {
  pcre2_code* code = nullptr;
  ~Program() { pcre2_code_free(code); }
};

Result<std::string> TranslatePattern(std::string_view pattern) { return Translator(pattern).Run(); }

Result<Regex> Regex::Compile(std::string_view pattern) {
  if (pattern.size() > kMaxPattern) {
    return Error{Code::kLimit, "regular expression of " + std::to_string(pattern.size()) +
                                   " bytes: at most " + std::to_string(kMaxPattern) +
                                   " are accepted"};
  }
  if (!IsValidUtf8(pattern)) {
    return Error{Code::kInvalid, "regular expression is not valid UTF-8"};
  }
  const std::string translated = TRY(TranslatePattern(pattern));
  std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  if (context == nullptr) return Error{Code::kMemory, "no memory for a regular expression"};
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int number = 0;
  PCRE2_SIZE offset = 0;
  auto holder = std::make_shared<Program>();
  holder->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_USE_OFFSET_LIMIT | PCRE2_NEVER_BACKSLASH_C,
      &number, &offset, context.get());
  if (holder->code == nullptr) {
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(number, text, sizeof(text));
    return Error{Code::kInvalid, "regular expression \"" + std::string(pattern.substr(0, 80)) +
                                     "\", near byte " + std::to_string(offset) + ": " +
                                     reinterpret_cast<const char*>(text)};
  }
  // Without JIT the interpreter does the same, only slower.
  (void)pcre2_jit_compile(holder->code, PCRE2_JIT_COMPLETE);
  return Regex(std::move(holder));
}

std::vector<Span> Regex::FindAll(std::string_view text) const {
  if (IsValidUtf8(text)) return FindAllValid(text);
  // Match on the repaired text, then map the offsets back.
  std::string repaired;
  std::vector<size_t> origin;  // of each byte of `repaired`
  const char* end = text.data() + text.size();
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = DecodeUtf8(text.data() + at, end);
    AppendUtf8(c.code, &repaired);
    origin.resize(repaired.size(), at);
    at += c.size;
  }
  origin.push_back(text.size());
  std::vector<Span> spans = FindAllValid(repaired);
  for (Span& span : spans) span = {origin[span.first], origin[span.second]};
  return spans;
}

std::vector<Span> Regex::FindAllValid(std::string_view text) const {
  std::vector<Span> spans;
  MatchState state(program_->code);
  if (!state.ok()) return spans;
  const double deadline = ThreadSeconds() + 0.5 + 1e-6 * static_cast<double>(text.size());
  size_t matches_until_clock = 256;
  size_t at = 0, window = 0;
  while (at <= text.size()) {
    window = std::max(window, at);
    const size_t limit = std::min(window + kStartWindow, text.size());
    pcre2_set_offset_limit(state.context, limit);
    const int found =
        pcre2_match(program_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), window,
                    PCRE2_NO_UTF_CHECK, state.data, state.context);
    if (found == PCRE2_ERROR_NOMATCH) {
      if (limit == text.size()) break;
      window = limit;
      while (window < text.size() && (static_cast<unsigned char>(text[window]) & 0xC0) == 0x80) {
        ++window;
      }
      if (ThreadSeconds() > deadline) break;
      continue;
    }
    if (found < 0) break;
    const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(state.data);
    const size_t begin = ovector[0], end = ovector[1];
    if (end < begin) break;
    spans.emplace_back(begin, end);
    at = end > begin ? end : NextChar(text, end);
    window = at;
    if (--matches_until_clock == 0) {
      if (ThreadSeconds() > deadline) break;
      matches_until_clock = 256;
    }
  }
  return spans;
}

}  // namespace hadal::internal
