#!/bin/sh
# Builds the witness as one static file for a small board, and checks that it is one.
#   sh cross/witness.sh [TARGET]     x86_64-unknown-linux-musl (the default) or aarch64-unknown-linux-musl
# Installs the Rust target, and for aarch64 Debian's cross compiler (ring has C and assembler in it). Packages come later.
set -eu
cd "$(dirname "$0")/.."
target=${1:-x86_64-unknown-linux-musl}
case $target in
x86_64-unknown-linux-musl)
    machine="X86-64"
    # ring's C needs no C library: the machine's own compiler serves.
    export CC_x86_64_unknown_linux_musl=cc
    ;;
aarch64-unknown-linux-musl)
    machine="AArch64"
    if ! command -v aarch64-linux-gnu-gcc >/dev/null 2>&1; then
        echo "cross: installing gcc-aarch64-linux-gnu"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null
    fi
    export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
    ;;
*)
    echo "cross: unknown target $target" >&2
    exit 2
    ;;
esac
command -v readelf >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends binutils >/dev/null
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    echo "cross: adding the Rust target $target"
    rustup target add "$target"
fi
cargo build --quiet --locked --profile board --target "$target" -p palisade-witness
file=${CARGO_TARGET_DIR:-target}/$target/board/palisade-witness
readelf -h "$file" | grep -q "Machine:.*$machine" || { echo "cross: $file is not for $machine" >&2; exit 1; }
if readelf -l "$file" | grep -q INTERP || readelf -d "$file" 2>/dev/null | grep -q NEEDED; then
    echo "cross: $file is not static" >&2
    exit 1
fi
echo "$file: static, $machine, $(stat -c %s "$file") bytes"
