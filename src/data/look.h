// What a training sample looks like, for people.
#pragma once

#include <string>

#include "data/pack.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

struct LookOptions {
  bool colour = true;      // ANSI colours: targets green, context grey, special tokens inverse
  bool tokens = false;     // a thin bar between tokens
  int64_t max_tokens = 0;  // of the sequence; 0: all
};

// The sequence as text, one heading a document ("-- document 2 of 3: 120 tokens, 80 targets"). Safe
// to print: control characters of the data are dropped. Without colour, stretches of targets stand
// between «» instead. Ids outside the vocabulary are shown as <id N>.
std::string RenderSample(const Tokenizer& tokenizer, const PackedSequence& sample,
                         const LookOptions& options = {});

}  // namespace hadal
