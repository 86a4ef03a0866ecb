#!/usr/bin/env bash
# One script with verbs, for people and for CI. See the list below, or run it without a verb.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

# Property tests draw from one seed, so that two runs of one commit try the same; 'hunt' takes others.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}

# The version of cargo-deb that the package is known to come out right with.
readonly CARGO_DEB=3.8.0

usage() {
    cat <<TEXT
usage: ci/run.sh VERB

  deps      install what is missing (apt packages; root), check Rust
  format    rustfmt, without changing anything
  clippy    all lints, warnings are errors
  unit      unit, property and integration tests of every crate but ci
  hunt [TIMES]  the property tests and the test of faults from new seeds, which it tells; with 'fuzz SECONDS' what
            finds more the longer it runs
  loom      the models of the lock-free structures
  sanitizers  the crates with unsafe code under AddressSanitizer
  miri      the flow table and the wrapped instructions in Miri (needs a nightly toolchain; minutes)
  fuzz      every decoder of foreign bytes under libFuzzer, as many inputs each time; 'fuzz SECONDS [TARGET...]'
            hunts: other inputs each time, and what earlier hunts have found
  build     the four programs and the lab, in release
  vectors   the conformance vectors against 'portgate explain'
  e2e       end-to-end tests in network namespaces (root), and the vectors
  test-cluster  the gateway in a real Kubernetes cluster, which is built first (root, Go)
  package   the Debian package, in target/debian (cargo-deb)
  test-package  the package in a clean Debian 12: install, start, restart, upgrade, purge (root)
  test-image  the image of the Dockerfile: built without a registry, and serving (root)
  test-chart  the Dockerfile and the Helm chart by hadolint, helm, and a Kubernetes API server (root, Go)
  test-vm   the package in a VM that owns its NICs, by the commands of docs/install.md (root; KVM if there is)
  capsule   the rewrite against the crate capsule, and its echo server (perf/capsule-lab; root)
  soak [MINUTES]  live connections while processes are killed; leaves a record in ci/records (root)
  instructions  instructions a packet against perf/records/instructions.json (valgrind)
  capsule-build  the peer that 'perf capsule' measures, in release
  perf      the table of figures, into perf/records and docs/performance.md (root; some minutes)
  audit     licences, bans and advisories of all dependencies (needs cargo-deny)
  all       everything above but miri, test-cluster, package, test-package, test-image, test-chart, test-vm, hunt, soak, capsule, capsule-build, perf and audit
TEXT
}

deps() { ci/install-deps.sh tests; }

format() { cargo fmt --all --check; }

clippy() { cargo clippy --locked --workspace --all-targets -- -D warnings; }

unit() { cargo test --locked --workspace --exclude ci --no-fail-fast; }

# A run that fails has said its seeds: with them in the environment, 'unit' does the same again.
hunt() {
    local turn
    for ((turn = 1; turn <= ${1:-10}; turn++)); do
        local seeds=(PROPTEST_RNG_SEED=$SRANDOM PORTGATE_FAULT_SEEDS=$SRANDOM)
        printf '\n== hunt %d: %s\n' "$turn" "${seeds[*]}"
        env "${seeds[@]}" ci/run.sh unit || {
            echo "ci/run.sh hunt: failed with ${seeds[*]}" >&2
            return 1
        }
    done
}

# Loom replaces the atomics, so the same crates are built once more, in a folder of their own; only
# the models can run in that build.
loom() {
    local log
    log=$(mktemp)
    RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-3} \
        cargo test --locked --target-dir "$target/loom" -p hugepages -p engine --lib \
        --no-fail-fast -- loom_ | tee "$log"
    if ! grep -q '^test .*loom_.* ok$' "$log"; then
        echo "ci/run.sh loom: no model ran: are they still named loom_*?" >&2
        return 1
    fi
    rm -f "$log"
}

# The runtime comes with stable Rust; the switch is still called unstable, hence RUSTC_BOOTSTRAP. Tests of
# hugepages with processes of their own are left out: they count what is done in a time. DPDK gives its memory back
# to nobody but the kernel: with it, leaks are not looked for.
sanitizers() {
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    under_asan() {
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}" CARGO_INCREMENTAL=0 \
            cargo test --locked --target-dir "$target/asan" --target "$host" --no-fail-fast "$@"
    }
    under_asan -p hugepages -p intrinsics --lib
    ASAN_OPTIONS=detect_leaks=0 under_asan -p dpdk --tests
}

# What no test on stable Rust sees: undefined behaviour, and races by the rules of the language. Instructions that
# Miri does not know are left out by cfg(miri); files and processes are not there for it.
miri() {
    rustup toolchain list | grep -q nightly || {
        echo "ci/run.sh miri: needs a nightly toolchain: rustup toolchain install nightly --component miri" >&2
        return 1
    }
    under_miri() {
        MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}" \
            cargo +nightly miri test --locked --target-dir "$target/miri" --no-fail-fast "$@"
    }
    under_miri -p intrinsics --lib -- --skip vector_form
    # What threads share. The tests that need very many turns would take hours.
    under_miri -p engine --lib -- affinity:: flow:: \
        --skip hash_map --skip with_a_structure --skip two_workers
}

# Compiled by stable rustc with coverage counters (ci/fuzz/rustc says how), next to what the tests have
# compiled. One target on each core at a time. Without arguments a check: so many inputs, from one seed. With a time
# a hunt: from the kept seeds and what earlier hunts here have found.
fuzz() {
    local seconds=${1:-}
    [ "$#" -gt 0 ] && shift
    local targets=("$@")
    [ "${#targets[@]}" -gt 0 ] || targets=(frame pipeline records region manifests settings)
    cargo build --locked -p fuzz --bin kept
    CARGO_INCREMENTAL=0 RUSTC_WORKSPACE_WRAPPER="$root/ci/fuzz/rustc" \
        cargo build --locked -p fuzz --features libfuzzer "${targets[@]/#/--bin=fuzz-}"
    local scratch
    scratch=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo /tmp)" portgate-fuzz.XXXXXX)
    # shellcheck disable=SC2064 # the folder as it is named now
    trap "rm -rf '$scratch'" EXIT
    export PORTGATE_FUZZ_SCRATCH=$scratch target
    printf '%s\n' "${targets[@]}" |
        xargs -P "$(nproc)" -I '{}' "$root/ci/fuzz/run.sh" '{}' $seconds
}

build() {
    cargo build --release --locked -p portgate-dataplane -p portgate-controlplane -p portgate -p perf \
        -p hugepages
}

vectors() { with_binaries cargo test --locked -p ci --test vectors; }

e2e() {
    need_root "end-to-end tests make network namespaces"
    with_binaries cargo test --locked -p ci --no-fail-fast
}

test-cluster() {
    need_root "cluster tests make network namespaces"
    ci/install-deps.sh
    build
    PORTGATE_CLUSTER_BIN=$(ci/cluster/build.sh)
    export PORTGATE_CLUSTER_BIN
    # One after the other: each test has a cluster of its own.
    with_binaries cargo test --locked -p ci --test cluster --test differential -- \
        --ignored --test-threads=1 "$@"
}

# cargo-deb packs what is built; it is installed by cargo where it is missing. Whoever names a package has just made it.
package() {
    if [ -n "${PORTGATE_PACKAGE:-}" ]; then
        echo "$PORTGATE_PACKAGE"
        return
    fi
    cargo deb --version >/dev/null 2>&1 || nice cargo install --locked "cargo-deb@$CARGO_DEB"
    cargo build --release --locked -p portgate-dataplane -p portgate-controlplane -p portgate -p hugepages
    cargo deb --quiet --no-build --fast --package portgate-dataplane --output "$target/debian/"
    package_file
}

package_file() { ls -t "$target"/debian/portgate_*.deb | head -1; }

test-package() {
    need_root "the package is installed in a tree of its own, and network namespaces are made"
    ci/install-deps.sh vm
    package
    PORTGATE_PACKAGE=$(package_file) PORTGATE_DEBIAN=$(ci/package/base.sh)
    export PORTGATE_PACKAGE PORTGATE_DEBIAN
    with_binaries cargo test --locked -p ci --test package -- --ignored --nocapture the_package "$@"
}

test-image() {
    need_root "the image is built in a chroot, and network namespaces are made"
    ci/install-deps.sh image
    package
    PORTGATE_IMAGE=$(ci/package/image.sh "$(package_file)")
    export PORTGATE_IMAGE
    with_binaries cargo test --locked -p ci --test package -- --ignored --nocapture the_image "$@"
}

test-chart() {
    need_root "the API server runs in a network namespace"
    ci/install-deps.sh
    build
    PORTGATE_LINTERS=$(ci/package/linters.sh)
    PORTGATE_CLUSTER_BIN=$(ci/cluster/build.sh)
    export PORTGATE_LINTERS PORTGATE_CLUSTER_BIN
    with_binaries cargo test --locked -p ci --test chart -- --ignored "$@"
}

test-vm() {
    need_root "network namespaces are made for those who talk to the VM"
    ci/install-deps.sh vm
    package
    PORTGATE_PACKAGE=$(package_file)
    PORTGATE_VM=$(ci/vm/build.sh "$PORTGATE_PACKAGE")
    export PORTGATE_PACKAGE PORTGATE_VM
    with_binaries cargo test --locked -p ci --test vm -- --ignored --nocapture "$@"
}

# Kills of each process at least: ten a minute. The record is named after day and commit.
soak() {
    need_root "the soak makes network namespaces"
    build
    SOAK_MINUTES=${1:-${MINUTES:-20}} with_binaries cargo test --locked -p ci --test soak -- \
        --ignored --nocapture long_soak
}

with_binaries() { PORTGATE_BIN=${PORTGATE_BIN:-$target/release} "$@"; }

# No gate on time: that is the machine's. More instructions than recorded are somebody's doing.
instructions() {
    cargo build --release --locked -p perf
    "$target/release/perf" engine --callgrind --check
}

# A workspace of its own: see perf/capsule-lab/Cargo.toml. Not part of 'all': its 150 dependencies, which nothing else
# uses, take two to three minutes of a CPU to build.
capsule() {
    need_root "tests of the echo server make network namespaces"
    (
        cd perf/capsule-lab
        cargo fmt --all --check
        cargo clippy --locked --workspace --all-targets -- -D warnings
        with_binaries cargo test --locked --workspace --no-fail-fast
    )
}

# The peer in 'perf capsule'.
capsule-build() { (cd perf/capsule-lab && cargo build --release --locked); }

perf() {
    need_root "huge pages are reserved and network namespaces made"
    ci/install-deps.sh
    cargo build --release --locked -p perf -p portgate-dataplane -p portgate-controlplane
    capsule-build || echo "ci/run.sh: perf/capsule-lab does not build: that row will be missing" >&2
    "$target/release/perf" figures --into docs/performance.md
}

audit() {
    command -v cargo-deny >/dev/null || {
        echo "ci/run.sh audit: needs cargo-deny: cargo install --locked cargo-deny" >&2
        return 1
    }
    cargo deny --all-features check
}

all() {
    need_root "'all' includes the end-to-end tests, which make network namespaces"
    local verb
    for verb in deps format clippy unit loom sanitizers fuzz build e2e instructions; do
        printf '\n== %s\n' "$verb"
        # A process of its own: 'set -e' does not work inside a function that is tested.
        ci/run.sh "$verb" || { echo "ci/run.sh: '$verb' failed" >&2; return 1; }
    done
    printf '\nAll passed in %d seconds.\n' "$SECONDS"
}

need_root() {
    [ "$(id -u)" -eq 0 ] && return
    echo "ci/run.sh: root is needed: $1. With cargo in your own home, run:" >&2
    # shellcheck disable=SC2016 # to be expanded by whoever runs it
    echo '  sudo env PATH="$PATH" HOME="$HOME" make test' >&2
    exit 1
}

case ${1:-} in
deps | format | clippy | unit | loom | sanitizers | miri | build | vectors | e2e | package | capsule | capsule-build | \
    instructions | perf | audit | all) "$1" ;;
test-cluster | test-package | test-image | test-chart | test-vm | fuzz | hunt | soak) "$@" ;;
'' | -h | --help) usage ;;
*)
    echo "ci/run.sh: no verb '$1'" >&2
    usage >&2
    exit 2
    ;;
esac
