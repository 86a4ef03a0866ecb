//! Flows and endpoints that come and go: the cases R01–R14 and U01–U04 of the Service semantics, on the
//! packet path. Every test is named after its cases.

mod common;

use common::*;
use engine::shared::Options;
use engine::sweep::sweep;
use hugepages::object::Protocol;
use packet::build::{FrameSpec, Transport};
use packet::tcp::{ACK, RST, SYN};
use packet::tuple::Tuple;

const CLUSTER_IP: &str = "100.64.0.10:8000";
const EXTERNAL: &str = "198.51.100.7:8000";
const BALANCER: &str = "198.51.100.8:8000";
const NODEPORT: &str = "203.0.113.10:32000";
const CLIENT: &str = "203.0.113.50:5000";
const OK: &str = "100.96.2.2:9090";
const OTHER: &str = "100.96.2.6:9090";

fn service(protocol: Protocol, backends: &[&str]) -> Spec {
    let frontends = [CLUSTER_IP, EXTERNAL, BALANCER, NODEPORT];
    Spec {
        protocol,
        ..Spec::new("default/udp", &frontends, backends)
    }
}

fn udp(backends: &[&str]) -> Spec {
    service(Protocol::Udp, backends)
}

/// A datagram of the client to `to`, as the pod sees it; `None` if it does not get there.
fn send(gateway: &mut Gateway, to: &str) -> Option<Tuple> {
    let frame = from_client(FrameSpec::udp(at(CLIENT), at(to)).with_payload(b"hello"));
    let out = gateway.put(0, OUTSIDE, &frame);
    let (_, bytes) = out.iter().find(|(link, _)| *link == PODS)?;
    Some(tuple(bytes))
}

/// Installs the services and lets the flows go that have to.
fn change(gateway: &mut Gateway, specs: &[Spec]) -> u64 {
    gateway.install(specs);
    sweep(&gateway.shared, &gateway.installed)
}

#[test]
fn r01_and_r04_flows_to_a_serving_endpoint_stay() {
    let mut gateway = Gateway::new(&[udp(&[OK, OTHER])]);
    let before: Vec<_> = [CLUSTER_IP, EXTERNAL, BALANCER, NODEPORT]
        .map(|to| send(&mut gateway, to).unwrap())
        .into();
    let keep: Vec<_> = before.iter().map(|seen| seen.to().to_string()).collect();
    let keep: Vec<&str> = keep.iter().map(String::as_str).collect();
    // Another endpoint comes: the set changes, nobody leaves.
    let more: Vec<&str> = [&keep[..], &["100.96.2.7:9090"]].concat();
    assert_eq!(change(&mut gateway, &[udp(&more)]), 0);
    for (to, seen) in [CLUSTER_IP, EXTERNAL, BALANCER, NODEPORT]
        .iter()
        .zip(before)
    {
        assert_eq!(send(&mut gateway, to), Some(seen));
    }
}

#[test]
fn r02_and_r05_flows_to_an_endpoint_that_left_end_on_every_address() {
    let mut gateway = Gateway::new(&[udp(&[OK])]);
    for to in [CLUSTER_IP, EXTERNAL, BALANCER, NODEPORT] {
        assert_eq!(send(&mut gateway, to).unwrap().to(), at(OK));
    }
    assert_eq!(change(&mut gateway, &[udp(&[OTHER])]), 4);
    for to in [CLUSTER_IP, EXTERNAL, BALANCER, NODEPORT] {
        assert_eq!(
            send(&mut gateway, to).unwrap().to(),
            at(OTHER),
            "the next datagram moves on"
        );
    }
}

#[test]
fn r03_another_port_of_the_same_endpoint_is_another_endpoint() {
    let mut gateway = Gateway::new(&[udp(&["100.96.2.2:8080"])]);
    send(&mut gateway, CLUSTER_IP).unwrap();
    assert_eq!(change(&mut gateway, &[udp(&[OK])]), 1);
    assert_eq!(send(&mut gateway, CLUSTER_IP).unwrap().to(), at(OK));
}

#[test]
fn r06_and_r09_flows_of_other_services_stay() {
    let other = Spec {
        protocol: Protocol::Udp,
        ..Spec::new("default/other", &["100.64.0.10:3000"], &[OK])
    };
    let mut gateway = Gateway::new(&[udp(&[OK]), other.clone()]);
    let seen = send(&mut gateway, "100.64.0.10:3000").unwrap();
    assert_eq!(change(&mut gateway, &[udp(&[OTHER]), other]), 0);
    assert_eq!(send(&mut gateway, "100.64.0.10:3000"), Some(seen));
}

#[test]
fn r07_tcp_and_sctp_flows_stay_whatever_becomes_of_the_endpoint() {
    for protocol in [Protocol::Tcp, Protocol::Sctp] {
        let mut gateway = Gateway::new(&[service(protocol, &[OK])]);
        let frame = match protocol {
            Protocol::Sctp => {
                FrameSpec::sctp(at(CLIENT), at(CLUSTER_IP)).with_payload(&[1, 0, 0, 20, 5])
            }
            _ => FrameSpec::syn(at(CLIENT), at(CLUSTER_IP)),
        };
        gateway.pass(OUTSIDE, &from_client(frame));
        assert_eq!(change(&mut gateway, &[service(protocol, &[OTHER])]), 0);
        assert_eq!(change(&mut gateway, &[]), 0);
        assert_eq!(gateway.states().len(), 1);
    }
}

#[test]
fn r08_and_u03_no_flow_is_made_while_there_is_no_endpoint() {
    let mut gateway = Gateway::new(&[udp(&[])]);
    for _ in 0..3 {
        assert_eq!(send(&mut gateway, NODEPORT), None);
    }
    assert!(gateway.states().is_empty(), "no black hole is left behind");
    change(&mut gateway, &[udp(&[OK])]);
    assert_eq!(send(&mut gateway, NODEPORT).unwrap().to(), at(OK));
}

#[test]
fn r10_an_endpoint_that_serves_but_is_not_selected_keeps_its_flows() {
    let mut gateway = Gateway::new(&[udp(&[OK])]);
    let seen = send(&mut gateway, CLUSTER_IP).unwrap();
    // New flows go to OTHER alone; OK still serves (terminating, or left out by a policy).
    let spec = Spec {
        serving: vec![at(OK), at(OTHER)],
        ..udp(&[OTHER])
    };
    assert_eq!(change(&mut gateway, &[spec]), 0);
    assert_eq!(send(&mut gateway, CLUSTER_IP), Some(seen));
    assert_eq!(send(&mut gateway, NODEPORT).unwrap().to(), at(OTHER));
}

#[test]
fn r11_flows_end_when_no_endpoint_is_left() {
    let mut gateway = Gateway::new(&[udp(&[OK])]);
    send(&mut gateway, CLUSTER_IP).unwrap();
    assert_eq!(change(&mut gateway, &[udp(&[])]), 1);
    assert_eq!(send(&mut gateway, CLUSTER_IP), None);
}

#[test]
fn r12_flows_end_when_the_service_is_deleted() {
    let mut gateway = Gateway::new(&[udp(&[OK])]);
    send(&mut gateway, CLUSTER_IP).unwrap();
    assert_eq!(change(&mut gateway, &[]), 1);
    assert!(gateway.states().is_empty());
}

#[test]
fn r13_of_many_flows_one_pass_ends_the_few_that_are_stale() {
    let other = Spec {
        protocol: Protocol::Udp,
        ..Spec::new("default/other", &["100.64.0.11:3000"], &[OTHER])
    };
    let specs = [udp(&[OK]), other.clone()];
    // Nobody answers, so a table for fewer flows would have given the oldest up.
    let mut gateway = Gateway::with(&specs, 1, 1 << 17, Options::default());
    let mut many = |to: &str, ports: std::ops::Range<u16>| {
        for port in ports {
            let from = format!("203.0.113.50:{port}");
            let frame = FrameSpec::udp(at(&from), at(to)).with_payload(b"hello");
            gateway.pass(OUTSIDE, &from_client(frame));
        }
    };
    many("100.64.0.11:3000", 1_024..21_024);
    many(CLUSTER_IP, 30_000..30_007);
    assert_eq!(gateway.states().len(), 20_007);
    assert_eq!(change(&mut gateway, &[udp(&[OTHER]), other.clone()]), 7);
    assert_eq!(
        gateway.states().len(),
        20_000,
        "the others are as they were"
    );
    assert_eq!(change(&mut gateway, &[udp(&[OTHER]), other]), 0);
}

#[test]
fn r14_the_same_state_sent_again_ends_nothing() {
    let mut gateway = Gateway::new(&[udp(&[OK])]);
    let seen = send(&mut gateway, CLUSTER_IP).unwrap();
    assert_eq!(change(&mut gateway, &[udp(&[OK])]), 0);
    assert_eq!(send(&mut gateway, CLUSTER_IP), Some(seen));
}

#[test]
fn u01_and_u02_a_client_with_one_port_follows_the_endpoints() {
    for to in [NODEPORT, CLUSTER_IP] {
        let mut gateway = Gateway::new(&[udp(&[])]);
        assert_eq!(send(&mut gateway, to), None);
        change(&mut gateway, &[udp(&[OK])]);
        assert_eq!(send(&mut gateway, to).unwrap().to(), at(OK));
        change(&mut gateway, &[udp(&[OK, OTHER])]);
        assert_eq!(send(&mut gateway, to).unwrap().to(), at(OK));
        change(&mut gateway, &[udp(&[OTHER])]);
        assert_eq!(send(&mut gateway, to).unwrap().to(), at(OTHER));
        gateway.assert_balanced();
    }
}

#[test]
fn u04_a_segment_outside_the_window_resets_nobody() {
    let mut gateway = Gateway::new(&[service(Protocol::Tcp, &[OK])]);
    let client = |flags| FrameSpec::tcp(at(CLIENT), at(CLUSTER_IP), flags);
    let there = tuple(&gateway.pass(OUTSIDE, &from_client(client(SYN))).1);
    let answer = FrameSpec::tcp(there.to(), there.from(), SYN | ACK);
    gateway.pass(PODS, &from_pod(answer));
    gateway.pass(OUTSIDE, &from_client(client(ACK)));
    let mut stray = client(ACK).with_payload(b"from long ago");
    if let Transport::Tcp { seq, ack, .. } = &mut stray.transport {
        (*seq, *ack) = (3_000_000_000, 2_000_000_000);
    }
    // It reaches the pod, whose own TCP knows what to do with it; nothing is sent to the client, and
    // no RST to anybody.
    let (link, seen) = gateway.pass(OUTSIDE, &from_client(stray));
    assert_eq!((link, tuple(&seen)), (PODS, there));
    assert_eq!(seen[47] & RST, 0);
    let more = client(ACK).with_payload(b"and on it goes");
    assert_eq!(tuple(&gateway.pass(OUTSIDE, &from_client(more)).1), there);
    let back = FrameSpec::tcp(there.to(), there.from(), ACK).with_payload(b"both ways");
    let (link, _) = gateway.pass(PODS, &from_pod(back));
    assert_eq!(link, OUTSIDE);
    gateway.assert_balanced();
}
