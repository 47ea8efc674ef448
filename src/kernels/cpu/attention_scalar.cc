#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/lanes_scalar.h"

namespace hadal::internal {

constinit const AttentionTable kAttentionScalar = AttentionKernels<LanesScalar>::Table();

}  // namespace hadal::internal
