#!/bin/sh
# The demonstration: installs what is missing, builds, and lets a host die in front of you.
set -eu
cd "$(dirname "$0")/.."
sh tests/setup.sh demo
cargo build --quiet --release --locked -p palisade -p palisade-witness -p palisade-tests
exec "${CARGO_TARGET_DIR:-target}/release/lab" demo
