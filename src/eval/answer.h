// Whether a mathematical answer equals the gold one: integers, decimals, fractions, mixed numbers,
// roots, pi, symbolic expressions, equations, intervals, sets, tuples, matrices, numbers in a base,
// units, money, percentages, degrees, words and choices, in LaTeX or plain text.
//
// Equality is proved by exact arithmetic and then seen in numbers as well; what cannot be proved is
// wrong, so that a right verdict is never a guess. What differs in form alone (3/6 and 1/2,
// factored and expanded) is equal. An answer may carry a unit that the gold one lacks, or the
// reverse; two units must agree.
#pragma once

#include <string>
#include <string_view>

#include "data/problems.h"

namespace hadal::eval {

struct AnswerCheck {
  hadal::Verdict verdict = hadal::Verdict::kWrong;  // kError: the gold answer cannot be read
  std::string key;     // one text for equal answers, where that can be told; else the text itself
  std::string reason;  // "same text", "equal", "different", "answer: unknown sign at ..."
};
AnswerCheck CheckAnswer(std::string_view gold, std::string_view answer);

}  // namespace hadal::eval
