#!/usr/bin/env bash
# Every header says `#pragma once`, says no `using namespace` and compiles alone. One that has a source
# of its name is its first include there, which any build compiles; those that others may include and
# that have no source are compiled here.
set -euo pipefail
status=0
alone=()
public=$(sed -n '/HDRS/,/SRCS/p' src/*/CMakeLists.txt)
while read -r header; do
  grep -q '^#pragma once$' "$header" || { echo "$header: no #pragma once"; status=1; }
  ! grep -n '^using namespace' "$header" || { echo "$header: using namespace in a header"; status=1; }
  source=${header%.h}.cc
  if [[ ! -f $source ]]; then
    ! grep -qwF "$(basename "$header")" <<<"$public" || alone+=("$header")
  elif [[ $(grep -m1 '^#include' "$source") != "#include \"${header#src/}\"" ]]; then
    echo "$source: its first include is not ${header#src/}"
    status=1
  fi
done < <(find src -name '*.h' | sort)
for header in "${alone[@]}"; do
  g++ -std=gnu++20 -Isrc -fsyntax-only -x c++ - <<<"#include \"${header#src/}\"" ||
    { echo "$header: does not compile alone"; status=1; }
done
exit $status
