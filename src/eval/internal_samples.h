// What is known of one sample, and its line in the log.
#pragma once

#include <cstdint>
#include <string>

#include "eval/backend.h"
#include "eval/task.h"

namespace hadal::eval::internal {

struct Sample {
  size_t task = 0, item = 0;  // indices into the run's tasks and the task's items
  int64_t number = 0;         // of the item's samples
  uint64_t seed = 0;
  Completion completion;
  eval::Grade grade;
  bool done = false;
};

// One JSON object, no newline; invalid UTF-8 is replaced.
std::string SampleToJson(const std::string& task, const Item& item, const Sample& sample);

}  // namespace hadal::eval::internal
