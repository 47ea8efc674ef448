// Independent second opinions for tests: they read the English prompt or the canonical form with
// their own parsers and share no code with the families.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "data/problems.h"

namespace hadal {

// A rational of 128-bit parts, not reduced.
struct WideRational {
  __int128 num = 0, den = 1;
};
// + - * / with parentheses and signs; & | ^ ! on bits. Nothing where it is not such a formula.
std::optional<WideRational> EvaluateForTest(std::string_view text);

// "1+2=3", "4=2*2<5": every relation of the chain is true.
bool RelationHolds(const std::string& word);

// Reads a trace: every word of the form a=b, a=b>c, a<b... without letters must be true.
struct StepCheck {
  int checked = 0;
  std::string wrong;  // the first false word, empty where all are true
};
StepCheck CheckSteps(std::string_view thought);

// Whether the gold answer is right, worked out anew.
bool OracleAgrees(const Problem& english);

}  // namespace hadal
