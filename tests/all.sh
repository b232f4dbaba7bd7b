#!/bin/sh
# All tests: installs what is missing, then every check, every unit, simulation and device test, and every scenario in the lab.
# Goes on after a failure; the last line counts, and the exit code is 0 only when nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1
sh tests/setup.sh all || { echo "0 passed, 1 failed (setup)"; exit 1; }
target=${CARGO_TARGET_DIR:-target}
passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# One check: its words are shown only when it fails.
check() {
    name=$1
    shift
    start=$(date +%s)
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "PASS $name ($(($(date +%s) - start)) s)"
    else
        failed=$((failed + 1))
        tail -n 60 "$log"
        echo "FAIL $name ($(($(date +%s) - start)) s)"
    fi
}

# Many tests: shown as they run; their own closing line is counted.
count() {
    name=$1
    shift
    start=$(date +%s)
    "$@" 2>&1 | tee "$log"
    p=$(sed -n "s/.*[^0-9]\([0-9][0-9]*\) passed.*/\1/p; s/^\([0-9][0-9]*\) passed.*/\1/p" "$log" | tail -n 1)
    f=$(sed -n "s/.*[^0-9]\([0-9][0-9]*\) failed.*/\1/p" "$log" | tail -n 1)
    p=${p:-0}
    f=${f:-0}
    # No count at all means that it did not build or did not run.
    if [ $((p + f)) -eq 0 ]; then
        f=1
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    echo "---- $name: $p passed, $f failed ($(($(date +%s) - start)) s)"
}

check "format" cargo fmt --all --check
check "clippy" cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
check "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps --document-private-items
check "protocol without std, on a Cortex-M4" \
    cargo build --quiet --locked -p palisade-proto --no-default-features --target thumbv7em-none-eabihf
check "dependencies: licences, sources, bans" cargo deny --locked check bans licenses sources
check "dependencies of the fuzzing" \
    cargo deny --manifest-path tests/fuzz/Cargo.toml --locked check bans licenses sources
# The advisory database is fetched from the network; a machine that cannot reach it says so and is not counted.
if cargo deny --locked fetch db >/dev/null 2>&1; then
    check "dependencies: advisories" cargo deny --locked check advisories
else
    echo "NOT CHECKED dependencies: advisories (the advisory database cannot be reached)"
fi
# By itself: cargo joins the features of what it builds together, and the witness would get the agent's TLS.
check "release binary of the witness" cargo build --quiet --release --locked -p palisade-witness
check "release binaries" cargo build --quiet --release --locked -p palisade -p palisade-tests
check "simulation: build" cargo build --quiet --locked --profile sim -p palisade-tests --bin sim --bin explore
check "simulation: 20000 histories" "$target/sim/sim" --seeds 0..20000
count "exploration" "$target/sim/explore"
check "mutants: build" cargo build --quiet --locked --profile sim -p palisade-tests --features mutants --bin mutants
count "mutants" "$target/sim/mutants"
# Most of them wait for a peer, or for what a fault takes.
count "unit, simulation and device tests" cargo nextest run --locked --workspace --no-fail-fast --test-threads "$(($(nproc) * 2))" --status-level fail --final-status-level fail
count "fuzzing" sh tests/fuzz.sh 5
check "documentation's examples" cargo test --quiet --locked --workspace --doc
count "guests" "$target/release/lab" guests
count "scenarios" "$target/release/lab" scenario all

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
