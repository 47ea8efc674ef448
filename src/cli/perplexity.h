// Perplexity by the protocol of llama.cpp's llama-perplexity, so that figures can be compared.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

namespace hadal::cli {

struct PerplexityOptions {
  int64_t context = 512;
  int64_t chunks = -1;  // -1: all
  // After each chunk: how many of how many, and the estimate so far. false stops.
  std::function<bool(int64_t done, int64_t total, double perplexity)> progress;
};
struct Perplexity {
  double value = 0, error = 0;  // error: one standard error, as llama.cpp states it
  int64_t chunks = 0, scored = 0;
};
// The text is encoded once, BOS first where the tokenizer adds one, and cut into chunks of
// `context` ids; a last incomplete chunk is dropped. Each chunk is read alone, its first id
// replaced by BOS where the tokenizer adds one; the ids after the first half are scored. Errors: a
// text shorter than one chunk, NaN or Inf in the logits.
Result<Perplexity> MeasurePerplexity(Model& model, const Tokenizer& tokenizer,
                                     std::string_view text, const PerplexityOptions& options);
// The same over ids that are there already; bos < 0: none.
Result<Perplexity> MeasurePerplexity(Model& model, std::vector<int32_t> ids, int32_t bos,
                                     const PerplexityOptions& options);

}  // namespace hadal::cli
