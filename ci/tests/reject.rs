//! Services that nobody serves: the client is told at once.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ci::dial;
use ci::topology::{CLIENT_V4, CLIENT_V6, CLUSTER, ECHO, ECHO_NODE_PORT, OUTSIDE, Plan, Topology};

const PATIENCE: Duration = Duration::from_secs(3);

/// Less than the second after which a lost SYN is sent again.
const AT_ONCE: Duration = Duration::from_millis(900);

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
        assert!(
            start.elapsed() < AT_ONCE,
            "{to} was refused after {:?}",
            start.elapsed()
        );
    }
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
        assert!(
            start.elapsed() < AT_ONCE,
            "{to} was refused after {:?}",
            start.elapsed()
        );
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
        assert!(
            start.elapsed() < AT_ONCE,
            "{to} was refused after {:?}",
            start.elapsed()
        );
    }
}
