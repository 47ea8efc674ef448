// Training speed of a configuration with random weights and tokens, beside a peer's.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace hadal::cli {

struct TrainBench {
  std::string config;  // config.json
  int64_t batch = 8, sequence = 512, steps = 5;
  int64_t micro_tokens = 2048;
  std::string compute = "f32";  // f32, bf16, fp8
  std::string moments = "f32";  // f32, bf16: AdamW's, as the state keeps them
  int threads = 0;
  std::string peer;  // a command; CONFIG BATCH SEQUENCE STEPS THREADS are put after it
  bool json = false;
};
Status RunTrainBench(const TrainBench& options);

}  // namespace hadal::cli
