#pragma once

#include <string>

#include "base/result.h"

namespace hadal::eval::internal {

// The BPF program of the allowed system calls; others fail with EPERM, those of another
// architecture kill.
Result<std::string> SandboxFilter();

// An anonymous sealed file of these bytes, close-on-exec, at its start; -1 when there is none.
int SealedFile(std::string_view bytes);

}  // namespace hadal::eval::internal
