// Whether a Python program passes tests, in the sandbox.
#pragma once

#include <memory>
#include <string>

#include "eval/sandbox.h"
#include "eval/task.h"

namespace hadal::eval {

// Runs `program`, then `tests` in a copy of its names. Right when every test ran to its end without
// an exception; wrong else, also when a limit was hit; error when the sandbox failed. Functions may
// return values of built-in and library types only, since an object of its own class could claim to
// equal anything. (A program that hunts through the interpreter for the grader's own frames is not
// stopped from doing so: a process cannot hide from itself.)
Grade RunTests(const Sandbox& sandbox, const std::string& program, const std::string& tests,
               const SandboxLimits& limits = {});

// One for all tasks of a run. Errors: as Sandbox::Open.
Result<std::shared_ptr<const Sandbox>> SharedSandbox();

}  // namespace hadal::eval
