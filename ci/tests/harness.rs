//! The harness itself, without a gateway: what these tests show is not the gateway's merit, and
//! when an end-to-end test fails they tell whether the ground is firm.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ci::capture::Capture;
use ci::crowd::Crowd;
use ci::netns::{Namespace, Offloads, connect};
use ci::topology::{HTTP, INSIDE, OUTSIDE, Plan, Topology, url};
use ci::{bulk, curl, dial, echo, frames, nginx};

const NEAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3)),
];
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const PATIENCE: Duration = Duration::from_secs(5);

/// Two namespaces joined by a wire, with an IPv4 address each (the near one has two).
fn pair() -> (Namespace, Namespace) {
    let (near, far) = (Namespace::new("near"), Namespace::new("far"));
    connect((&near, "eth0"), (&far, "eth0"), Offloads::Off);
    NEAR.iter()
        .for_each(|address| near.add_address("eth0", *address, 24));
    far.add_address("eth0", FAR, 24);
    (near, far)
}

#[test]
fn curl_reaches_nginx_over_a_wire() {
    let (near, far) = pair();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = nginx::start(&far, "far", directory.path());
    curl::expect(&near, &format!("http://{FAR}/"), "far\n");
    drop(server);
    let refused = curl::get(&near, &format!("http://{FAR}/")).expect_err("nginx was stopped");
    assert!(refused.starts_with("7 "), "curl said {refused}");
}

#[test]
fn ten_thousand_connections_are_held_at_once() {
    let (near, far) = pair();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = echo::tcp_process(&far, 7, directory.path());
    let mut crowd = Crowd::open(&near, &NEAR, SocketAddr::new(FAR, 7), 10_000).expect("all open");
    assert_eq!(crowd.len(), 10_000);
    crowd.exchange(1).expect("every line comes back");
    // A server that goes away is noticed on every connection.
    server.kill9();
    let lost = crowd.exchange(2).expect_err("nobody answers");
    assert!(
        lost.starts_with("10000 of 10000 connections failed"),
        "{lost}"
    );
}

#[test]
fn datagrams_come_back_with_the_servers_name_and_the_senders_address() {
    let (near, far) = pair();
    let _server = echo::udp(&far, 7, "far");
    let from = SocketAddr::new(NEAR[1], 4000);
    let socket = dial::udp(&near, from, SocketAddr::new(FAR, 7), PATIENCE).expect("a socket");
    assert_eq!(
        dial::ask(&socket, b"hello").expect("an answer"),
        b"far 10.9.0.3 hello"
    );
}

#[test]
fn a_connection_keeps_the_source_that_was_asked_for() {
    let (near, far) = pair();
    let _server = echo::tcp(&far, 7);
    let from = SocketAddr::new(NEAR[1], 4001);
    let mut stream =
        dial::tcp(&near, Some(from), SocketAddr::new(FAR, 7), PATIENCE).expect("a connection");
    assert_eq!(stream.local_addr().expect("an address"), from);
    stream.write_all(b"ping").expect("sent");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("received");
    assert_eq!(&answer, b"ping");
}

#[test]
fn a_connection_to_nobody_fails_when_the_time_is_over() {
    let (near, _far) = pair();
    let start = Instant::now();
    let nobody = "10.9.0.99:7".parse().expect("an address");
    let timeout = Duration::from_millis(300);
    let error = dial::tcp(&near, None, nobody, timeout).expect_err("nobody is there");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn transfers_are_compared_in_both_directions() {
    let (near, far) = pair();
    let _server = bulk::serve(&far, 9);
    let to = SocketAddr::new(FAR, 9);
    bulk::download(&near, to, 50_000_001).expect("intact");
    bulk::upload(&near, to, 50_000_001).expect("intact");
}

#[test]
fn raw_frames_arrive_as_they_were_sent() {
    let (near, far) = pair();
    let (sender, receiver) = (Capture::on(&near, "eth0"), Capture::on(&far, "eth0"));
    let (kind, packet) = frames::udp((NEAR[0], 1), (FAR, 9999), b"needle in a haystack");
    let frame = frames::ethernet(far.mac("eth0"), near.mac("eth0"), kind, &packet);
    sender.send(&frame);
    let seen = receiver.find(PATIENCE, |frame| frames::contains(frame, b"needle"));
    assert_eq!(seen.as_deref(), Some(&frame[..]));
    // Nobody listens there, so the far kernel answers with port unreachable: our checksums are right.
    let answer = sender.find(PATIENCE, |frame| frames::contains(frame, b"needle"));
    assert!(
        answer.is_some(),
        "the far kernel did not take the frame for a valid one"
    );
}

#[test]
fn the_topology_carries_both_families_when_a_kernel_forwards() {
    let net = Topology::new(Plan::default());
    for family in [
        "net.ipv6.conf.all.disable_ipv6",
        "net.ipv6.conf.default.disable_ipv6",
    ] {
        net.gateway.sysctl(family, "0");
    }
    for (device, [address, address6]) in [("outside", OUTSIDE), ("pods", INSIDE)] {
        net.gateway
            .sysctl(&format!("net.ipv6.conf.{device}.disable_ipv6"), "0");
        net.gateway.add_address(device, address, 24);
        net.gateway.add_address(device, address6, 64);
    }
    net.gateway.sysctl("net.ipv4.ip_forward", "1");
    net.gateway.sysctl("net.ipv6.conf.all.forwarding", "1");
    let _servers = [0, 1].map(|index| net.start_nginx(index));

    for (index, name) in ["pod-0\n", "pod-1\n"].into_iter().enumerate() {
        for address in net.pod_addresses(index) {
            curl::expect(&net.client, &url(address, HTTP), name);
            curl::expect(net.pod(1 - index), &url(address, HTTP), name);
        }
    }
}

#[test]
fn a_dropped_namespace_is_gone() {
    let name = {
        let (near, _far) = pair();
        assert!(
            std::path::Path::new("/run/netns")
                .join(near.name())
                .exists()
        );
        near.name().to_owned()
    };
    assert!(!std::path::Path::new("/run/netns").join(name).exists());
}
