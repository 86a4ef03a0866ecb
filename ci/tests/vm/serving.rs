//! What a gateway in a VM is asked for from outside, and what it says of itself.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use ci::topology::{
    CLIENT_V4, CLIENT_V6, CLUSTER, ECHO, ECHO_NODE_PORT, HTTP, HTTP_NODE_PORT, OUTSIDE, Topology,
    url,
};
use ci::vm::Machine;
use ci::{curl, dial, wait};
use serde_json::Value;

/// Bytes sent over TCP at a time.
const BULK: usize = 200_000;

/// How long a change may take to be seen.
pub const SEEN: Duration = Duration::from_secs(20);

/// Puts the topology's manifests on the guest.
pub fn publish(net: &Topology, machine: &Machine<'_>) {
    let entries = fs::read_dir(net.manifests.path()).expect("manifests");
    let files = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_whole = name.ends_with(".json");
        let text = || fs::read_to_string(entry.path()).expect("a manifest");
        is_whole.then(|| (format!("/etc/portgate/manifests/{name}"), text()))
    });
    machine.put(&files.collect::<Vec<_>>());
}

/// NodePort and ClusterIP, both families. The first may take until a change is seen.
pub fn serves_http(net: &Topology, answer: &str) {
    let first = url(OUTSIDE[0], HTTP_NODE_PORT);
    wait::until(&format!("{first} answers {answer:?}"), SEEN, || {
        curl::get(&net.client, &first)
            .ok()
            .filter(|said| said == answer)
    });
    for (addresses, port) in [(OUTSIDE, HTTP_NODE_PORT), (CLUSTER, HTTP)] {
        for address in addresses {
            curl::expect(&net.client, &url(address, port), answer);
        }
    }
    for address in CLUSTER {
        curl::expect(net.pod(0), &url(address, HTTP), answer);
    }
}

pub fn answers_udp(net: &Topology, pod: &str) {
    let targets = [
        (CLIENT_V4[0], OUTSIDE[0], ECHO_NODE_PORT),
        (CLIENT_V6[0], OUTSIDE[1], ECHO_NODE_PORT),
        (CLIENT_V4[0], CLUSTER[0], ECHO),
        (CLIENT_V6[0], CLUSTER[1], ECHO),
    ];
    for (from, to, port) in targets {
        let (from, to) = (SocketAddr::new(from, 0), SocketAddr::new(to, port));
        let socket = dial::udp(&net.client, from, to, Duration::from_secs(2)).expect("a socket");
        let answer =
            dial::ask(&socket, b"hello").unwrap_or_else(|error| panic!("UDP to {to}: {error}"));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.starts_with(pod) && answer.ends_with("hello"),
            "{to}: {answer:?}"
        );
    }
}

pub fn json(machine: &Machine<'_>, command: &str) -> Value {
    let text = machine.run(command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error} in {text}"))
}

pub fn all_links(machine: &Machine<'_>) -> Vec<Value> {
    let shown = json(machine, "portgate links --json");
    let links = shown.as_array().or(shown["links"].as_array());
    links.unwrap_or_else(|| panic!("no links: {shown}")).clone()
}

/// Drivers of the links, and what passed them.
pub fn links(machine: &Machine<'_>) -> (String, [u64; 2]) {
    let links = all_links(machine);
    let drivers: Vec<_> = links
        .iter()
        .map(|link| link["driver"].as_str().unwrap_or("?").to_owned())
        .collect();
    assert!(
        drivers
            .iter()
            .all(|driver| !driver.is_empty() && driver != "?"),
        "{links:?}"
    );
    let counters = json(machine, "portgate counters --json");
    let total = |name: &str| counters["totals"][name].as_u64().expect("a total");
    let frames = ["received", "sent"].map(total);
    assert!(frames.iter().all(|count| *count > 100), "{counters}");
    (drivers.join(", "), frames)
}

/// What the IOMMU caught: frames that a NIC wrote where it must not.
pub fn dmar_faults(machine: &Machine<'_>) -> usize {
    let log = machine.run("dmesg");
    let faults = |line: &&str| line.contains("DMAR") && line.contains("fault");
    log.lines().filter(faults).count()
}

/// The gateway's NICs are others now, with addresses of their own.
pub fn forget_neighbours(net: &Topology) {
    for namespace in [&net.client, net.pod(0), net.pod(1)] {
        namespace.ip("neigh flush all");
    }
}

/// Echoes, over UDP a packet as long as the MTU allows for the answer, over TCP as many as it takes; bytes of the longest
/// packet.
pub fn carries_long_packets(net: &Topology, mtu: u16) -> usize {
    // IPv6 and UDP headers.
    let most = usize::from(mtu) - 40 - 8;
    let targets = [
        (CLIENT_V4[0], OUTSIDE[0], ECHO_NODE_PORT),
        (CLIENT_V6[0], OUTSIDE[1], ECHO_NODE_PORT),
        (CLIENT_V6[0], CLUSTER[1], ECHO),
    ];
    let mut longest = 0;
    for (from, to, port) in targets {
        let (from, to) = (SocketAddr::new(from, 0), SocketAddr::new(to, port));
        let socket = dial::udp(&net.client, from, to, Duration::from_secs(5)).expect("a socket");
        // The answer has a greeting in front.
        let greeting = dial::ask(&socket, b"").expect("an answer to nothing").len();
        let question: Vec<u8> = (0..most - greeting).map(|at| at as u8).collect();
        let answer = dial::ask(&socket, &question);
        let answer = answer
            .unwrap_or_else(|error| panic!("{} bytes of UDP to {to}: {error}", question.len()));
        assert_eq!(answer[greeting..], question, "{to}");
        let headers = if to.is_ipv6() { 48 } else { 28 };
        longest = longest.max(answer.len() + headers);

        let mut stream =
            dial::tcp(&net.client, None, to, Duration::from_secs(10)).expect("a connection");
        let sent: Vec<u8> = (0..BULK).map(|at| (at / 7) as u8).collect();
        let mut writer = stream.try_clone().expect("a second handle");
        let mut answer = vec![0; BULK];
        std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&sent).expect("sent"));
            stream.read_exact(&mut answer).expect("all of it back");
        });
        assert!(answer == sent, "{to}: other bytes came back");
    }
    longest
}
