#include <algorithm>
#include <array>
#include <cctype>

#include "eval/internal_latex.h"
#include "eval/internal_units.h"

namespace hadal::eval::internal {
namespace {

constexpr size_t kMostTokens = 800;
constexpr size_t kMostDigits = 40;

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string Trimmed(std::string text) {
  while (!text.empty() && IsSpace(text.back())) text.pop_back();
  size_t first = 0;
  while (first < text.size() && IsSpace(text[first])) ++first;
  return text.substr(first);
}

void ReplaceAll(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t hit; (hit = text.find(from, at)) != std::string::npos; at = hit + from.size()) {
    out.append(text, at, hit - at).append(to);
  }
  if (at > 0) text = out + text.substr(at);
}

// Replaces \name where no further letter follows.
void ReplaceCommand(std::string& text, std::string_view name, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t hit; (hit = text.find(name, at)) != std::string::npos; at = hit + name.size()) {
    const bool whole = hit + name.size() >= text.size() || !IsLetter(text[hit + name.size()]);
    out.append(text, at, hit - at).append(whole ? to : name);
  }
  if (at > 0) text = out + text.substr(at);
}

// The end of the group that opens at text[at] == '{', one past its '}'; npos where it never ends.
size_t GroupEnd(std::string_view text, size_t at) {
  int depth = 0;
  for (; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '{') {
      ++depth;
    } else if (text[at] == '}' && --depth == 0) {
      return at + 1;
    }
  }
  return std::string_view::npos;
}

constexpr std::array kUnicode = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"π", "\\pi "},
    {"√", "\\sqrt "},
    {"×", "\\times "},
    {"·", "\\cdot "},
    {"⋅", "\\cdot "},
    {"÷", "\\div "},
    {"−", "-"},
    {"–", "-"},
    {"∞", "\\infty "},
    {"∪", "\\cup "},
    {"≤", "\\le "},
    {"≥", "\\ge "},
    {"≠", "\\ne "},
    {"±", "\\pm "},
    {"∓", "\\mp "},
    {"°", "^\\circ "},
    {"∈", "\\in "},
    {"²", "^{2}"},
    {"³", "^{3}"},
    {"¹", "^{1}"},
    {"½", "\\frac{1}{2}"},
    {"¼", "\\frac{1}{4}"},
    {"¾", "\\frac{3}{4}"},
    {"⅓", "\\frac{1}{3}"},
    {"⅔", "\\frac{2}{3}"},
    {"θ", "\\theta "},
    {"α", "\\alpha "},
    {"β", "\\beta "},
    {"∅", "\\emptyset "},
    {"ℝ", "\\mathbb{R}"},
    {"⟨", "\\langle "},
    {"⟩", "\\rangle "},
    {"（", "("},
    {"）", ")"},
    {"，", ","},
    {"：", ":"},
    {"＝", "="},
    {"％", "%"},
    {"。", "."},
    {"\u00a0", " "},
    {"\u2009", " "},
    {"\u202f", " "},
    {"≈", "\\approx "},
});

constexpr std::array kLayout = std::to_array<std::string_view>({
    "\\left",
    "\\right",
    "\\big",
    "\\Big",
    "\\bigg",
    "\\Bigg",
    "\\bigl",
    "\\bigr",
    "\\Bigl",
    "\\Bigr",
    "\\biggl",
    "\\biggr",
    "\\displaystyle",
    "\\textstyle",
    "\\limits",
});

// Removes one pair of delimiters around the whole; true when it did.
bool StripDelimiters(std::string& text) {
  constexpr std::array kPairs = std::to_array<std::pair<std::string_view, std::string_view>>(
      {{"$$", "$$"}, {"$", "$"}, {"\\(", "\\)"}, {"\\[", "\\]"}, {"**", "**"}});
  for (const auto& [open, close] : kPairs) {
    if (text.size() < open.size() + close.size() + 1 || !text.starts_with(open) ||
        !text.ends_with(close)) {
      continue;
    }
    const std::string inside = text.substr(open.size(), text.size() - open.size() - close.size());
    // Another delimiter inside, unless it is an escaped one.
    bool alone = !inside.ends_with("\\");
    for (size_t at = inside.find(open); at != std::string::npos; at = inside.find(open, at + 1)) {
      alone &= at > 0 && inside[at - 1] == '\\';
    }
    if (!alone) continue;
    text = Trimmed(inside);
    return true;
  }
  for (const std::string_view box : {"\\boxed{", "\\fbox{", "{"}) {
    if (text.starts_with(box) && GroupEnd(text, box.size() - 1) == text.size()) {
      text = Trimmed(text.substr(box.size(), text.size() - box.size() - 1));
      return true;
    }
  }
  return false;
}

// "12,345,678" outside of brackets, and "12,\!345" or "12{,}345" anywhere, lose their separators.
void JoinThousands(std::string& text) {
  std::string out;
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') --depth;
    const bool starts =
        IsDigit(c) &&
        (i == 0 || (!IsDigit(text[i - 1]) && text[i - 1] != '.' && text[i - 1] != ','));
    if (!starts) {
      out += c;
      continue;
    }
    size_t end = i;
    while (end < text.size() && IsDigit(text[end])) ++end;
    std::string digits = text.substr(i, end - i);
    size_t groups = 0, at = end;
    while (depth == 0 && digits.size() <= kMostDigits && at + 3 < text.size() && text[at] == ',' &&
           IsDigit(text[at + 1]) && IsDigit(text[at + 2]) && IsDigit(text[at + 3])) {
      digits += text.substr(at + 1, 3);
      at += 4;
      ++groups;
    }
    const bool clean_end =
        at >= text.size() ||
        (!IsDigit(text[at]) && !(text[at] == ',' && at + 1 < text.size() && IsDigit(text[at + 1])));
    if (groups > 0 && end - i <= 3 && clean_end && text[i] != '0') {
      out += digits;
      i = at - 1;
    } else {
      out.append(text, i, end - i);
      i = end - 1;
    }
  }
  text = out;
}

// \frac12 and \sqrt2 as \frac{1}{2} and \sqrt{2}.
std::string WithBraces(std::string_view text, int depth) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    int arguments = 0;
    size_t at = i;
    for (const auto& [name, count] :
         {std::pair{"\\frac", 2}, std::pair{"\\binom", 2}, std::pair{"\\sqrt", 1}}) {
      const std::string_view command = name;
      if (text.substr(i).starts_with(command) &&
          (i + command.size() >= text.size() || !IsLetter(text[i + command.size()]))) {
        arguments = count;
        at = i + command.size();
      }
    }
    if (arguments == 0 || depth > 40) {
      out += text[i++];
      continue;
    }
    out.append(text.substr(i, at - i));
    if (arguments == 1 && at < text.size() && text[at] == '[') {
      const size_t close = text.find(']', at);
      if (close == std::string_view::npos) return out.append(text.substr(at));
      out.append(text.substr(at, close + 1 - at));
      at = close + 1;
    }
    for (; arguments > 0; --arguments) {
      while (at < text.size() && IsSpace(text[at])) ++at;
      if (at >= text.size()) break;
      size_t end = at + 1;
      std::string_view inside = text.substr(at, 1);
      if (text[at] == '{') {
        end = GroupEnd(text, at);
        if (end == std::string_view::npos) return out.append(text.substr(at));
        inside = text.substr(at + 1, end - at - 2);
      } else if (text[at] == '(' && out.ends_with("\\sqrt")) {
        break;  // \sqrt(...) of Unicode or plain text: the parser takes the bracket
      } else if (IsDigit(text[at]) && out.ends_with("\\sqrt")) {
        // "√13" is the root of 13; \sqrt13 is of 1 in TeX, but nobody means that.
        while (end < text.size() && (IsDigit(text[end]) || text[end] == '.')) ++end;
        inside = text.substr(at, end - at);
      } else if (text[at] == '\\') {
        while (end < text.size() && IsLetter(text[end])) ++end;
        inside = text.substr(at, end - at);
        if (inside == "\\sqrt" && end < text.size() && text[end] == '{') {
          end = std::min(GroupEnd(text, end), text.size());
          inside = text.substr(at, end - at);
        }
      }
      out += Concat({"{", WithBraces(inside, depth + 1), "}"});
      at = end;
    }
    i = at;
  }
  return out;
}

constexpr std::array kFunctions = std::to_array<std::string_view>(
    {"sin",  "cos",    "tan",    "cot",    "sec",  "csc",  "ln",   "log",   "lg",   "exp",
     "sqrt", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "floor", "ceil", "abs"});
bool IsFunction(std::string_view name) {
  return std::find(kFunctions.begin(), kFunctions.end(), name) != kFunctions.end();
}

constexpr std::array kGreek = std::to_array<std::string_view>(
    {"alpha", "beta",  "gamma",  "delta",  "epsilon", "varepsilon", "zeta",  "eta",
     "theta", "iota",  "kappa",  "lambda", "mu",      "nu",         "xi",    "rho",
     "sigma", "tau",   "phi",    "varphi", "chi",     "psi",        "omega", "Gamma",
     "Delta", "Theta", "Lambda", "Sigma",  "Phi",     "Psi",        "Omega", "ell"});

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::optional<std::vector<Token>> Run() {
    while (ok_ && at_ < text_.size()) {
      if (tokens_.size() > kMostTokens) return std::nullopt;
      if (IsSpace(text_[at_])) {
        space_ = true;
        ++at_;
      } else if (IsDigit(text_[at_]) || (text_[at_] == '.' && IsDigit(At(1)))) {
        Number();
      } else if (IsLetter(text_[at_])) {
        Letters();
      } else if (text_[at_] == '\\') {
        Command();
      } else {
        Sign();
      }
    }
    if (!ok_) return std::nullopt;
    return std::move(tokens_);
  }

 private:
  char At(size_t offset) const { return at_ + offset < text_.size() ? text_[at_ + offset] : '\0'; }
  void Push(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), {}, space_});
    space_ = false;
  }

  void Number() {
    const size_t begin = at_;
    Rational value = 0, scale = 1;
    bool point = false;
    for (; IsDigit(At(0)) || (!point && At(0) == '.' && IsDigit(At(1))); ++at_) {
      if (At(0) == '.') {
        point = true;
        continue;
      }
      value = value * 10 + Rational(At(0) - '0');
      if (point) scale = scale * 10;
    }
    // The point of 0.\overline{3}.
    if (!point && At(0) == '.' && text_.substr(at_ + 1).starts_with("\\overline")) ++at_;
    Push(Token::Kind::kNumber, std::string(text_.substr(begin, at_ - begin)));
    tokens_.back().value = value / scale;
    // "1e5" might be a number or a product: neither is taken.
    if ((At(0) == 'e' || At(0) == 'E') && (IsDigit(At(1)))) ok_ = false;
  }

  // An index: x_1, x_{12}, x_a. Of numbers it is a base, which stays as signs.
  void Subscript() {
    if (At(0) != '_') return;
    std::string index;
    size_t end = at_ + 1;
    if (At(1) == '{') {
      end = GroupEnd(text_, at_ + 1);
      if (end == std::string_view::npos) return;
      index = text_.substr(at_ + 2, end - at_ - 3);
    } else if (IsDigit(At(1)) || IsLetter(At(1))) {
      index = At(1);
      end = at_ + 2;
    }
    if (index.empty() || !std::all_of(index.begin(), index.end(),
                                      [](char c) { return IsDigit(c) || IsLetter(c); })) {
      return;
    }
    tokens_.back().text += Concat({"_", index});
    at_ = end;
  }

  void Symbol(std::string name) {
    if (name == "pi" || name == "e" || name == "i") name = Concat({"#", name});
    Push(Token::Kind::kSymbol, std::move(name));
    if (tokens_.back().text[0] != '#') Subscript();
  }

  void Word(std::string word) {
    std::transform(word.begin(), word.end(), word.begin(), [](char c) {
      return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    });
    Push(Token::Kind::kText, std::move(word));
  }

  void Letters() {
    const size_t begin = at_;
    while (IsLetter(At(0))) ++at_;
    const std::string run(text_.substr(begin, at_ - begin));
    const bool number_before = !tokens_.empty() && tokens_.back().kind == Token::Kind::kNumber;
    if (run == "or" || run == "and") return Push(Token::Kind::kCommand, run);
    if (run == "pi") return Symbol("pi");
    if (run == "inf" || run == "infinity" || run == "Infinity" || run == "oo") {
      return Push(Token::Kind::kCommand, "infty");
    }
    if (run == "asin" || run == "acos" || run == "atan") {
      return Push(Token::Kind::kCommand, "arc" + run.substr(1));
    }
    if (IsFunction(run)) return Push(Token::Kind::kCommand, run);
    if (run.size() >= 2 && number_before && IsUnitWord(run)) return Word(run);
    for (const std::string_view name : kFunctions) {
      if (run.size() == name.size() + 1 && run.starts_with(name)) {
        Push(Token::Kind::kCommand, std::string(name));
        return Symbol(run.substr(name.size()));
      }
    }
    const bool greek = std::find(kGreek.begin(), kGreek.end(), run) != kGreek.end();
    if (greek && run.size() > 2) return Symbol(run);
    // A bare word after a number may be its unit; other runs are products of letters.
    if (run.size() >= 4 || run == "yes" || run == "no" || run == "odd" || run == "per") {
      return Word(run);
    }
    const size_t end = at_;
    for (at_ = begin; at_ < end;) {
      const std::string letter(1, text_[at_++]);
      if (at_ == end) {
        Symbol(letter);
      } else {
        Push(Token::Kind::kSymbol, letter == "e" || letter == "i" ? Concat({"#", letter}) : letter);
      }
    }
  }

  void Command() {
    if (!IsLetter(At(1))) return Escape();
    const size_t begin = ++at_;
    while (IsLetter(At(0))) ++at_;
    const std::string name(text_.substr(begin, at_ - begin));
    for (const std::string_view style : {"text", "textbf", "textit", "textrm", "mbox", "mathrm",
                                         "mathbf", "mathit", "operatorname", "mathsf", "hbox"}) {
      if (name == style) return Styled(name);
    }
    if (name == "begin" || name == "end" || name == "mathbb") {
      const size_t end = At(0) == '{' ? GroupEnd(text_, at_) : std::string_view::npos;
      if (end == std::string_view::npos) {
        ok_ = false;
        return;
      }
      const std::string inside(text_.substr(at_ + 1, end - at_ - 2));
      at_ = end;
      if (name == "mathbb") return Push(Token::Kind::kSymbol, "bb" + inside);
      return Push(Token::Kind::kCommand, name + ":" + inside);
    }
    if (name == "pi") return Symbol(name);
    if (std::find(kGreek.begin(), kGreek.end(), name) != kGreek.end()) return Symbol(name);
    if (name == "cdot" || name == "times" || name == "ast") {
      return Push(Token::Kind::kSign, "*");
    }
    if (name == "div") return Push(Token::Kind::kSign, "/");
    if (name == "lbrace" || name == "rbrace") {
      return Push(Token::Kind::kSign, name == "lbrace" ? "{{" : "}}");
    }
    if (name == "lt" || name == "gt") return Push(Token::Kind::kSign, name == "lt" ? "<" : ">");
    if (name == "vert" || name == "lvert" || name == "rvert" || name == "mid") {
      return Push(Token::Kind::kSign, "|");
    }
    if (name == "leq" || name == "leqslant") return Push(Token::Kind::kCommand, "le");
    if (name == "geq" || name == "geqslant") return Push(Token::Kind::kCommand, "ge");
    if (name == "varnothing") return Push(Token::Kind::kCommand, "emptyset");
    if (name == "degree") return Push(Token::Kind::kCommand, "circ");
    Push(Token::Kind::kCommand, name);
  }

  void Escape() {
    const char c = At(1);
    at_ += 2;
    if (c == '{') return Push(Token::Kind::kSign, "{{");
    if (c == '}') return Push(Token::Kind::kSign, "}}");
    if (c == '%' || c == '$') return Push(Token::Kind::kSign, std::string(1, c));
    if (c == '|') return Push(Token::Kind::kSign, "|");
    ok_ = false;
  }

  // \text{...}: words; \mathrm{x} and \operatorname{sin}: what is inside.
  void Styled(const std::string& style) {
    while (IsSpace(At(0))) ++at_;
    const size_t end = At(0) == '{' ? GroupEnd(text_, at_) : std::string_view::npos;
    if (end == std::string_view::npos) {
      ok_ = false;
      return;
    }
    std::string inside = Trimmed(std::string(text_.substr(at_ + 1, end - at_ - 2)));
    at_ = end;
    if (IsFunction(inside)) return Push(Token::Kind::kCommand, inside);
    if (inside == "or" || inside == "and") return Push(Token::Kind::kCommand, inside);
    if (style.starts_with("math") || style == "operatorname") {
      if (inside.size() == 1 && IsLetter(inside[0]) &&
          !(tokens_.size() > 0 && tokens_.back().kind == Token::Kind::kNumber)) {
        return Symbol(inside);
      }
      const bool digits = !inside.empty() && std::all_of(inside.begin(), inside.end(), IsDigit);
      if (digits) {
        const std::string_view outer = text_;
        const size_t after = at_;
        text_ = inside;
        at_ = 0;
        Number();
        text_ = outer;
        at_ = after;
        return;
      }
    }
    if (!inside.empty()) Word(inside);
  }

  void Sign() {
    const char c = text_[at_];
    if (c == '*' && At(1) == '*') {
      at_ += 2;
      return Push(Token::Kind::kSign, "^");
    }
    for (const auto& [two, name] : {std::pair{"<=", "le"}, std::pair{">=", "ge"}}) {
      if (text_.substr(at_).starts_with(two)) {
        at_ += 2;
        return Push(Token::Kind::kCommand, name);
      }
    }
    if (std::string_view("()[]{}+-*/^_=<>,;!|&%$").find(c) == std::string_view::npos) {
      ok_ = false;
      return;
    }
    ++at_;
    Push(Token::Kind::kSign, std::string(1, c));
  }

  std::string_view text_;
  size_t at_ = 0;
  bool space_ = false, ok_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::string CleanAnswer(std::string_view raw) {
  std::string text = Trimmed(std::string(raw));
  for (const auto& [from, to] : kUnicode) ReplaceAll(text, from, to);
  for (bool again = true; again;) {
    again = StripDelimiters(text);
    while (!text.empty() &&
           (text.back() == '.' || text.back() == ';' || text.back() == ',' || text.back() == ':') &&
           !text.ends_with("..") && !text.ends_with("\\,") && !text.ends_with("\\;")) {
      text.pop_back();
      text = Trimmed(text);
      again = true;
    }
  }
  for (const auto& name : kLayout) ReplaceCommand(text, name, "");
  for (const auto& [from, to] :
       {std::pair{"\\dfrac", "\\frac"}, std::pair{"\\tfrac", "\\frac"},
        std::pair{"\\cfrac", "\\frac"}, std::pair{"\\dbinom", "\\binom"},
        std::pair{"\\tbinom", "\\binom"}, std::pair{"\\quad", " "}, std::pair{"\\qquad", " "}}) {
    ReplaceCommand(text, from, to);
  }
  // A line break \\ gets the name of its old form.
  ReplaceAll(text, "\\\\", "\\cr ");
  ReplaceAll(text, "{,}", ",\\!");
  for (size_t at; (at = text.find(",\\!")) != std::string::npos;) {
    size_t end = at + 3;
    while (end < text.size() && IsSpace(text[end])) ++end;
    const bool digits = at > 0 && IsDigit(text[at - 1]) && end < text.size() && IsDigit(text[end]);
    text.replace(at, end - at, digits ? "" : ", ");
  }
  for (const char* space : {"\\,", "\\;", "\\:", "\\ ", "~"}) ReplaceAll(text, space, " ");
  ReplaceAll(text, "\\!", "");
  JoinThousands(text);
  text = WithBraces(text, 0);
  while (StripDelimiters(text)) {
  }
  return Trimmed(text);
}

std::optional<std::vector<Token>> Tokenize(std::string_view clean) { return Lexer(clean).Run(); }

std::string CompactText(const std::vector<Token>& tokens) {
  std::string text;
  for (const Token& token : tokens) {
    if (token.kind == Token::Kind::kCommand) text += '\\';
    // Two numbers or words in a row must not run together.
    if (token.kind != Token::Kind::kSign) text += ' ';
    text += token.text;
  }
  return text;
}

std::string WordsOf(std::string_view clean, bool plain) {
  std::string text(clean);
  bool styled = false;
  for (const char* style : {"\\text{", "\\textbf{", "\\textit{", "\\textrm{", "\\mbox{",
                            "\\mathrm{", "\\mathbf{", "\\operatorname{"}) {
    const std::string_view name = style;
    if (text.starts_with(name) && GroupEnd(text, name.size() - 1) == text.size()) {
      text = Trimmed(text.substr(name.size(), text.size() - name.size() - 1));
      styled = true;
      break;
    }
  }
  if (!styled && !plain) return {};
  std::string words;
  bool letters = false;
  for (const char c : text) {
    if (IsLetter(c)) {
      words += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      letters = true;
    } else if (IsSpace(c) || c == '-' || c == '\'' || c == '.') {
      if (!words.empty() && words.back() != ' ') words += ' ';
    } else if (c != '(' && c != ')') {
      return {};
    }
  }
  return letters ? Trimmed(words) : std::string();
}

}  // namespace hadal::eval::internal
