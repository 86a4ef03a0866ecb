#!/usr/bin/env bash
# Builds the image of ci/package/Dockerfile without a container daemon and without a registry, and prints the folder that a
# container of it has as its root. The base image is a Debian 12 made here from Debian's packages (base.sh), under the
# name that the Dockerfile gives.
#
#   image.sh PACKAGE.deb
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
store=${XDG_CACHE_HOME:-$HOME/.cache}/portgate/images

# Layers are plain folders, and what RUN asks for runs in a chroot: neither needs anything of the kernel.
build() { buildah --root "$store/layers" --runroot "$store/run" --storage-driver vfs "$@"; }

main() {
    local package=$1 base container context
    base=$("$here/base.sh")
    mkdir -p "$store"
    exec 9>"$store/.lock"
    flock 9
    # Whoever was stopped here has left containers behind.
    build rm --all >/dev/null
    import "$base"
    # Nothing but the package, however many others lie beside it.
    context=$(mktemp -d -p "$store")
    # shellcheck disable=SC2064 # the folder as it is named now
    trap "rm -rf '$context'" EXIT
    cp "$package" "$context/"
    build build --isolation chroot --pull-never --quiet --file "$here/Dockerfile" --tag portgate:test "$context" >&2
    build rmi --prune >/dev/null
    container=$(build from --pull-never portgate:test)
    build mount "$container"
}

# The Dockerfile's base, unless it is there.
import() {
    local name container
    name=docker.io/library/$(sed -n 's/^FROM //p' "$here/Dockerfile")
    ! build inspect --type image "$name" >/dev/null 2>&1 || return 0
    container=$(build from scratch)
    build add --quiet "$container" "$1" / >/dev/null
    build commit --quiet --format docker "$container" "$name" >/dev/null
    build rm "$container" >/dev/null
}

main "$1"
