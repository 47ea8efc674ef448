#include <charconv>
#include <cstring>

#include "comm/internal_launcher.h"

namespace hadal::internal {
namespace {

// A count of at least one, or 0 for anything else.
int Count(const char* text) {
  if (text == nullptr) return 0;
  int count = 0;
  const char* end = text + std::strlen(text);
  const auto [last, error] = std::from_chars(text, end, count);
  return error == std::errc() && last == end && count > 0 ? count : 0;
}

// The variable that marks a rank, and the one with the number of ranks.
struct Mark {
  const char* rank;
  const char* ranks;
};

// Open MPI's mpirun; MPICH's and Intel's, and srun --mpi=pmi2; srun --mpi=pmix.
constexpr Mark kMarks[] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                           {"PMI_RANK", "PMI_SIZE"},
                           {"PMIX_RANK", "SLURM_STEP_NUM_TASKS"}};

}  // namespace

Result<Launcher> ReadLauncher(const std::function<const char*(const char*)>& variable) {
  for (const Mark& mark : kMarks) {
    if (variable(mark.rank) != nullptr) {
      return Launcher{true, Count(variable(mark.ranks)), mark.rank};
    }
  }
  // A batch script has SLURM_PROCID too, but only srun's tasks have the count of their step.
  const int tasks = Count(variable("SLURM_STEP_NUM_TASKS"));
  if (tasks > 1 && variable("SLURM_PROCID") != nullptr) {
    return Error{Code::kUnsupported, "srun started " + std::to_string(tasks) +
                                         " tasks without MPI, so they cannot find each other; "
                                         "start them with srun --mpi=pmix, or with mpirun"};
  }
  return Launcher{};
}

}  // namespace hadal::internal
