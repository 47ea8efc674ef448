// Runs Python programs that nobody trusts, through bubblewrap and a seccomp filter.
//
// A program sees: the Python interpreter, its library and the shared libraries, read-only, and an
// empty scratch folder /tmp in memory. It has no network, no /proc, /sys, /dev or /home, no
// environment, no capabilities, its own user, process, network, IPC and host name spaces, and a
// list of allowed system calls: it cannot start processes or threads, send signals, trace, open
// sockets or make keys, name spaces or devices. CPU time, wall time, memory, files and output are
// bounded. What goes past a bound is killed with all that belongs to it.
//
// There is no fallback: where bubblewrap is missing or the system refuses user name spaces, Open
// fails.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal::eval {

struct SandboxLimits {
  int64_t cpu_seconds = 5;
  int64_t wall_seconds = 60;         // far more, so that a busy machine fails no program
  int64_t memory_bytes = 512 << 20;  // of address space
  int64_t scratch_bytes = 16 << 20;  // of /tmp, and of a file
  int64_t output_bytes = 64 << 10;   // of each of standard output and error
};

struct SandboxRun {
  enum class End : uint8_t {
    kExited,   // code: its exit status
    kSignal,   // code: what killed it; 24 (SIGXCPU) or 9 when CPU time ran out
    kTimeout,  // wall time ran out
    kOutput,   // it wrote too much
  };
  End end = End::kExited;
  int code = 0;
  std::string output, errors;  // at most output_bytes of each
  double seconds = 0;
};

class Sandbox {
 public:
  // Errors: kUnsupported with what is missing or refused, and how to get it.
  static Result<Sandbox> Open();

  // Runs `program` (at most 100,000 bytes) with `input` as standard input. May be called from
  // several threads. Errors: kUnsupported where the sandbox itself could not start, kIo, kMemory.
  Result<SandboxRun> RunPython(const std::string& program, std::string_view input,
                               const SandboxLimits& limits) const;

 private:
  Sandbox() = default;
  std::vector<std::string> Arguments(const std::string& program, const SandboxLimits& limits) const;

  std::string bwrap_, python_, library_;
  std::string filter_;  // the seccomp program
};

}  // namespace hadal::eval
