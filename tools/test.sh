#!/usr/bin/env bash
# Builds the release, dev (sanitizers) and fuzz trees, then runs every check and test as one ctest run.
#   tools/test.sh [ctest arguments]      HADAL_FUZZ_SECONDS=20
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1  # a clone elsewhere finds the same objects
memory_gb=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
((jobs * 2 > memory_gb && memory_gb > 1)) && jobs=$((memory_gb / 2))

build() {  # preset, targets...
  local preset=$1 log=build/$1.log
  shift
  printf '== building %s\n' "$preset"
  local begin=$SECONDS
  if ! cmake --preset "$preset" >"$log" 2>&1 || ! cmake --build --preset "$preset" -j "$jobs" --target "$@" >>"$log" 2>&1; then
    grep -E 'error|warning|FAILED' "$log" | head -n 40
    tail -n 20 "$log"
    printf 'building %s failed; whole output: %s\n' "$preset" "$log"
    exit 1
  fi
  printf '   %d s\n' $((SECONDS - begin))
}
build release all
build dev all all_verify_interface_header_sets
build fuzz fuzzers

# One list of tests over the three trees and the checks of the sources.
mkdir -p build/all
{
  printf 'subdirs(../release)\nsubdirs(../dev)\nsubdirs(../fuzz)\n'
  for check in format layers headers docs commands tidy; do
    printf 'add_test(check.%s "%s/tools/checks/%s.sh")\nset_tests_properties(check.%s PROPERTIES WORKING_DIRECTORY "%s" SKIP_RETURN_CODE 77)\n' \
      "$check" "$PWD" "$check" "$check" "$PWD"
  done
} >build/all/CTestTestfile.cmake
printf '== testing\n'
exec ctest --test-dir build/all --output-on-failure -j "$jobs" --timeout 900 "$@"
