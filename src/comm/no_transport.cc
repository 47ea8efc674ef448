// Built where MPI is not installed.
#include "comm/internal_transport.h"

namespace hadal::internal {

Result<std::unique_ptr<Transport>> StartTransport(const Launcher& launcher) {
  if (launcher.mpi && launcher.ranks != 1) {
    return Error{Code::kUnsupported, launcher.name +
                                         " says this is one of several ranks, but this program was "
                                         "built without MPI; install libopenmpi-dev, build again"};
  }
  return std::unique_ptr<Transport>();
}

}  // namespace hadal::internal
