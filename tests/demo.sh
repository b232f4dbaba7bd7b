#!/bin/sh
# The demonstration: installs what is missing, builds, and lets a host die in front of you.
set -eu
cd "$(dirname "$0")/.."
sh tests/setup.sh demo
# By itself: cargo joins the features of what it builds together, and the witness would get the agent's TLS.
cargo build --quiet --release --locked -p palisade-witness
cargo build --quiet --release --locked -p palisade -p palisade-tests
exec "${CARGO_TARGET_DIR:-target}/release/lab" demo
