// Answers as people and models write them, LaTeX or plain, to tokens.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/internal_exact.h"

namespace hadal::eval::internal {

struct Token {
  enum class Kind : uint8_t {
    kNumber,   // text as written without separators; value, bad where it does not fit
    kSymbol,   // text: "x", "x_1", "alpha", "#pi", "#e", "#i"
    kCommand,  // text: "frac", "sqrt", "sin", "cup", "le", "begin:pmatrix", "end:pmatrix", "cr",
               // "infty", ...
    kText,     // text: words, lower case, single spaces: units, names, choices
    kSign,     // text: one of ( ) [ ] { } + - * / ^ _ = < > , ; ! | & % $ and "{{" "}}" for braces
               // that are printed
  };
  Kind kind = Kind::kSign;
  std::string text = {};
  Rational value = {};
  bool space = false;  // white space before it

  bool Is(std::string_view sign) const { return kind == Kind::kSign && text == sign; }
  bool IsCommand(std::string_view name) const { return kind == Kind::kCommand && text == name; }
};

// Without layout: delimiters ($, \[, \boxed{}), \left, \right, thin spaces, thousands separators,
// final punctuation; Unicode signs as commands.
std::string CleanAnswer(std::string_view text);
// nullopt for text that is no answer: unknown characters, too many tokens.
std::optional<std::vector<Token>> Tokenize(std::string_view clean);
// The tokens' texts joined: equal for answers that differ in layout only.
std::string CompactText(const std::vector<Token>& tokens);
// When the whole is words, \text{...} or a choice such as (C): those words, else empty. plain: also
// when they stand without \text.
std::string WordsOf(std::string_view clean, bool plain);

}  // namespace hadal::eval::internal
