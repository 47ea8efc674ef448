// Runs commands for the tests of several ranks.
#pragma once

#include <sys/wait.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace hadal::internal {

struct Ran {
  int status = -1;  // 128 + signal when a signal ended it
  double seconds = 0;
  std::string output;  // stdout and stderr
};

// A shell command; ended after two minutes, with status 124.
inline Ran RunCommand(const std::string& command) {
  const auto begin = std::chrono::steady_clock::now();
  // MPI itself leaks at exit, which is not what sanitizers are to look for here.
  FILE* pipe = popen(
      ("export ASAN_OPTIONS=detect_leaks=0; exec 2>&1 </dev/null; timeout 120 " + command).c_str(),
      "r");
  Ran ran;
  if (pipe == nullptr) return ran;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) ran.output.append(buffer, n);
  const int status = pclose(pipe);
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  ran.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return ran;
}

// Why several ranks cannot be started here; empty when they can.
inline std::string NoRanks() {
  if (!HADAL_COMM_MPI) return "built without MPI";
  if (std::getenv("OMPI_COMM_WORLD_RANK") != nullptr) return "this is a rank of a job itself";
  if (RunCommand("sh -c 'command -v mpirun'").status != 0) return "mpirun is not installed";
  return "";
}

inline std::string Mpirun(int ranks) {
  return "mpirun --oversubscribe --allow-run-as-root -n " + std::to_string(ranks) + " ";
}

}  // namespace hadal::internal
