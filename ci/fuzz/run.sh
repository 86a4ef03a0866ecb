#!/usr/bin/env bash
# One fuzz target; called by 'ci/run.sh fuzz', which has built it, with the cargo target folder in the environment as
# `target` and a folder for the time of the run as `PORTGATE_FUZZ_SCRATCH`.
#
# run.sh TARGET: a check. As many inputs as are named below, from the kept ones alone and one seed. Two checks of one
# commit try nearly the same; not quite, because coverage leads and differs a little from run to run. It ends earlier, and is none the worse for it, where they take very long.
# run.sh TARGET SECONDS: a hunt. Other inputs each time, unless FUZZ_SEED says whose, and all that earlier hunts have found.
set -euo pipefail

name=$1 seconds=${2:-}
# Inputs of a check: some 50 s of one core of two at 2.5 GHz.
case $name in
frame) length=400 inputs=8000000 ;;
pipeline) length=400 inputs=450000 ;;
records) length=4000 inputs=1400000 ;;
region) length=4000 inputs=110000 ;;
manifests) length=4000 inputs=140000 ;;
settings) length=4000 inputs=3500000 ;;
*)
    echo "fuzz: no target '$name'" >&2
    exit 2
    ;;
esac
# Seconds after which a check has tried enough.
readonly LONGEST=300

folder=$target/fuzz/$name
mkdir -p "$folder/corpus"
cd "$folder"
if [ -z "$seconds" ]; then
    kept=$PORTGATE_FUZZ_SCRATCH/kept-$name
    "$target/debug/kept" unpack "$name" "$kept" >/dev/null
    # A list has an order, a folder whatever the file system gives.
    find "$kept" -type f | LC_ALL=C sort | paste -sd, | tr -d '\n' >"$kept.list"
    seed=${FUZZ_SEED:-1}
    options=(-runs="$inputs" -max_total_time=$LONGEST -seed_inputs=@"$kept.list")
else
    "$target/debug/kept" unpack "$name" corpus >/dev/null
    seed=${FUZZ_SEED:-0}
    options=(-max_total_time="$seconds" corpus)
fi
# libFuzzer ends with this when it is stopped by a signal that it knows: by hand, that is.
stopped=72
status=0
started=$SECONDS
"$target/debug/fuzz-$name" -max_len=$length -rss_limit_mb=2048 -interrupted_exitcode=$stopped -seed="$seed" \
    -print_final_stats=1 "${options[@]}" >log 2>&1 || status=$?
took=$((SECONDS - started))
case $status in
0)
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' log)
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' log | tail -n 1)
    echo "fuzz $name: $count inputs in $took s, $edges edges, none failed"
    ;;
"$stopped")
    count=$(sed -n 's/^#\([0-9]*\).*/\1/p' log | tail -n 1)
    echo "fuzz $name: stopped by hand after $took s and some ${count:-0} inputs; none failed" >&2
    exit 130
    ;;
*)
    grep -A 8 'panicked at' log >&2 || tail -n 20 log >&2
    echo "fuzz $name: an input failed; it is in $folder (crash-*, and chain-* with those before it): add it" \
        "to ci/fuzz/crashes/$name in hexadecimal digits and mend the fault" >&2
    exit 1
    ;;
esac
