// What this machine can do at best, measured: the yardsticks of `hadal bench`.
#pragma once

#include "base/thread_pool.h"

namespace hadal::cli {

// Over all threads of the pool together. 10^9 a second, an FMA or a multiply-add counts as two.
struct MachineLimits {
  double read = 0;  // bytes read from memory
  double f32 = 0;   // f32 FMA from registers
  double int8 = 0;  // int8 dot products from registers (VNNI where there is)
};
// Takes about a second. Best of several runs each.
MachineLimits MeasureLimits(ThreadPool& pool);

}  // namespace hadal::cli
