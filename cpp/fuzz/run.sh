#!/bin/sh
# Runs each fuzzer for SECONDS (60) from the small corpus in this folder:  sh cpp/fuzz/run.sh BUILD [SECONDS]
# What it finds stays in the folder it is run in, as crash-* and the like.
set -eu
LSAN_OPTIONS="suppressions=$(cd "$(dirname "$0")" && pwd)/lsan.supp:print_suppressions=0"
export LSAN_OPTIONS
here=$(cd "$(dirname "$0")" && pwd)
build=${1:?usage: run.sh BUILD [SECONDS]}
seconds=${2:-60}
for name in contract audio stream; do
  scratch=$(mktemp -d)
  "$build/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
    "$scratch" "$here/corpus/$name" || exit 1
  rm -rf "$scratch"
done
