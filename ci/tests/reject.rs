//! Services that nobody serves: the client is told at once. How soon that is depends on the machine, so what is looked at is that the
//! first frame is answered.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ci::capture::Capture;
use ci::topology::{CLIENT_V4, CLIENT_V6, CLUSTER, ECHO, ECHO_NODE_PORT, OUTSIDE, Plan, Topology};
use ci::{dial, frames};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The flag of a reset.
const RST: u8 = 0x04;

fn ways_in() -> [(IpAddr, SocketAddr); 4] {
    [
        (CLIENT_V4[0], SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT)),
        (CLIENT_V6[0], SocketAddr::new(OUTSIDE[1], ECHO_NODE_PORT)),
        (CLIENT_V4[0], SocketAddr::new(CLUSTER[0], ECHO)),
        (CLIENT_V6[0], SocketAddr::new(CLUSTER[1], ECHO)),
    ]
}

#[test]
fn tcp_to_a_service_without_endpoints_is_refused_at_once() {
    let net = Topology::new(Plan::default());
    net.apply(&[]);
    let _gateway = net.start_gateway();
    for (from, to) in ways_in() {
        let start = Instant::now();
        let from = Some(SocketAddr::new(from, 0));
        let error = dial::tcp(&net.client, from, to, PATIENCE).expect_err("nobody serves");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
        println!("{to} was refused after {:?}", start.elapsed());
    }
}

/// A kernel would send its SYN again.
#[test]
fn one_syn_to_a_service_without_endpoints_is_answered_by_a_reset() {
    let net = Topology::new(Plan::default());
    net.apply(&[]);
    let _gateway = net.start_gateway();
    let wire = Capture::on(&net.client, "eth0");
    let macs = (net.gateway.mac("outside"), net.client.mac("eth0"));
    let (IpAddr::V4(from), IpAddr::V4(node), IpAddr::V4(cluster)) =
        (CLIENT_V4[0], OUTSIDE[0], CLUSTER[0])
    else {
        panic!("IPv4 addresses")
    };
    for to in [(node, ECHO_NODE_PORT), (cluster, ECHO)] {
        let syn = frames::syn((from, 5555), to);
        wire.send(&frames::ethernet(macs.0, macs.1, frames::IPV4, &syn));
        let is_answer = |frame: &[u8]| {
            let packet = frame.get(14..).unwrap_or_default();
            frames::kind(frame) == frames::IPV4
                && packet.get(12..16) == Some(&to.0.octets())
                && packet.get(20..24) == Some(&ports(to.1, 5555))
                && packet.get(33).is_some_and(|flags| flags & RST != 0)
        };
        assert!(
            wire.find(PATIENCE, is_answer).is_some(),
            "no reset from {to:?}"
        );
    }
}

fn ports(from: u16, to: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    [a, b, c, d]
}

#[test]
fn udp_to_a_service_without_endpoints_is_answered_with_port_unreachable() {
    let net = Topology::new(Plan::default());
    net.apply(&[]);
    let _gateway = net.start_gateway();
    for (from, to) in ways_in() {
        let start = Instant::now();
        let from = SocketAddr::new(from, 0);
        let socket = dial::udp(&net.client, from, to, PATIENCE).expect("a UDP socket");
        let error = dial::ask(&socket, b"hello").expect_err("nobody serves");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
        println!("{to} was refused after {:?}", start.elapsed());
    }
}

#[test]
fn a_pod_is_refused_at_once_too() {
    let net = Topology::new(Plan::default());
    net.apply(&[]);
    let _gateway = net.start_gateway();
    for to in CLUSTER {
        let start = Instant::now();
        let error = dial::tcp(net.pod(0), None, SocketAddr::new(to, ECHO), PATIENCE)
            .expect_err("nobody serves");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
        println!("{to} was refused after {:?}", start.elapsed());
    }
}
