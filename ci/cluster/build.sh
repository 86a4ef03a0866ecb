#!/usr/bin/env bash
# Provides the Kubernetes programs that `make test-cluster` runs, and prints the folder they are in.
#
# Each is taken from $KUBEBUILDER_ASSETS if it is there (the convention of envtest), else from the
# cache, else built from its published Go module: versions stand in build/go.mod. A first build takes
# 10 to 30 minutes on two cores; the cache is ${XDG_CACHE_HOME:-~/.cache}/portgate/kubernetes-VERSION.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin
module=$(cd "$(dirname "$0")/build" && pwd)

# program | package
programs='
etcd                    go.etcd.io/etcd/server/v3
kube-apiserver          k8s.io/kubernetes/cmd/kube-apiserver
kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
kube-proxy              k8s.io/kubernetes/cmd/kube-proxy
kubectl                 k8s.io/kubernetes/cmd/kubectl
'

# Exit code when something has to be built and there is no Go to do it.
readonly NO_GO=3

version=$(sed -n 's|^\tk8s.io/kubernetes \(v[^ ]*\).*|\1|p' "$module/go.mod")
folder=${XDG_CACHE_HOME:-$HOME/.cache}/portgate/kubernetes-$version

main() {
    need_commands
    mkdir -p "$folder"
    # Two callers must not build the same thing at the same time.
    exec 9>"$folder/.lock"
    flock 9
    local program package
    while read -r program package; do
        [ -n "$program" ] || continue
        provide "$program" "$package"
    done <<<"$programs"
    echo "$folder"
}

provide() {
    local given=${KUBEBUILDER_ASSETS:+$KUBEBUILDER_ASSETS/$1}
    if [ -n "$given" ] && [ -x "$given" ]; then
        ln -sf "$given" "$folder/$1"
    elif [ ! -x "$folder/$1" ] || [ -L "$folder/$1" ]; then
        build "$1" "$2"
    fi
}

build() {
    need_go
    echo "ci/cluster: building $1 ($version) from $2" >&2
    local stamp=k8s.io/component-base/version minor=${version#v1.}
    # Under another name first: a build that is killed leaves nothing that looks finished.
    rm -f "$folder/$1"
    (
        cd "$module"
        GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 nice -n 19 \
            go build -p "${JOBS:-2}" -trimpath -o "$folder/.$1.new" \
            -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}" \
            "$2"
    ) >&2
    mv "$folder/.$1.new" "$folder/$1"
}

need_commands() {
    local command missing=
    for command in flock sort; do
        command -v "$command" >/dev/null || missing="$missing $command"
    done
    [ -z "$missing" ] && return
    echo "ci/cluster: missing commands:$missing; 'apt-get install util-linux coreutils' has them." >&2
    exit 1
}

need_go() {
    local wanted found
    wanted=$(sed -n 's/^go //p' "$module/go.mod")
    found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || true)
    if [ -n "$found" ] && printf '%s\n%s\n' "$wanted" "${found#go}" | sort -V -C; then
        return
    fi
    cat >&2 <<TEXT

  ======================================================================================
  NO CLUSTER, AND SO NO TEST AGAINST REAL KUBERNETES: Go $wanted or newer is needed to build
  it, and this machine has ${found:-none}. Install Go from https://go.dev/dl/ (Debian 12's own
  golang is too old), with go on the PATH or in /usr/local/go/bin; the Go module proxy must be
  reachable. Or let KUBEBUILDER_ASSETS name a folder with etcd, kube-apiserver,
  kube-controller-manager, kube-proxy and kubectl.
  ======================================================================================

TEXT
    exit "$NO_GO"
}

main
