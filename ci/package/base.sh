#!/usr/bin/env bash
# Makes a clean Debian 12 as an archive of files, for `make test-package`, and prints its path. Kept in
# ${XDG_CACHE_HOME:-~/.cache}/portgate; apt updates it when it is used.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
cache=${XDG_CACHE_HOME:-$HOME/.cache}/portgate
base=$cache/debian-12.tar

mkdir -p "$cache"
exec 9>"$cache/.debian.lock"
flock 9
if [ ! -f "$base" ]; then
    nice mmdebstrap --quiet --format=tar --variant=minbase bookworm "$base.new" "${MIRROR:-http://deb.debian.org/debian}" >&2
    mv "$base.new" "$base"
fi
echo "$base"
