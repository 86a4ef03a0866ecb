#!/usr/bin/env bash
# One fuzz target for so many seconds; called by 'ci/run.sh fuzz', which has built it.
# run.sh TARGET SECONDS, with the cargo target folder in the environment as `target`. FUZZ_SEED is libFuzzer's; 1 unless
# told, so that two checks of one commit try nearly the same inputs, and 0 for another each time: a hunt.
set -euo pipefail

name=$1 seconds=$2
case $name in
frame | pipeline) length=400 ;;
*) length=4000 ;;
esac
folder=$target/fuzz/$name
mkdir -p "$folder/corpus"
"$target/debug/kept" unpack "$name" "$folder/corpus" >/dev/null
cd "$folder"
# libFuzzer ends with this when it is stopped by a signal that it knows: by hand, that is.
stopped=72
status=0
"$target/debug/fuzz-$name" -max_total_time="$seconds" -max_len=$length -rss_limit_mb=2048 \
    -interrupted_exitcode=$stopped -seed="${FUZZ_SEED:-1}" -print_final_stats=1 corpus >log 2>&1 || status=$?
case $status in
0)
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' log)
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' log | tail -n 1)
    echo "fuzz $name: $count inputs in $seconds s, $edges edges, none failed"
    ;;
"$stopped")
    count=$(sed -n 's/^#\([0-9]*\).*/\1/p' log | tail -n 1)
    echo "fuzz $name: stopped before its $seconds s were over, after some ${count:-0} inputs; none failed" >&2
    exit 130
    ;;
*)
    grep -A 8 'panicked at' log >&2 || tail -n 20 log >&2
    echo "fuzz $name: an input failed; it is in $folder (crash-*, and chain-* with those before it): add it" \
        "to ci/fuzz/crashes/$name in hexadecimal digits and mend the fault" >&2
    exit 1
    ;;
esac
