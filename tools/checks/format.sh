#!/usr/bin/env bash
# Every C++ source is laid out as .clang-format says.
set -euo pipefail
format=$(command -v clang-format-14 || command -v clang-format)
find src \( -name '*.cc' -o -name '*.h' -o -name '*.cu' \) -print0 | xargs -0 "$format" --dry-run --Werror
