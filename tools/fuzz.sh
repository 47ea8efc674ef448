#!/usr/bin/env bash
# fuzz.sh BINARY CORPUS_ROOT: runs a fuzzer for HADAL_FUZZ_SECONDS (20) on its part of the corpus.
# The seeds are copied, so that a run leaves the sources alone.
set -euo pipefail
binary=$1 name=$(basename "$1" _fuzz) seconds=${HADAL_FUZZ_SECONDS:-20}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seeds=$2/$name
[[ -d $seeds ]] || { echo "no seeds in $seeds"; exit 1; }
cp -r "$seeds" "$work/corpus"
mkdir "$work/crashes"
"$binary" "$work/corpus" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
  -artifact_prefix="$work/crashes/" >"$work/log" 2>&1 || {
    tail -n 60 "$work/log"
    for crash in "$work"/crashes/*; do echo "$crash:"; base64 "$crash" | head -n 40; done
    exit 1
  }
grep -E 'number_of_executed_units|peak_rss' "$work/log"
