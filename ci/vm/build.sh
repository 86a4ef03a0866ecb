#!/usr/bin/env bash
# Makes the guest of `make test-vm` and prints the folder that it is in.
#
# A bare Debian 12: kernel, systemd, sshd and what the Portgate package depends on, as downloaded packages that are not
# installed. Everything comes from Debian's archive. It is kept in ${XDG_CACHE_HOME:-~/.cache}/portgate/vm under a
# key of what it is made from, and only ever read: tests write to a copy that QEMU throws away.
#
#   build.sh PACKAGE.deb
#
#   kernel, initrd, disk.img    to start it with
#   key, key.pub                to log in as root
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
cache=${XDG_CACHE_HOME:-$HOME/.cache}/portgate/vm

# Installed in the guest.
readonly INSTALLED=linux-image-amd64,systemd,systemd-sysv,udev,dbus,openssh-server,iproute2,kmod,procps,ca-certificates

# Drivers that a virtual machine has no device for: half of the disk's size.
readonly LEFT_OUT='gpu media infiniband staging isdn usb/serial net/wireless net/can iio hwmon'

main() {
    local depends key folder
    depends=$(dpkg-deb -f "$1" Depends)
    key=$(cat "$0" <(echo "$depends") | sha256sum | cut -c1-16)
    folder=$cache/$key
    mkdir -p "$cache"
    # Two callers must not build the same thing at the same time.
    exec 9>"$cache/.lock"
    flock 9
    if [ ! -f "$folder/disk.img" ]; then
        rm -rf "$cache"/[0-9a-f]*
        build "$folder.new" "$depends" >&2
        mv "$folder.new" "$folder"
    fi
    echo "$folder"
}

build() {
    local new=$1 depends=$2 tree option leave=()
    echo "ci/vm: making the guest from Debian's packages: some minutes, once"
    rm -rf "$new"
    mkdir -p "$new"
    tree=$(mktemp -d -p "$cache")
    # shellcheck disable=SC2064 # the folder as it is named now
    trap "rm -rf '$tree'" EXIT
    ssh-keygen -q -t ed25519 -N '' -C 'portgate test guest' -f "$new/key"
    for option in $LEFT_OUT; do
        leave+=("--dpkgopt=path-exclude=/lib/modules/*/kernel/drivers/$option/*")
    done
    nice mmdebstrap --quiet --variant=minbase --include="$INSTALLED" "${leave[@]}" \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --aptopt='APT::Install-Recommends "false"' --skip=cleanup/apt \
        --essential-hook="'$(realpath "$0")' --initrd \"\$1\"" \
        --customize-hook="'$(realpath "$0")' --guest \"\$1\" '$new/key.pub' '$depends'" \
        bookworm "$tree/root" "${MIRROR:-http://deb.debian.org/debian}"
    cp "$tree"/root/boot/vmlinuz-* "$new/kernel"
    cp "$tree"/root/boot/initrd.img-* "$new/initrd"
    truncate -s 2G "$new/disk.part"
    mke2fs -q -t ext4 -d "$tree/root" -L guest "$new/disk.part"
    mv "$new/disk.part" "$new/disk.img"
}

# Inside mmdebstrap, before the kernel is installed: what its first file system has. Drivers of the disk alone, because an
# emulated CPU unpacks it.
initrd() {
    local root=$1
    install -d "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
    echo MODULES=list >"$root/etc/initramfs-tools/conf.d/guest"
    printf '%s\n' virtio_pci virtio_blk ext4 >"$root/usr/share/initramfs-tools/modules.d/guest"
}

# Inside mmdebstrap: what makes the tree a machine that can be logged in to.
guest() {
    local root=$1 key=$2 depends=$3
    echo gateway >"$root/etc/hostname"
    echo '127.0.0.1 localhost gateway' >"$root/etc/hosts"
    echo '/dev/vda / ext4 defaults,noatime 0 1' >"$root/etc/fstab"
    install -d -m 700 "$root/root/.ssh"
    install -m 600 "$key" "$root/root/.ssh/authorized_keys"
    # The NIC by which it is reached; all others are left alone.
    cat >"$root/etc/systemd/network/10-management.network" <<'TEXT'
[Match]
MACAddress=52:54:00:00:00:01

[Network]
Address=192.0.2.2/24
Gateway=192.0.2.1
LinkLocalAddressing=no
IPv6AcceptRA=no
TEXT
    chroot "$root" systemctl -q enable systemd-networkd ssh
    chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer
    # What the package depends on is fetched, so that the guest can install it without a network.
    local wanted
    wanted=$(sed 's/([^)]*)//g; s/|[^,]*//g; s/,/ /g' <<<"$depends")
    chroot "$root" apt-get clean
    # shellcheck disable=SC2086 # words
    chroot "$root" apt-get -qq -y --no-install-recommends --download-only install $wanted
}

case ${1:-} in
--initrd) initrd "$2" ;;
--guest) guest "$2" "$3" "$4" ;;
*) main "$1" ;;
esac
