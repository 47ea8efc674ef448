// Patterns that are one run of one character class, matched without a regular expression engine.
#include <algorithm>

#include "tokenizer/pretokenizer.h"

namespace hadal::internal {
namespace {

constexpr std::string_view kHandled = "LMNPS";

class RunParser {
 public:
  explicit RunParser(std::string_view text) : text_(text), set_(std::make_shared<CharSet>()) {}

  std::optional<RunPattern> Parse() {
    RunPattern out;
    if (Take("\\s?")) {
      out.lead = RunPattern::Lead::kAnySpace;
    } else if (Take(" ?")) {
      out.lead = RunPattern::Lead::kBlank;
    }
    if (at_ >= text_.size() || !Atom()) return std::nullopt;
    out.most = 1;
    if (Take("+")) {
      out.most = 0;
    } else if (Take("{1,")) {
      uint32_t n = 0;
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9' && n < 1000) {
        n = n * 10 + static_cast<uint32_t>(text_[at_++] - '0');
      }
      if (n == 0 || n >= 1000 || !Take("}")) return std::nullopt;
      out.most = n;
    }
    if (at_ != text_.size()) return std::nullopt;
    out.set = set_;
    return out;
  }

 private:
  bool Take(std::string_view prefix) {
    if (!text_.substr(at_).starts_with(prefix)) return false;
    at_ += prefix.size();
    return true;
  }

  bool Atom() {
    if (!Take("[")) return text_[at_] == '\\' && ClassEscape();
    const bool negated = Take("^");
    bool first = true;
    while (at_ < text_.size() && (text_[at_] != ']' || first)) {
      first = false;
      if (text_[at_] == '[' || text_[at_] == '&') return false;
      if (text_[at_] == '\\' && ClassEscape()) continue;
      char32_t low = 0, high = 0;
      if (!Literal(&low)) return false;
      high = low;
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        if (!Literal(&high) || high < low) return false;
      }
      set_->AddRange(low, high);
    }
    if (!Take("]")) return false;
    if (negated) set_->Invert();
    return true;
  }

  // \p{X}, \s, \d; leaves at_ alone when it is something else.
  bool ClassEscape() {
    if (Take("\\s")) return set_->AddClasses(kSpace, false), true;
    if (Take("\\d")) return set_->AddClasses(kDigit, false), true;
    const std::string_view rest = text_.substr(at_);
    if (rest.size() < 5 || !rest.starts_with("\\p{") || rest[4] != '}') return false;
    const size_t bit = kHandled.find(rest[3]);
    if (bit == std::string_view::npos) return false;
    set_->AddClasses(static_cast<uint8_t>(1 << bit), false);
    at_ += 5;
    return true;
  }

  bool Literal(char32_t* out) {
    if (at_ >= text_.size()) return false;
    if (text_[at_] == '\\') {
      if (at_ + 1 >= text_.size()) return false;
      const char c = text_[at_ + 1];
      const bool letter =
          (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      if (letter && c != 'r' && c != 'n' && c != 't') return false;
      if (static_cast<unsigned char>(c) >= 0x80) return false;
      *out = c == 'r' ? U'\r' : c == 'n' ? U'\n' : c == 't' ? U'\t' : static_cast<char32_t>(c);
      at_ += 2;
      return true;
    }
    const Utf8Char c = DecodeUtf8(text_.data() + at_, text_.data() + text_.size());
    if (!c.valid) return false;
    *out = c.code;
    at_ += c.size;
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::shared_ptr<CharSet> set_;
};

}  // namespace

std::optional<RunPattern> ParseRunPattern(std::string_view pattern) {
  return RunParser(pattern).Parse();
}

std::vector<Span> FindRuns(const RunPattern& run, std::string_view text) {
  std::vector<Span> spans;
  const char* begin = text.data();
  const char* end = begin + text.size();
  const uint8_t* classes = CharClasses();
  const CharSet& set = *run.set;
  for (const char* p = begin; p < end;) {
    const Utf8Char c = DecodeUtf8(p, end);
    const char* q = p + c.size;
    bool match = false;
    uint32_t taken = 1;
    const bool lead =
        run.lead != RunPattern::Lead::kNone &&
        (run.lead == RunPattern::Lead::kBlank ? c.code == U' ' : (classes[c.code] & kSpace) != 0);
    if (lead && q < end) {
      const Utf8Char next = DecodeUtf8(q, end);
      if (set.Has(next.code)) {
        match = true;
        q += next.size;
      }
    }
    if (!match && !set.Has(c.code)) {
      p = q;
      continue;
    }
    for (; q < end && (run.most == 0 || taken < run.most); ++taken) {
      const Utf8Char next = DecodeUtf8(q, end);
      if (!set.Has(next.code)) break;
      q += next.size;
    }
    spans.emplace_back(p - begin, q - begin);
    p = q;
  }
  return spans;
}

}  // namespace hadal::internal
