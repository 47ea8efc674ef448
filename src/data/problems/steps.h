// Written arithmetic, digit by digit, as a trace shows it. Each function appends its steps and ends
// with the equation of the whole, then a space; operands are not negative. In a column the last
// digit of a sum is the digit of the result and what stands before it is carried to the next one:
//   347+285: 7+5=12 4+8+1=13 3+2+1=6 347+285=632
#pragma once

#include <cstdint>
#include <utility>

#include "data/problems/family.h"

namespace hadal::problems {

int64_t WriteAdd(Text& text, int64_t a, int64_t b);
int64_t WriteSubtract(Text& text, int64_t a, int64_t b);  // a >= b
int64_t WriteMultiply(Text& text, int64_t a, int64_t b);
// As WriteMultiply, but products up to 15*15 are known by heart.
int64_t WriteProduct(Text& text, int64_t a, int64_t b);
// Quotient and remainder, b >= 1, digit by digit where it is not known by heart:
//   "61/7: 7*8=56 61-56=5 61=7*8+5".
// Without `with_rest` the equation of the whole is left out where something is left.
std::pair<int64_t, int64_t> WriteDivide(Text& text, int64_t a, int64_t b, bool with_rest = true);
// a + b with any signs.
int64_t WriteSignedAdd(Text& text, int64_t a, int64_t b);
// The greatest common divisor by Euclid's steps, one line.
int64_t WriteGcd(Text& text, int64_t a, int64_t b);

inline constexpr int64_t kPowersOf10[] = {
    1, 10, 100, 1'000, 10'000, 100'000, 1'000'000, 10'000'000, 100'000'000, 1'000'000'000};

}  // namespace hadal::problems
