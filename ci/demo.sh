#!/usr/bin/env bash
# A gateway at work, on one machine: a client outside, two pods with nginx inside, Portgate between
# them. Every command that matters is shown before it runs. Ends with status 0 only if every step
# was seen to work.
#
#   ci/demo.sh               the demo; nothing is left behind
#   KEEP=1 ci/demo.sh        leaves everything running
#   ci/demo.sh stop ID       stops what KEEP=1 left running
#
# PORTGATE_BIN=DIR uses the binaries in DIR instead of building them.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
root=$(cd "$(dirname "$0")/.." && pwd)

node_ip=203.0.113.10        # the gateway, seen from outside
node_port=30379
cluster_ip=100.68.181.31
first_pod=100.96.2.2
second_pod=100.96.2.6

bold=''; plain=''
if [ -t 1 ]; then bold=$'\e[1m'; plain=$'\e[0m'; fi

# --- names -------------------------------------------------------------------------------------

# Every name has the id in it, so that demos and tests run beside each other.
name_things() {
    id=$1
    home=/tmp/portgate-demo-$id
    region=/dev/shm/portgate-demo-$id
    client=pg-demo-$id-client gateway=pg-demo-$id-gateway switch=pg-demo-$id-pods
    pod_a=pg-demo-$id-pod-a pod_b=pg-demo-$id-pod-b inside=pg-demo-$id-inside
    namespaces=("$client" "$gateway" "$switch" "$pod_a" "$pod_b" "$inside")
}

# --- talking -----------------------------------------------------------------------------------

say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
fail() { printf '\nFAILED: %s\n' "$*" >&2; exit 1; }

# Shows a command, then runs it.
show() {
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    "$@"
}

# Shows a command, runs it, and wants every one of the given words in what it prints:
# expect WORD... -- COMMAND...
expect() {
    local words=() output word status=0
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    shift
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    output=$("$@" 2>&1) || status=$?
    printf '%s\n' "$output"
    [ "$status" -eq 0 ] || fail "the command ended with status $status"
    for word in "${words[@]}"; do
        [[ $output == *"$word"* ]] || fail "expected '$word' in the output"
    done
}

# Looks four times a second until a command succeeds: eventually SECONDS WHAT COMMAND...
eventually() {
    local tries=$(($1 * 4)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited in vain until $what"
        sleep 0.25
    done
}

# --- cleaning up -------------------------------------------------------------------------------

# Stops the processes of this demo and removes its files and namespaces. A process is only stopped
# if it is still in a namespace of this demo: its number may belong to another one by now.
clean_up() {
    local pid space try
    # One that was started this moment may not have entered its namespace yet.
    for pid in $(jobs -pr); do kill "$pid" 2>/dev/null || true; done
    for space in "${namespaces[@]}"; do
        for try in TERM TERM KILL; do
            for pid in $(ip netns pids "$space" 2>/dev/null); do
                kill -s "$try" "$pid" 2>/dev/null || true
            done
            for _ in $(seq 20); do
                [ -n "$(ip netns pids "$space" 2>/dev/null)" ] || break 2
                sleep 0.1
            done
        done
    done
    for space in "${namespaces[@]}"; do ip netns del "$space" 2>/dev/null || true; done
    rm -rf "$region" "$home"
}

# Runs at the end, however it came.
finish() {
    local status=$?
    trap - EXIT
    # From here on a second Ctrl-C must not interrupt the cleaning.
    trap '' INT TERM
    if [ "$status" -ne 0 ] && [ "$status" -lt 128 ]; then
        tail -n 20 "$home"/*.log 2>/dev/null | sed 's/^/    /' >&2 || true
    fi
    if [ "$status" -eq 0 ] && [ -n "${KEEP:-}" ] && [ "${KEEP:-}" != 0 ]; then
        explain_keep
    else
        clean_up
    fi
    exit "$status"
}

explain_keep() {
    cat <<TEXT

Everything is still running. To look around:
  ip netns exec $client curl http://$node_ip:$node_port/
  ip netns exec $inside curl http://$cluster_ip/
  $bin/portgate services --config $home/portgate.toml
  $bin/portgate flows --config $home/portgate.toml
  edit $home/manifests/mynginx.yaml
  less $home/*.log
To stop it and remove everything:
  $root/ci/demo.sh stop $id
TEXT
}

# --- the network -------------------------------------------------------------------------------

# A veth pair, up, with the offloads off at both ends: wire NAMESPACE DEVICE NAMESPACE DEVICE.
# veth leaves checksums and segmentation to hardware that does not exist; a program that reads raw
# frames would see neither done.
wire() {
    ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
    wire_end "$1" "$2"
    wire_end "$3" "$4"
}

wire_end() {
    ip netns exec "$1" ethtool -K "$2" rx off tx off sg off tso off gso off gro off >/dev/null
    ip -n "$1" link set "$2" up
}

# A pod: its address alone, everything else through the gateway.
make_pod() {
    local space=$1 address=$2 port=$3
    wire "$space" eth0 "$switch" "$port"
    ip -n "$switch" link set "$port" master br0
    ip -n "$space" address add "$address/32" dev eth0
    ip -n "$space" route add 100.96.2.1 dev eth0
    ip -n "$space" route add default via 100.96.2.1
}

make_network() {
    local space
    for space in "${namespaces[@]}"; do
        ip netns add "$space"
        ip -n "$space" link set lo up
        ip netns exec "$space" sh -c '
            echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
            echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
    done
    wire "$client" eth0 "$gateway" outside
    wire "$switch" uplink "$gateway" pods
    ip -n "$switch" link add br0 type bridge mcast_snooping 0
    ip -n "$switch" link set uplink master br0
    ip -n "$switch" link set br0 up

    ip -n "$client" address add 203.0.113.50/24 dev eth0
    ip -n "$client" route add default via "$node_ip"
    make_pod "$pod_a" "$first_pod" pod-a
    make_pod "$pod_b" "$second_pod" pod-b
    make_pod "$inside" 100.96.2.9 inside

    cat <<TEXT
  client               gateway                        pods
  203.0.113.50  ─────  $node_ip    100.96.2.1  ─────  $first_pod  nginx
                       (no kernel addresses: what     $second_pod  nginx
                       answers there is Portgate)     100.96.2.9  curl
TEXT
}

# --- the programs ------------------------------------------------------------------------------

# Starts a program in a namespace, detached from the terminal, its output in a log:
# start NAME NAMESPACE COMMAND...
start() {
    local name=$1 space=$2
    shift 2
    printf '%s$ ip netns exec %s %s &%s\n' "$bold" "$space" "$*" "$plain"
    setsid ip netns exec "$space" "$@" >"$home/$name.log" 2>&1 </dev/null &
}

start_pod() {
    local space=$1 address=$2 name=$3
    mkdir -p "$home/$name"
    cat >"$home/$name/nginx.conf" <<TEXT
daemon off;
user root;
worker_processes 1;
pid $home/$name/nginx.pid;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path $home/$name/body;
    proxy_temp_path $home/$name/proxy;
    fastcgi_temp_path $home/$name/fastcgi;
    uwsgi_temp_path $home/$name/uwsgi;
    scgi_temp_path $home/$name/scgi;
    default_type text/plain;
    server { listen $address:80; location / { return 200 "Hello from pod $address\n"; } }
}
TEXT
    start "$name" "$space" nginx -p "$home/$name" -e stderr -c "$home/$name/nginx.conf"
    eventually 10 "nginx answers on $address" \
        ip netns exec "$space" curl -sf --noproxy '*' --max-time 2 "http://$address/"
}

write_configuration() {
    mkdir -p "$home/manifests" "$region"
    cat >"$home/portgate.toml" <<TEXT
[region]
path = "$region/region"
huge_pages = "auto"
flows = 65536
packet_memory_mb = 64

[gateway]
mode = "edge"
cluster_cidrs = ["100.96.0.0/16"]
service_cidrs = ["100.68.0.0/16"]

[[links]]
name = "outside"
device = "af_packet:outside"
addresses = ["$node_ip/24"]

[[links]]
name = "pods"
device = "af_packet:pods"
addresses = ["100.96.2.1/24"]

[workers]
count = 1
idle_sleep_us = 50

[source]
kind = "manifests"
path = "$home/manifests"

[metrics]
listen = "127.0.0.1:9102"
TEXT
    show cat "$home/portgate.toml"
}

# Whether a log has a line that begins with these words.
logged() { grep -q "^$2" "$home/$1.log"; }

start_gateway() {
    start dataplane "$gateway" "$bin/portgate-dataplane" --config "$home/portgate.toml"
    eventually 30 "the data plane is ready" logged dataplane 'portgate-dataplane ready'
    grep '^portgate-dataplane ready' "$home/dataplane.log"
    start controlplane "$gateway" "$bin/portgate-controlplane" --config "$home/portgate.toml"
    eventually 30 "the control plane has synced" logged controlplane 'portgate-controlplane synced'
    grep '^portgate-controlplane synced' "$home/controlplane.log"
}

# --- the demo ----------------------------------------------------------------------------------

build() {
    if [ -n "${PORTGATE_BIN:-}" ]; then
        bin=$PORTGATE_BIN
        return
    fi
    bin=${CARGO_TARGET_DIR:-$root/target}/release
    show cargo build --release --locked --manifest-path "$root/Cargo.toml" \
        -p portgate-dataplane -p portgate-controlplane -p portgate
}

curl_shown() {
    expect "$1" -- ip netns exec "$2" curl -sS --noproxy '*' --max-time 5 "$3"
}

explain() {
    expect default/mynginx "$first_pod:80" -- "$bin/portgate" explain \
        --config "$home/portgate.toml" --manifests "$home/manifests" \
        --protocol tcp --from "$1" --to "$2"
}

change_endpoint() {
    printf '%s$ sed -i s/%s/%s/ %s%s\n' \
        "$bold" "$first_pod" "$second_pod" "$home/manifests/mynginx.yaml" "$plain"
    sed -i "s/$first_pod/$second_pod/" "$home/manifests/mynginx.yaml"
    diff --color=never "$root/ci/demo/mynginx.yaml" "$home/manifests/mynginx.yaml" || true
    eventually 10 "the gateway shows the new endpoint" serves "$second_pod:80"
}

serves() { "$bin/portgate" services --config "$home/portgate.toml" --json | grep -qF "$1"; }

# Whether there was a flow for each curl, and every frame ended somewhere.
counters_add_up() {
    "$bin/portgate" counters --config "$home/portgate.toml" | awk '
        NF == 0 { section++; next }
        section == 0 && NR > 1 { total[$1] = $2 }
        section == 1 && $1 != "DROPPED" { drops += $2 }
        END {
            waiting = total["parked"] - total["unparked"]
            printf "%d received + %d originated = %d sent + %d dropped + %d waiting\n",
                total["received"], total["originated"], total["sent"], drops, waiting
            sum = total["sent"] + drops + waiting
            exit !(total["flows_created"] >= 4 && total["received"] + total["originated"] == sum)
        }'
}

demo() {
    say "What is needed"
    "$root/ci/install-deps.sh"
    echo "Everything is installed."

    say "Build"
    build

    trap finish EXIT
    mkdir -p "$home"
    say "Network: namespaces for a client, the gateway and the pods"
    make_network

    say "Pods: two nginx, each says which one it is"
    start_pod "$pod_a" "$first_pod" pod-a
    start_pod "$pod_b" "$second_pod" pod-b

    say "The Service mynginx, as kubectl would write it"
    write_configuration
    show cp "$root/ci/demo/mynginx.yaml" "$home/manifests/"
    show cat "$home/manifests/mynginx.yaml"

    say "The two processes of the gateway"
    start_gateway
    expect mynginx "$first_pod:80" -- "$bin/portgate" services --config "$home/portgate.toml"

    say "NodePort, from outside: $node_ip:$node_port"
    curl_shown "Hello from pod $first_pod" "$client" "http://$node_ip:$node_port/"

    say "ClusterIP, from a pod: $cluster_ip:80"
    curl_shown "Hello from pod $first_pod" "$inside" "http://$cluster_ip:80/"

    say "Why: the chain from the NodePort, and from the ClusterIP, to the endpoint"
    explain 203.0.113.50:40000 "$node_ip:$node_port"
    explain 100.96.2.9:40000 "$cluster_ip:80"

    say "The endpoint changes: $first_pod:80 becomes $second_pod:80"
    change_endpoint
    curl_shown "Hello from pod $second_pod" "$client" "http://$node_ip:$node_port/"
    curl_shown "Hello from pod $second_pod" "$inside" "http://$cluster_ip:80/"

    say "Counters"
    expect flows_created outside pods -- "$bin/portgate" counters --config "$home/portgate.toml"
    eventually 5 "the counters add up" counters_add_up
    counters_add_up
    expect outside pods -- "$bin/portgate" links --config "$home/portgate.toml"

    say "Every step worked."
}

if [ "$(id -u)" -ne 0 ]; then
    echo "The demo makes network namespaces and needs root. With cargo in your own home, run:" >&2
    # shellcheck disable=SC2016 # to be expanded by whoever runs it
    echo '  sudo env PATH="$PATH" HOME="$HOME" make demo' >&2
    exit 1
fi
trap 'exit 130' INT
trap 'exit 143' TERM HUP
case ${1:-} in
'')
    name_things "$$"
    while [ -e "$home" ]; do name_things $((id + 1)); done
    demo
    ;;
stop)
    name_things "${2:-}"
    [ -d "$home" ] || fail "no demo with the id '${2:-}' is running (usage: ci/demo.sh stop ID)"
    clean_up
    ;;
*)
    echo "usage: ci/demo.sh [stop ID]" >&2
    exit 2
    ;;
esac
