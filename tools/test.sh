#!/usr/bin/env bash
# Builds the release tree and the dev tree (clang: sanitizers, tests, fuzzers), then runs every check
# and test as one ctest run.
#   tools/test.sh [ctest arguments]      HADAL_FUZZ_SECONDS=20
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1  # a clone elsewhere finds the same objects
mkdir -p build
if [[ ! -d ${HOME-} || ! -w $HOME ]]; then
  mkdir -p build/home
  export HOME=$PWD/build/home
fi

# A job for every core that has 1.5 GB.
jobs=$(nproc)
room=$(awk '/MemAvailable/ { print int($2 / 1572864) }' /proc/meminfo)
((jobs <= room)) || jobs=$((room > 0 ? room : 1))
printf '== %s cores, %s jobs, %s; ccache %s\n' "$(nproc)" "$jobs" "$(uname -sr)" "$(command -v ccache || echo absent)"

relevant() {  # the lines of a build log that say what went wrong, then its end
  grep -n -E 'error|warning:|FAILED|Killed|No space|undefined reference' "$1" | head -n 40
  printf -- '-- last lines of %s:\n' "$1"
  tail -n 25 "$1"
}

build() {  # preset, targets...
  local preset=$1 log=build/$1.log begin=$SECONDS
  shift
  printf '== building %s\n' "$preset"
  # A tree configured with another compiler or generator begins again.
  cmake --preset "$preset" >"$log" 2>&1 || cmake --fresh --preset "$preset" >"$log" 2>&1 ||
    { relevant "$log"; printf 'configuring %s failed\n' "$preset"; exit 1; }
  if ! cmake --build --preset "$preset" -j "$jobs" --target "$@" >>"$log" 2>&1; then
    # Where memory ran out, one job may do.
    if ! grep -q -E 'Killed|virtual memory exhausted|cannot allocate memory' "$log" ||
       ! cmake --build --preset "$preset" -j 1 --target "$@" >>"$log" 2>&1; then
      relevant "$log"
      printf 'building %s failed; whole output: %s\n' "$preset" "$log"
      exit 1
    fi
  fi
  printf '   %d s\n' $((SECONDS - begin))
}
build release all
build dev all

# Sanitizers of this age do not know kernels that place mappings more than 28 random bits apart, and the
# search for leaks wants ptrace, which some sandboxes refuse.
run=()
if (($(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28) > 28)) && setarch -R true 2>/dev/null; then
  run=(setarch -R)
fi
if ! "${run[@]}" build/dev/src/base/base_test --gtest_list_tests >build/sanitizer.log 2>&1; then
  if grep -q LeakSanitizer build/sanitizer.log; then
    echo '== no search for leaks here: LeakSanitizer cannot run'
    export ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS-}
  else
    tail -n 20 build/sanitizer.log
    echo 'programs with sanitizers do not start on this machine'
    exit 1
  fi
fi

# One list of tests over both trees and the checks of the sources.
mkdir -p build/all
{
  printf 'subdirs(../release)\nsubdirs(../dev)\n'
  for check in format layers headers tidy docs commands; do
    printf 'add_test(check.%s "%s/tools/checks/%s.sh")\n' "$check" "$PWD" "$check"
    printf 'set_tests_properties(check.%s PROPERTIES WORKING_DIRECTORY "%s" SKIP_RETURN_CODE 77)\n' "$check" "$PWD"
  done
  # These use every core: alone, tidy after everything else.
  printf 'set_tests_properties(check.tidy PROPERTIES PROCESSORS %d COST 0.001 ENVIRONMENT CHECK_JOBS=%d)\n' "$jobs" "$jobs"
} >build/all/CTestTestfile.cmake
printf '== testing (builds took %d s)\n' "$SECONDS"
exec "${run[@]}" ctest --test-dir build/all --output-on-failure -j "$jobs" --timeout 900 "$@"
