#!/bin/sh
# Installs what the lab and the tests need and this machine lacks; prints what it installs, and nothing when nothing is missing.
#   setup.sh demo    what the demonstration needs
#   setup.sh all     that, and what the tests need (the default)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
what=${1:-all}

if [ "$(id -u)" != 0 ]; then
    echo "setup: the lab makes network namespaces and cgroups: run as root" >&2
    exit 1
fi

# command -> Debian package that brings it
missing=
need() {
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}
need cc gcc
need ip iproute2
need nft nftables
need unshare util-linux
need nsenter util-linux
need fsfreeze util-linux
need mkfs.ext4 e2fsprogs
need ipmi_sim openipmi
need mosquitto mosquitto
if [ "$what" = all ]; then
    need c++ g++
    need ipmitool ipmitool
    need fence_ipmilan fence-agents
    need python3 python3
    need curl curl
    need ping iputils-ping
    need virsh libvirt-clients
    need qemu-system-x86_64 qemu-system-x86
    need libvirtd libvirt-daemon-system
    need sshd openssh-server
    need ssh openssh-client
    need tgtd tgt
    # The guests: their kernel comes by guests/build.sh.
    need xz xz-utils
    need zstd zstd
    need nvme nvme-cli
    need iscsi-inq libiscsi-bin
    need sg_persist sg3-utils
    # A part of QEMU that is no command.
    [ -e "/usr/lib/$(uname -m)-linux-gnu/qemu/block-iscsi.so" ] || missing="$missing qemu-block-extra"
    need snmpd snmpd
    need snmpset snmp
    need haproxy haproxy
    # The live view, on a real terminal.
    need tmux tmux
    need man man-db
    need mosquitto_sub mosquitto-clients
    need openssl openssl
    need promtool prometheus
fi
if [ -n "$missing" ]; then
    echo "setup: installing$missing"
    apt-get update -qq
    # The programs are wanted, not their services.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    # shellcheck disable=SC2086 # a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

if ! command -v cargo >/dev/null 2>&1; then
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        echo "setup: cargo is in ~/.cargo/bin but not in PATH" >&2
    else
        echo "setup: Rust is missing; install it from https://rustup.rs" >&2
    fi
    exit 1
fi
[ "$what" = all ] || exit 0

target() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ] && return
    echo "setup: adding the Rust target $1"
    rustup target add "$1"
}
target thumbv7em-none-eabihf

for component in clippy rustfmt; do
    case $component in clippy) command=cargo-clippy ;; *) command=rustfmt ;; esac
    if ! $command --version >/dev/null 2>&1; then
        echo "setup: adding the Rust component $component"
        rustup component add "$component"
    fi
done

tool() {
    command -v "$1" >/dev/null 2>&1 && return
    echo "setup: building $1 (minutes, once)"
    cargo install --quiet --locked "$1"
}
tool cargo-nextest
tool cargo-deny

if [ -x "$here/peers/install.sh" ]; then
    "$here/peers/install.sh" >/dev/null
fi
