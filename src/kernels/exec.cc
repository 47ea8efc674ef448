#include "kernels/exec.h"

#include <cstdlib>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace hadal {
namespace {

#if defined(__x86_64__)
// __builtin_cpu_supports of clang 14 does not know f16c.
bool HasF16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

}  // namespace

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas = {Isa::kScalar};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c()) {
    isas.push_back(Isa::kAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni")) {
      isas.push_back(Isa::kAvx512);
    }
  }
#endif
  return isas;
}

Result<Isa> ChooseIsa() {
  const std::vector<Isa> supported = SupportedIsas();
  const char* wanted = std::getenv("HADAL_ISA");
  if (wanted == nullptr || *wanted == '\0') return supported.back();
  std::string names;
  for (const Isa isa : supported) {
    if (IsaName(isa) == wanted) return isa;
    names += (names.empty() ? "" : ", ") + std::string(IsaName(isa));
  }
  return Error{Code::kInvalid,
               "HADAL_ISA=" + std::string(wanted) + ": this machine can run " + names};
}

// What a task of a decode step takes, so that a worker's first one allocates nothing.
constexpr size_t kWorkerScratch = size_t{512} << 10;

Exec::Exec(int threads, Isa isa)
    : pool_(std::make_unique<ThreadPool>(threads)),
      isa_(isa),
      shared_(std::make_unique<Workspace>()) {
  for (int i = 0; i < pool_->threads(); ++i) {
    scratch_.push_back(std::make_unique<Workspace>(kWorkerScratch));
  }
}

}  // namespace hadal
