#!/usr/bin/env bash
# Installs what the build and the demo need and this machine lacks, and says so; with 'tests', what the tests need, too, and
# with 'vm' what virtual machines and trees of Debian are made with, with 'image' what the container image is. Debian packages come from apt; Rust itself comes
# from rustup and is only checked.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin

# package | how to see that it is there | what it is for
needs='
make            | command -v make                      | the Makefile
gcc             | command -v cc                        | the C shim around DPDK
g++             | command -v c++                       | libFuzzer, which is written in C++
libc6-dev       | test -f /usr/include/stdio.h         | the C shim around DPDK
pkg-config      | command -v pkg-config                | finding DPDK
libdpdk-dev     | pkg-config --exists libdpdk          | DPDK: headers, libraries and drivers
clang           | command -v clang                     | bindings to DPDK (bindgen)
libclang-dev    | compgen -G /usr/lib/llvm-*/lib/libclang.so\* | bindings to DPDK (bindgen)
ca-certificates | test -f /etc/ssl/certs/ca-certificates.crt | crates from crates.io
iproute2        | command -v ip                        | network namespaces and veth pairs
ethtool         | command -v ethtool                   | turning offloads off on veth pairs
iputils-ping    | command -v ping                      | pinging the gateway
curl            | command -v curl                      | the HTTP client
nginx-light     | command -v nginx                     | the pods
nftables        | command -v nft                       | rules of the kernel, beside which the gateway is measured
iptables        | command -v iptables-restore          | the same
dpdk-dev        | command -v dpdk-testpmd              | test program of DPDK, a floor of the measurements
openssl         | command -v openssl                   | certificates of the cluster for tests
bird2           | command -v bird                    | BGP over the gateway
valgrind        | command -v valgrind                  | counting instructions
tshark          | command -v tshark                    | reading capture files that traces are written to
'

# What the demo does without: chromium alone is 120 MB to fetch.
for_tests='
chromium        | command -v chromium                  | the browser in which the status page is tried
bind9-dnsutils  | command -v dig                       | the DNS client
procps          | command -v pkill                     | ending what the commands of the docs have started
'
[ "${1:-}" != tests ] || needs+=$for_tests
for_vms='
qemu-system-x86 | command -v qemu-system-x86_64      | the virtual machine
mmdebstrap      | command -v mmdebstrap              | a Debian of its own, in a folder
e2fsprogs       | command -v mke2fs                  | the disk of the guest
openssh-client  | command -v ssh                     | logging in to the guest
'
[ "${1:-}" != vm ] || needs+=$for_vms
for_images='
mmdebstrap      | command -v mmdebstrap              | a Debian of its own, in a folder
buildah         | command -v buildah                 | the container image
'
[ "${1:-}" != image ] || needs+=$for_images

missing() {
    local package probe reason
    while IFS='|' read -r package probe reason; do
        [ -n "$package" ] || continue
        eval "$probe" >/dev/null 2>&1 || printf '%s|%s\n' "${package// /}" "${reason# }"
    done <<<"$needs"
}

# Debian's nginx starts a server when it is installed; the tests and the demo only want the
# program. An existing policy is the administrator's and is left alone.
without_services() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
    "$@"
    rm -f "$policy"
    trap - EXIT
}

install_packages() {
    local list packages
    list=$(missing)
    [ -n "$list" ] || return 0
    echo "Missing on this machine:"
    while IFS='|' read -r package reason; do
        printf '  %-16s %s\n' "$package" "$reason"
    done <<<"$list"
    mapfile -t packages < <(cut -d'|' -f1 <<<"$list")

    if ! command -v apt-get >/dev/null; then
        echo "This machine has no apt-get: install the packages above by its own means." >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "Installing them needs root: run 'sudo $0', or 'apt-get install ${packages[*]}'." >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    echo "Installing them with apt-get."
    apt-get -qq update
    without_services apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
        install "${packages[@]}" >/dev/null

    list=$(missing)
    if [ -n "$list" ]; then
        echo "Still missing after the installation: $(cut -d'|' -f1 <<<"$list" | xargs)." >&2
        exit 1
    fi
}

check_rust() {
    if ! command -v cargo >/dev/null; then
        echo "There is no cargo: install Rust from https://rustup.rs and run this again." >&2
        exit 1
    fi
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        echo "Installing Rust's $component with rustup."
        rustup -q component add "${component/fmt/rustfmt}"
    done
}

install_packages
check_rust
