#!/bin/sh
# Fuzzes every byte that comes from outside: each target for a while, from its committed corpus.
#   fuzz.sh [SECONDS_PER_TARGET] [TARGET...]
# The corpus is copied first, so a run changes nothing. What a run of a minute or more found new stays in
# target/fuzz/found/TARGET, where the next such run goes on; a shorter one begins from the corpus alone and takes as long each time.
# libFuzzer comes with the crate libfuzzer-sys; the flags below are those by which rustc instruments code for it. All of
# them exist in stable Rust, so neither nightly nor cargo-fuzz is needed.
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=${1:-20}
[ $# -gt 0 ] && shift
root=$PWD
work=${CARGO_TARGET_DIR:-$root/target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
# The longest input, longer than anything that the inputs' readers take whole; the time and the memory one may use.
max_len=4096
timeout_s=10
rss_limit_mb=1024

flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# With --target the flags go to the code and not to build scripts.
if ! RUSTFLAGS=$flags CARGO_TARGET_DIR=$work cargo build --quiet --release --locked --target "$host" \
    --manifest-path tests/fuzz/Cargo.toml; then
    echo "0 passed, 1 failed (it does not build)"
    exit 1
fi

# Files that a target makes go to memory, where there is a place in it.
scratch=$(mktemp -d -p /dev/shm palisade-fuzz-XXXXXX 2>/dev/null || mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export TMPDIR="$scratch"
# shellcheck disable=SC2046 # a list of names
[ $# -gt 0 ] || set -- $(cd tests/fuzz/fuzz_targets && ls | sed 's/\.rs$//')
passed=0
failed=0
for target in "$@"; do
    seeds=tests/fuzz/corpus/$target
    if [ "$seconds" -ge 60 ]; then found=$work/found/$target; else found=$scratch/found/$target; fi
    crashes=$work/crashes/$target
    log=$scratch/log
    mkdir -p "$scratch/corpus/$target" "$found" "$crashes"
    cp "$seeds"/* "$scratch/corpus/$target/" 2>/dev/null || echo "fuzzing $target: no corpus in $seeds"
    began=$(date +%s)
    # The first directory takes what is found; the others are only read.
    if "$work/$host/release/$target" -max_total_time="$seconds" -max_len=$max_len -timeout=$timeout_s \
        -rss_limit_mb=$rss_limit_mb -print_final_stats=1 -verbosity=1 -artifact_prefix="$crashes/" \
        "$found" "$scratch/corpus/$target" >"$log" 2>&1; then
        passed=$((passed + 1))
        verdict=PASS
    else
        failed=$((failed + 1))
        verdict=FAIL
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    echo "$verdict $target: ${runs:-?} executions in $(($(date +%s) - began)) s, ${edges:-?} edges"
    if [ $verdict = FAIL ]; then
        grep -v -e '^#[0-9]' -e NEW_FUNC -e '^INFO' -e '^WARNING' -e '^Base64' "$log" | head -n 30
        file=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        if [ -n "$file" ]; then
            echo "input:   $file"
            echo "hex:     $(od -An -v -tx1 "$file" | tr -d ' \n' | cut -c 1-2000)"
            echo "base64:  $(base64 -w 0 "$file" | cut -c 1-2000)"
            echo "again:   $work/$host/release/$target $file"
        fi
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
