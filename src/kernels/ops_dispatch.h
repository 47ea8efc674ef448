// The row bodies of an instruction set, for the operations of this module.
#pragma once

#include "kernels/cpu/ops_table.h"
#include "kernels/exec.h"

namespace hadal::internal {

const OpsTable& Ops(Isa isa);

}  // namespace hadal::internal
