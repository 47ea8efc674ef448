// Other programs on the same file: llama-bench and llama-batched-bench of llama.cpp or a fork.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hadal::cli {

struct PeerJob {
  std::string binary, model;
  int threads = 1;
  int64_t prompt = 512, generate = 128, parallel = 16;
};
struct PeerSpeeds {
  double prefill = 0, decode = 0;  // tokens a second
};
Result<PeerSpeeds> RunLlamaBench(const PeerJob& job);
// Tokens a second of all sequences together.
Result<double> RunBatchedBench(const PeerJob& job);

// Runs a program without a shell; its standard output. Errors: cannot start, exit code not 0.
Result<std::string> RunProgram(const std::vector<std::string>& words, bool quiet = true);

Result<PeerSpeeds> ParseLlamaBench(const std::string& json_text);
// JSON lines, or the table that some builds print whatever they are asked for.
Result<double> ParseBatchedBench(const std::string& text);

}  // namespace hadal::cli
