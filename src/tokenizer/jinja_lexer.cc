#include "tokenizer/jinja_lexer.h"

#include <algorithm>
#include <cstdlib>

#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}
bool IsName(char c) { return IsNameStart(c) || IsDigit(c); }

// Line ends become \n; one at the very end is dropped.
std::string Normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), text_(source_) {}
  Result<std::vector<Token>> Run();

 private:
  Error Fail(const std::string& what) const {
    return {Code::kInvalid, "line " + std::to_string(line_) + ": " + what};
  }
  void Push(TokenKind kind, std::string text = {}) {
    tokens_.push_back({kind, line_, std::move(text), 0, 0});
  }
  // Moves to `to`, counting lines.
  void MoveTo(size_t to) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<long>(at_),
                                         text_.begin() + static_cast<long>(to), '\n'));
    line_starting_ = to > at_ ? text_[to - 1] == '\n' : line_starting_;
    at_ = to;
  }
  size_t SkipSpace(size_t at) const { return at + SpaceAtStart(text_.substr(at)); }
  bool StartsWith(size_t at, std::string_view what) const {
    return text_.substr(std::min(at, text_.size())).starts_with(what);
  }
  size_t FindTag(size_t from) const;
  void Data(size_t end, bool may_strip_line);
  Status Root();
  size_t RawBegin(size_t at) const;
  Status Raw(size_t body);
  Status Comment();
  Status Inside(bool block);
  // Where the text goes on after a closing tag at `at`, or kNone.
  size_t Close(size_t at, std::string_view end, bool block) const;
  Status Lex();
  bool Number();
  Status String();
  Status Escape(std::string_view body, size_t* i, std::string* out);
  Status Operator();

  std::string source_;
  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::string brackets_;
  std::vector<Token> tokens_;
};

size_t Lexer::FindTag(size_t from) const {
  for (size_t at = text_.find('{', from); at != kNone; at = text_.find('{', at + 1)) {
    if (at + 1 >= text_.size()) return kNone;
    const char next = text_[at + 1];
    if (next == '{' || next == '%' || next == '#') return at;
  }
  return kNone;
}

// The text up to the tag at `end`, less what the tag strips.
void Lexer::Data(size_t end, bool may_strip_line) {
  std::string_view data = text_.substr(at_, end - at_);
  const char sign = end + 2 < text_.size() ? text_[end + 2] : ' ';
  if (sign == '-') {
    data.remove_suffix(SpaceAtEnd(data));
  } else if (sign != '+' && may_strip_line) {
    const size_t newline = data.rfind('\n');
    const size_t line = newline == kNone ? 0 : newline + 1;
    const std::string_view tail = data.substr(line);
    if ((line > 0 || line_starting_) && !tail.empty() && SpaceAtStart(tail) == tail.size()) {
      data.remove_suffix(tail.size());
    }
  }
  if (!data.empty()) Push(TokenKind::kData, std::string(data));
  MoveTo(end);
}

// If a raw block opens at `at`: where its body begins, else kNone.
size_t Lexer::RawBegin(size_t at) const {
  size_t i = at + 2;
  if (i < text_.size() && (text_[i] == '-' || text_[i] == '+')) ++i;
  i = SkipSpace(i);
  if (!StartsWith(i, "raw")) return kNone;
  i = SkipSpace(i + 3);
  if (StartsWith(i, "-%}")) return SkipSpace(i + 3);
  return StartsWith(i, "%}") ? i + 2 : kNone;
}

Status Lexer::Raw(size_t body) {
  MoveTo(body);
  for (size_t tag = text_.find("{%", at_); tag != kNone; tag = text_.find("{%", tag + 1)) {
    size_t i = tag + 2;
    if (i < text_.size() && (text_[i] == '-' || text_[i] == '+')) ++i;
    i = SkipSpace(i);
    if (!StartsWith(i, "endraw")) continue;
    const size_t after = Close(SkipSpace(i + 6), "%}", true);
    if (after == kNone) continue;
    Data(tag, true);
    MoveTo(after);
    return {};
  }
  return Fail("a raw block that is never closed");
}

Status Lexer::Comment() {
  for (size_t i = at_ + 2; (i = text_.find('#', i)) != kNone; ++i) {
    if (!StartsWith(i, "#}")) continue;
    // "{#-#}" opens with the sign and closes at once.
    const bool signed_open =
        at_ + 2 < text_.size() && (text_[at_ + 2] == '-' || text_[at_ + 2] == '+');
    const size_t body = at_ + 2 + (signed_open ? 1 : 0);
    if (i < body) continue;
    const bool dash = i > body && text_[i - 1] == '-';
    const bool plus = i > body && text_[i - 1] == '+';
    size_t after = i + 2;
    if (dash) {
      after = SkipSpace(after);
    } else if (!plus && StartsWith(after, "\n")) {
      ++after;
    }
    MoveTo(after);
    return {};
  }
  return Fail("a comment that is never closed");
}

size_t Lexer::Close(size_t at, std::string_view end, bool block) const {
  if (StartsWith(at, "-") && StartsWith(at + 1, end)) return SkipSpace(at + 3);
  if (block && StartsWith(at, "+") && StartsWith(at + 1, end)) return at + 3;
  if (!StartsWith(at, end)) return kNone;
  return at + 2 + (block && StartsWith(at + 2, "\n") ? 1 : 0);
}

Status Lexer::Root() {
  const size_t tag = FindTag(at_);
  if (tag == kNone) {
    if (at_ < text_.size()) Push(TokenKind::kData, std::string(text_.substr(at_)));
    MoveTo(text_.size());
    return {};
  }
  const char kind = text_[tag + 1];
  Data(tag, kind != '{');
  if (kind == '#') return Comment();
  if (kind == '%') {
    const size_t body = RawBegin(tag);
    if (body != kNone) return Raw(body);
  }
  return Inside(kind == '%');
}

Status Lexer::Inside(bool block) {
  Push(block ? TokenKind::kBlockBegin : TokenKind::kExpressionBegin);
  const bool has_sign = at_ + 2 < text_.size() && (text_[at_ + 2] == '-' || text_[at_ + 2] == '+');
  MoveTo(at_ + 2 + (has_sign ? 1 : 0));
  brackets_.clear();
  while (at_ < text_.size()) {
    if (brackets_.empty()) {
      const size_t after = Close(at_, block ? "%}" : "}}", block);
      if (after != kNone) {
        Push(block ? TokenKind::kBlockEnd : TokenKind::kExpressionEnd);
        MoveTo(after);
        return {};
      }
    }
    TRY(Lex());
  }
  return {};
}

Status Lexer::Lex() {
  const size_t space = SpaceAtStart(text_.substr(at_));
  if (space > 0) {
    MoveTo(at_ + space);
    return {};
  }
  const char c = text_[at_];
  if (IsDigit(c)) {
    if (Number()) return {};
    return Error{Code::kLimit, Fail("an integer beyond 64 bits").message};
  }
  if (IsNameStart(c)) {
    size_t end = at_;
    while (end < text_.size() && IsName(text_[end])) ++end;
    Push(TokenKind::kName, std::string(text_.substr(at_, end - at_)));
    MoveTo(end);
    return {};
  }
  if (c == '\'' || c == '"') return String();
  return Operator();
}

// Digits with single underscores between them.
size_t Digits(std::string_view text, size_t at) {
  while (at < text.size() &&
         (IsDigit(text[at]) || (text[at] == '_' && at + 1 < text.size() && IsDigit(text[at + 1]) &&
                                at > 0 && IsDigit(text[at - 1])))) {
    ++at;
  }
  return at;
}

bool Lexer::Number() {
  const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';
  size_t end = Digits(text_, at_);
  bool real = false;
  if (!after_dot) {
    if (end + 1 < text_.size() && text_[end] == '.' && IsDigit(text_[end + 1])) {
      end = Digits(text_, end + 1);
      real = true;
    }
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      size_t digits = end + 1;
      if (digits < text_.size() && (text_[digits] == '+' || text_[digits] == '-')) ++digits;
      if (digits < text_.size() && IsDigit(text_[digits])) {
        end = Digits(text_, digits);
        real = true;
      }
    }
  }
  if (!real && text_[at_] == '0') {
    const char mark = at_ + 1 < text_.size() ? static_cast<char>(text_[at_ + 1] | 0x20) : ' ';
    end = at_ + 1;
    if (mark == 'x' || mark == 'o' || mark == 'b') {
      size_t last = at_ + 2;
      const auto valid = [&](char d) {
        if (mark == 'b') return d == '0' || d == '1';
        return mark == 'o' ? d >= '0' && d <= '7'
                           : std::isxdigit(static_cast<unsigned char>(d)) != 0;
      };
      while (last < text_.size() &&
             (valid(text_[last]) ||
              (text_[last] == '_' && last + 1 < text_.size() && valid(text_[last + 1]))))
        ++last;
      if (last > at_ + 2) end = last;
    } else {
      while (end < text_.size() &&
             (text_[end] == '0' || (text_[end] == '_' && StartsWith(end + 1, "0"))))
        ++end;
    }
  }
  std::string digits(text_.substr(at_, end - at_));
  std::erase(digits, '_');
  Push(real ? TokenKind::kFloat : TokenKind::kInteger, digits);
  MoveTo(end);
  if (real) {
    tokens_.back().real = std::strtod(digits.c_str(), nullptr);
    return true;
  }
  const auto value = ParseInt(digits, 0);
  tokens_.back().integer = value.value_or(0);
  return value.has_value();
}

Status Lexer::String() {
  const char quote = text_[at_];
  size_t end = at_ + 1;
  while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
  if (end >= text_.size()) return Fail("a string that is never closed");
  const std::string_view body = text_.substr(at_ + 1, end - at_ - 1);
  std::string out;
  for (size_t i = 0; i < body.size();) {
    if (body[i] != '\\') {
      out += body[i++];
    } else {
      TRY(Escape(body, &i, &out));
    }
  }
  Push(TokenKind::kString, std::move(out));
  MoveTo(end + 1);
  return {};
}

// The escape sequence at body[*i], as Python reads it: unknown ones stay as they are.
Status Lexer::Escape(std::string_view body, size_t* i, std::string* out) {
  constexpr std::string_view kPlain = "\\'\"abfnrtv";
  constexpr std::string_view kValue = "\\'\"\a\b\f\n\r\t\v";
  const char c = body[*i + 1];
  *i += 2;
  if (c == '\n') return {};
  const size_t plain = kPlain.find(c);
  if (plain != kNone) {
    *out += kValue[plain];
    return {};
  }
  if (c >= '0' && c <= '7') {
    char32_t value = static_cast<char32_t>(c - '0');
    for (int n = 1; n < 3 && *i < body.size() && body[*i] >= '0' && body[*i] <= '7'; ++n) {
      value = value * 8 + static_cast<char32_t>(body[(*i)++] - '0');
    }
    AppendCodePoint(out, value);
    return {};
  }
  const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (c == 'N') return Fail("\\N{...} in a string is not supported: write the character itself");
  if (digits == 0) {
    *out += '\\';
    *out += c;
    return {};
  }
  const std::string hex(body.substr(*i, digits));
  const bool valid = hex.size() == digits && std::all_of(hex.begin(), hex.end(), [](char h) {
                       return std::isxdigit(static_cast<unsigned char>(h)) != 0;
                     });
  const unsigned long value = valid ? std::strtoul(hex.c_str(), nullptr, 16) : 0x110000;
  if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
    return Fail("a bad escape \\" + std::string(1, c) + " in a string");
  }
  AppendCodePoint(out, static_cast<char32_t>(value));
  *i += digits;
  return {};
}

Status Lexer::Operator() {
  constexpr std::string_view kDouble[] = {"//", "**", "==", "!=", ">=", "<="};
  constexpr std::string_view kSingle = "+-/*%~[](){}><=.:|,;";
  std::string_view found;
  for (const std::string_view op : kDouble) {
    if (StartsWith(at_, op)) found = op;
  }
  if (found.empty() && kSingle.find(text_[at_]) != kNone) found = text_.substr(at_, 1);
  if (found.empty()) {
    size_t end = at_;
    NextCodePoint(text_, &end);
    return Fail("unexpected character '" + Brief(text_.substr(at_, end - at_)) + "'");
  }
  const char c = found[0];
  if (found.size() == 1) {
    if (c == '(') brackets_ += ')';
    if (c == '[') brackets_ += ']';
    if (c == '{') brackets_ += '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty() || brackets_.back() != c) {
        return Fail("unexpected '" + std::string(1, c) + "'" +
                    (brackets_.empty()
                         ? ""
                         : ", expected '" + brackets_.substr(brackets_.size() - 1) + "'"));
      }
      brackets_.pop_back();
    }
  }
  Push(TokenKind::kOperator, std::string(found));
  MoveTo(at_ + found.size());
  return {};
}

Result<std::vector<Token>> Lexer::Run() {
  while (at_ < text_.size()) TRY(Root());
  Push(TokenKind::kEnd);
  return std::move(tokens_);
}

}  // namespace

Result<std::vector<Token>> Tokenize(std::string_view source) {
  return Lexer(Normalize(source)).Run();
}

}  // namespace hadal::internal::jinja
