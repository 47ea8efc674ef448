#include "kernels/cpu/lanes_scalar.h"
#include "kernels/cpu/train_kernels.h"

namespace hadal::internal {

constinit const TrainTable kTrainScalar = TrainKernels<LanesScalar>::Table();

}  // namespace hadal::internal
