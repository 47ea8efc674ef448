// Finding the answer in what a model wrote.
#pragma once

#include <string>
#include <string_view>

namespace hadal::eval {

struct Found {
  bool found = false;
  std::string answer;
  std::string trace;  // which rule found it, or why none did
};

// What follows the last </think>; the whole without one; empty with a <think> that never ends.
std::string_view AfterThought(std::string_view text);

// The last well-formed \boxed{...} after the thought. Not strict, in this order, each time the
// last: what follows "####", what follows "answer is" or "answer:" up to the line's end, and with
// `numbers` the last number.
Found FindAnswer(std::string_view text, bool strict, bool numbers);

// The last fenced block of code after the thought, one named python before others; without a fence
// all of the text, unless strict.
Found FindCode(std::string_view text, bool strict);

// One letter of the first `count`: boxed, "answer is (B)", or alone on a line.
Found FindLetter(std::string_view text, int count, bool strict);

}  // namespace hadal::eval
