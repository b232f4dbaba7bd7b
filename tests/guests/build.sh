#!/bin/sh
# Builds what the guests boot: Debian's kernel as it is, and an initramfs with busybox, the modules below and init.
#   build.sh [DIR]    DIR defaults to tests/.lab/guests; makes DIR/vmlinux and DIR/initrd
# Packages are downloaded once and unpacked here, nothing of them is installed. Without a change it does nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$here/../.lab/guests}
mkdir -p "$dir"
cd "$dir"

# What a guest may load; whatever these need comes along.
modules="virtio_pci virtio_net virtio_scsi virtio_blk sd_mod sg
    target_core_mod target_core_iblock target_core_file iscsi_target_mod crc32c_generic brd loop ext4
    watchdog i6300esb softdog pretimeout_panic pretimeout_noop
    ipmi_msghandler ipmi_si ipmi_devintf"

fail() {
    echo "guests: $*" >&2
    exit 1
}

# One at a time: two labs may start together.
exec 9>lock
flock 9

# A package, by its newest version in the index, into a directory of its own.
unpack() {
    [ -d "$2" ] && return
    rm -rf fetch && mkdir fetch
    (cd fetch && apt-get download -qq "$1" >log 2>&1) ||
        fail "apt-get download $1: $(tail -n 1 fetch/log); without network or index (apt-get update)" \
            "put its .deb's content into $dir/$2"
    dpkg -x fetch/*.deb fetch/content
    mv fetch/content "$2"
    rm -rf fetch
}

if [ ! -d kernel ]; then
    newest=$(apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-amd64$' | cut -d ' ' -f 1 | sort -V | tail -n 1)
    if [ -z "$newest" ]; then
        apt-get update -qq
        newest=$(apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-amd64$' | cut -d ' ' -f 1 | sort -V | tail -n 1)
    fi
    [ -n "$newest" ] || fail "no package linux-image-6.1.0-*-amd64 in the package index: this is made for Debian 12"
    unpack "$newest" kernel
fi
unpack busybox-static busybox
busybox=$dir/busybox/bin/busybox

stamp=$(cat "$here/build.sh" "$here/init" "$here/lio" | sha256sum)
[ -e vmlinux ] && [ -e initrd ] && [ "$(cat stamp 2>/dev/null)" = "$stamp" ] && exit 0
rm -f stamp

# Unpacked beforehand, since an emulated processor takes seconds for it.
offset=$(LC_ALL=C grep -aboP '\xFD7zXZ\x00' kernel/boot/vmlinuz-* | head -n 1 | cut -d : -f 1)
[ -n "$offset" ] || fail "kernel/boot/vmlinuz-* is not packed with xz: teach build.sh how it is"
# What follows the packed kernel is no mistake.
tail -c "+$((offset + 1))" kernel/boot/vmlinuz-* | xz -dc --single-stream >vmlinux.new 2>/dev/null || true
[ "$(head -c 4 vmlinux.new | tail -c 3)" = ELF ] || fail "kernel/boot/vmlinuz-*: no kernel comes out of it"
mv vmlinux.new vmlinux

version=$(basename kernel/lib/modules/*)
[ -s "kernel/lib/modules/$version/modules.dep" ] || "$busybox" depmod -b kernel "$version"
rm -rf root
mkdir -p root/bin root/dev root/proc root/sys root/tmp root/lib/guest "root/lib/modules/$version"
cp "$busybox" root/bin/busybox
cp "$here/init" root/init
cp "$here/lio" root/lib/guest/lio
chmod 755 root/init root/lib/guest/lio

# With everything that it needs: modules.dep names for each file all files that it needs.
: >wanted
for module in $modules; do
    grep -E "/$module\.ko:" "kernel/lib/modules/$version/modules.dep" >>wanted ||
        grep -qE "/$module\.ko$" "kernel/lib/modules/$version/modules.builtin" ||
        case $module in watchdog) grep -E "/watchdog/watchdog\.ko" "kernel/lib/modules/$version/modules.dep" >>wanted ;;
            *) fail "no module $module in the kernel $version" ;; esac
done
tr -d : <wanted | tr ' ' '\n' | sed '/^$/d' | sort -u | while read -r file; do
    mkdir -p "root/lib/modules/$version/$(dirname "$file")"
    cp "kernel/lib/modules/$version/$file" "root/lib/modules/$version/$file"
done
cp "kernel/lib/modules/$version/modules.builtin" "root/lib/modules/$version/"
"$busybox" depmod -b root "$version"

(cd root && find . | sort | "$busybox" cpio -o -H newc 2>/dev/null) >initrd.new
mv initrd.new initrd
rm -rf root wanted
echo "$stamp" >stamp
