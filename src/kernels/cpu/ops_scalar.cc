#include "kernels/cpu/lanes_scalar.h"
#include "kernels/cpu/ops_kernels.h"

namespace hadal::internal {

constinit const OpsTable kOpsScalar = OpsKernels<LanesScalar>::Table();

}  // namespace hadal::internal
