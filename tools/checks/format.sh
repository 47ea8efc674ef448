#!/usr/bin/env bash
# Every C++ source is laid out as .clang-format says.
set -euo pipefail
format=$(command -v clang-format-14 || command -v clang-format)
git ls-files '*.cc' '*.h' '*.cu' | xargs "$format" --dry-run --Werror
