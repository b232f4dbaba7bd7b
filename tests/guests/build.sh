#!/bin/sh
# Builds what the guests boot: one of Debian's kernels as it is, and an initramfs with busybox, the modules below and init.
#   build.sh [DIR [KERNEL]]    DIR defaults to tests/.lab/guests; makes DIR/KERNEL/vmlinux and DIR/KERNEL/initrd
# KERNEL is `stable` (the default), that of this Debian 12, or `backport`, the newest one in Debian 13's backports, for what came
# later.
# Packages are downloaded once and unpacked here, nothing of them is installed. Without a change it does nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$here/../.lab/guests}
kernel=${2:-stable}
mkdir -p "$dir/$kernel"
cd "$dir/$kernel"

fail() {
    echo "guests: $*" >&2
    exit 1
}

# What a guest may load; whatever these need comes along.
case $kernel in
    stable)
        modules="virtio_pci virtio_net virtio_scsi virtio_blk sd_mod sg
            target_core_mod target_core_iblock target_core_file iscsi_target_mod crc32c_generic brd loop ext4
            watchdog i6300esb softdog pretimeout_panic pretimeout_noop
            nvme-tcp nvmet nvmet-tcp
            ipmi_msghandler ipmi_si ipmi_devintf"
        ;;
    backport) modules="virtio_pci virtio_net brd nvmet nvmet-tcp" ;;
    *) fail "no kernel $kernel: there are stable and backport" ;;
esac

# One at a time: two labs may start together.
exec 9>../lock
flock 9

# Packages, by their newest versions in the index, into a directory of their own.
unpack() {
    into=$1
    shift
    [ -d "$into" ] && return
    rm -rf fetch && mkdir fetch
    (cd fetch && apt-get download -qq "$@" >log 2>&1) ||
        fail "apt-get download $*: $(grep -m 1 '^E:' fetch/log); without network or index (apt-get update)" \
            "put the content of the .deb into $PWD/$into"
    for package in fetch/*.deb; do
        dpkg -x "$package" fetch/content
    done
    mv fetch/content "$into"
    rm -rf fetch
}

newest_of() {
    apt-cache search --names-only "$1" | cut -d ' ' -f 1 | sort -V | tail -n 1
}

stable_kernel() {
    pattern='^linux-image-6\.1\.0-[0-9]+-amd64$'
    newest=$(newest_of "$pattern")
    if [ -z "$newest" ]; then
        apt-get update -qq
        newest=$(newest_of "$pattern")
    fi
    [ -n "$newest" ] || fail "no package linux-image-6.1.0-*-amd64 in the package index: this is made for Debian 12"
    unpack content "$newest"
}

# The suite's index has a folder of its own here: sources and lists of this machine stay as they are. It is signed with Debian's
# keys (package debian-archive-keyring), and names the digest of each package.
backport_kernel() {
    suite=trixie-backports
    mkdir -p apt/lists/partial apt/cache/archives/partial
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >apt/sources.list
    cat >apt/apt.conf <<END
Dir::Etc::SourceList "$PWD/apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$PWD/apt/lists";
Dir::Cache "$PWD/apt/cache";
Acquire::Languages "none";
END
    APT_CONFIG=$PWD/apt/apt.conf
    export APT_CONFIG
    apt-get update -qq --error-on=any >apt/log 2>&1 ||
        fail "apt-get update for $suite: $(grep -m 1 '^[EW]:' apt/log);" \
            "without network put the content of a kernel's .deb into $PWD/content"
    newest=$(newest_of '^linux-image-[0-9.]+\+deb13-cloud-amd64$')
    [ -n "$newest" ] || fail "no package linux-image-*-cloud-amd64 in $suite"
    # It is made of several packages with its version in their names.
    version=${newest#linux-image-}
    # shellcheck disable=SC2046 # a list of packages
    unpack content "$newest" $(apt-cache depends "$newest" | grep -o "linux-[a-z]*-$version" | sort -u)
    unset APT_CONFIG
    rm -rf apt
}

[ -d content ] || "${kernel}_kernel"
unpack ../busybox busybox-static
busybox=$(cd ../busybox && pwd)/bin/busybox

stamp=$(cat "$here/build.sh" "$here/init" "$here/lio" "$here/nvmet" | sha256sum)
[ -e vmlinux ] && [ -e initrd ] && [ "$(cat stamp 2>/dev/null)" = "$stamp" ] && exit 0
rm -f stamp

# Unpacked beforehand, since an emulated processor takes seconds for it. What follows the packed kernel is no mistake.
packed=$(find content -name 'vmlinuz*' | head -n 1)
[ -n "$packed" ] || fail "$PWD/content: no vmlinuz"
kernel_from() {
    offset=$(LC_ALL=C grep -aboP "$1" "$packed" | head -n 1 | cut -d : -f 1)
    shift
    [ -n "$offset" ] || return 1
    tail -c "+$((offset + 1))" "$packed" | "$@" >vmlinux.new 2>/dev/null || true
    [ "$(head -c 4 vmlinux.new | tail -c 3)" = ELF ]
}
kernel_from '\xFD7zXZ\x00' xz -dc --single-stream || kernel_from '\x28\xB5\x2F\xFD' zstd -dc ||
    fail "$packed: no kernel comes out of it: teach build.sh how it is packed"
mv vmlinux.new vmlinux

from=$(dirname "$(find content -path '*/lib/modules/*' -name kernel -type d | head -n 1)")
version=$(basename "$from")
[ -s "$from/modules.dep" ] || {
    mkdir -p depmod/lib/modules
    ln -sfn "$PWD/$from" "depmod/lib/modules/$version"
    "$busybox" depmod -b "$PWD/depmod" "$version"
    rm -rf depmod
}
rm -rf root
mkdir -p root/bin root/dev root/proc root/sys root/tmp root/lib/guest "root/lib/modules/$version"
cp "$busybox" root/bin/busybox
cp "$here/init" root/init
cp "$here/lio" "$here/nvmet" root/lib/guest
chmod 755 root/init root/lib/guest/*

# With everything that it needs: modules.dep names for each file all files that it needs.
: >wanted
for module in $modules; do
    grep -E "/$module\.ko(\.xz)?:" "$from/modules.dep" >>wanted ||
        grep -qE "/$module\.ko$" "$from/modules.builtin" ||
        case $module in watchdog) grep -E "/watchdog/watchdog\.ko" "$from/modules.dep" >>wanted ;;
            *) fail "no module $module in the kernel $version" ;; esac
done
tr -d : <wanted | tr ' ' '\n' | sed '/^$/d' | sort -u | while read -r file; do
    mkdir -p "root/lib/modules/$version/$(dirname "$file")"
    case $file in
        *.xz) xz -dc "$from/$file" >"root/lib/modules/$version/${file%.xz}" ;;
        *) cp "$from/$file" "root/lib/modules/$version/$file" ;;
    esac
done
cp "$from/modules.builtin" "root/lib/modules/$version/"
"$busybox" depmod -b root "$version"

(cd root && find . | sort | "$busybox" cpio -o -H newc 2>/dev/null) >initrd.new
mv initrd.new initrd
rm -rf root wanted
echo "$stamp" >stamp
