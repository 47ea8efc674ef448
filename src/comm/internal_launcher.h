// Who started this process, read from its environment.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"

namespace hadal::internal {

struct Launcher {
  bool mpi = false;  // an MPI launcher started this process
  int ranks = 0;     // how many it started; 0: it does not say
  std::string name;  // the variable that told
};

// `variable` returns the value of an environment variable or null, as getenv does. An error when
// several tasks were started in a way that MPI cannot join: each would do the whole work alone.
Result<Launcher> ReadLauncher(const std::function<const char*(const char*)>& variable);

}  // namespace hadal::internal
