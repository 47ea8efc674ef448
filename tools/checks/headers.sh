#!/usr/bin/env bash
# Headers that other modules may include say `#pragma once` and use no `using namespace`. (That each
# compiles alone is checked by the dev build.)
set -euo pipefail
status=0
for header in $(git ls-files '*.h'); do
  grep -q '^#pragma once$' "$header" || { echo "$header: no #pragma once"; status=1; }
  ! grep -n '^using namespace' "$header" || { echo "$header: using namespace in a header"; status=1; }
done
exit $status
