#!/usr/bin/env bash
# The short allow-list of .clang-tidy over every source.
set -euo pipefail
tidy=$(command -v clang-tidy-14 || command -v clang-tidy)
find src -name '*.cc' -print0 | grep -zv -E '_(test|fuzz|bench|emulated)\.cc$|/testing_' | sort -z |
  xargs -0 -P "${CHECK_JOBS:-$(nproc)}" -n 4 "$tidy" -p build/release --quiet 2>/dev/null
