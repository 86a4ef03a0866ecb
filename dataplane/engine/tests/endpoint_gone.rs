//! TCP connections whose endpoint is gone: `portgate.dev/on-endpoint-gone` as the packet path keeps it.

#![allow(clippy::unwrap_used)] // in helpers of the tests, too

mod common;

use std::net::SocketAddr;

use common::*;
use engine::Reason;
use engine::counters::{ServiceCounter, Total};
use engine::departures::{Departures, Marked};
use engine::flow::State;
use engine::shared::Options;
use hugepages::object::{OnEndpointGone, Protocol};
use packet::build::{FrameSpec, Transport};
use packet::parse::parse;
use packet::tcp::{ACK, FIN, PSH, RST, SYN};
use packet::tuple::Tuple;

const NODEPORT: &str = "203.0.113.10:30379";
const NODEPORT6: &str = "[2001:db8:1::10]:30379";
const CLIENT: &str = "203.0.113.50:40000";
const CLIENT6: &str = "[2001:db8:1::50]:40000";
const POD: &str = "100.96.2.2:80";
const OTHER: &str = "100.96.2.6:80";
const POD6: &str = "[fd00:100:96:2::2]:80";

/// What the client has sent and the pod has sent, as sequence numbers that come next.
const CLIENT_NEXT: u32 = 0xffff_fff0;
const POD_NEXT: u32 = 77_000;

fn service(policy: OnEndpointGone, backends: &[&str]) -> Spec {
    let mut spec = Spec::new("default/web", &[NODEPORT], backends);
    spec.on_endpoint_gone = policy;
    spec
}

fn segment(from: SocketAddr, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> FrameSpec {
    let mut spec = FrameSpec::tcp(from, to, flags);
    spec.transport = Transport::Tcp {
        flags,
        seq,
        ack,
        window: 1000,
        options: Vec::new(),
    };
    spec
}

/// A segment as its receiver sees it.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    link: usize,
    from: SocketAddr,
    to: SocketAddr,
    flags: u8,
    seq: u32,
    ack: u32,
}

fn got((link, bytes): &(usize, Vec<u8>)) -> Got {
    let tuple = tuple(bytes);
    let parsed = parse(bytes).unwrap();
    let word = |at: usize| {
        let word = &bytes[parsed.l4() + at..][..4];
        u32::from_be_bytes(word.try_into().unwrap())
    };
    let mac: &[u8] = &bytes[..6];
    let expected = if *link == OUTSIDE {
        CLIENT_MAC
    } else {
        POD_MAC
    };
    assert_eq!(mac, expected, "to the next hop's MAC address");
    Got {
        link: *link,
        from: tuple.from(),
        to: tuple.to(),
        flags: parsed.tcp_flags,
        seq: word(4),
        ack: word(8),
    }
}

/// An established connection in the middle of things; what the pod sees.
fn connect(gateway: &mut Gateway, client: &str, to: &str) -> Tuple {
    let syn = segment(at(client), at(to), SYN, CLIENT_NEXT - 1, 0);
    let seen = tuple(&gateway.pass(OUTSIDE, &from_client(syn)).1);
    let answer = segment(seen.to(), seen.from(), SYN | ACK, POD_NEXT - 1, CLIENT_NEXT);
    gateway.pass(PODS, &from_pod(answer));
    let ack = segment(at(client), at(to), ACK, CLIENT_NEXT, POD_NEXT);
    gateway.pass(OUTSIDE, &from_client(ack));
    seen
}

/// The main core's part of an update, at this millisecond.
fn change(gateway: &mut Gateway, departures: &mut Departures, specs: &[Spec], now: u64) -> Marked {
    let installation = gateway.update(specs);
    departures.note(&installation.departed, now);
    time_passes(gateway, departures, now)
}

fn time_passes(gateway: &Gateway, departures: &mut Departures, now: u64) -> Marked {
    let marked = if departures.is_due(now) {
        departures.mark(&gateway.shared, &gateway.installed, now)
    } else {
        Marked::default()
    };
    departures.give(&gateway.shared, now);
    marked
}

const MARKED: Marked = Marked {
    marked: 1,
    removed: 0,
};

#[test]
fn on_reset_both_sides_of_an_idle_connection_are_asked_and_get_exact_resets() {
    for (client, to, pod) in [(CLIENT, NODEPORT, POD), (CLIENT6, NODEPORT6, POD6)] {
        let mut departures = Departures::default();
        let specs = |backends: &[&str]| {
            let mut spec = Spec::new("default/web", &[to], backends);
            spec.on_endpoint_gone = OnEndpointGone::Reset;
            [spec]
        };
        let mut gateway = Gateway::new(&specs(&[pod]));
        let seen = connect(&mut gateway, client, to);
        assert_eq!(
            change(&mut gateway, &mut departures, &specs(&[]), 0),
            MARKED
        );
        let asked: Vec<Got> = gateway.upkeep(0).iter().map(got).collect();
        assert_eq!(asked.len(), 2);
        let to_client = asked.iter().find(|got| got.link == OUTSIDE).unwrap();
        assert_eq!((to_client.from, to_client.to), (at(to), at(client)));
        let to_pod = asked.iter().find(|got| got.link == PODS).unwrap();
        assert_eq!((to_pod.from, to_pod.to), (seen.from(), seen.to()));
        assert_eq!((to_client.flags, to_pod.flags), (ACK, ACK));

        // The pod's challenge ACK: what it sends next, and what it expects.
        let challenge = segment(seen.to(), seen.from(), ACK, POD_NEXT, CLIENT_NEXT);
        let mut out: Vec<Got> = gateway
            .put(0, PODS, &from_pod(challenge))
            .iter()
            .map(got)
            .collect();
        out.sort_by_key(|got| got.link);
        assert_eq!(
            out,
            [
                Got {
                    link: OUTSIDE,
                    from: at(to),
                    to: at(client),
                    flags: RST,
                    seq: POD_NEXT,
                    ack: 0,
                },
                Got {
                    link: PODS,
                    from: seen.from(),
                    to: seen.to(),
                    flags: RST,
                    seq: CLIENT_NEXT,
                    ack: 0,
                }
            ]
        );
        // The client's challenge ACK was under way: it gets its own exact reset, and the pod no second one.
        let challenge = segment(at(client), at(to), ACK, CLIENT_NEXT, POD_NEXT);
        let out = gateway.put(0, OUTSIDE, &from_client(challenge));
        let out: Vec<Got> = out.iter().map(got).collect();
        assert_eq!(out.len(), 1);
        assert_eq!(
            (out[0].link, out[0].flags, out[0].seq),
            (OUTSIDE, RST, POD_NEXT)
        );
        // Nobody is asked again.
        time_passes(&gateway, &mut departures, 10_000);
        assert!(gateway.upkeep(0).is_empty());
        assert_eq!(gateway.states(), [State::Closed]);
        let counters = gateway.workers[0].counters();
        assert_eq!(counters.total(Total::EndpointResets), 3);
        assert_eq!(counters.service(1, ServiceCounter::EndpointResets), 3);
        gateway.assert_balanced();
    }
}

#[test]
fn a_connection_in_use_is_reset_by_its_next_segment() {
    let mut departures = Departures::default();
    let mut gateway = Gateway::new(&[service(OnEndpointGone::Reset, &[POD])]);
    let seen = connect(&mut gateway, CLIENT, NODEPORT);
    change(
        &mut gateway,
        &mut departures,
        &[service(OnEndpointGone::Reset, &[OTHER])],
        0,
    );
    let mut data = segment(at(CLIENT), at(NODEPORT), ACK | PSH, CLIENT_NEXT, POD_NEXT);
    data.payload = b"GET / HTTP/1.1".to_vec();
    let mut out: Vec<Got> = gateway
        .put(0, OUTSIDE, &from_client(data))
        .iter()
        .map(got)
        .collect();
    out.sort_by_key(|got| got.link);
    // What the client sent does not reach the pod, which hence still expects its first byte.
    assert_eq!((out[0].flags, out[0].seq), (RST, POD_NEXT));
    assert_eq!((out[1].flags, out[1].seq), (RST, CLIENT_NEXT));
    assert_eq!((out[1].from, out[1].to), (seen.from(), seen.to()));
    // A side that resets on its own is not answered.
    let reset = segment(seen.to(), seen.from(), RST, POD_NEXT, 0);
    assert!(gateway.put(0, PODS, &from_pod(reset)).is_empty());
    assert_eq!(gateway.seen.dropped, [Reason::EndpointGone]);
    gateway.assert_balanced();
}

#[test]
fn what_is_lost_is_asked_for_again_and_a_dead_pod_is_not_asked_for_ever() {
    let mut departures = Departures::default();
    let mut gateway = Gateway::new(&[service(OnEndpointGone::Reset, &[POD])]);
    connect(&mut gateway, CLIENT, NODEPORT);
    change(
        &mut gateway,
        &mut departures,
        &[service(OnEndpointGone::Reset, &[])],
        0,
    );
    let asked = |gateway: &mut Gateway| -> Vec<usize> {
        let mut links: Vec<usize> = gateway.upkeep(0).iter().map(|(link, _)| *link).collect();
        links.sort_unstable();
        links
    };
    assert_eq!(asked(&mut gateway), [OUTSIDE, PODS]);
    time_passes(&gateway, &mut departures, 39);
    assert!(asked(&mut gateway).is_empty());
    time_passes(&gateway, &mut departures, 40);
    assert_eq!(asked(&mut gateway), [OUTSIDE, PODS]);
    // Now the client's answer comes through: only the pod, which is dead, is asked again.
    let challenge = segment(at(CLIENT), at(NODEPORT), ACK, CLIENT_NEXT, POD_NEXT);
    let out = gateway.put(0, OUTSIDE, &from_client(challenge));
    assert!(
        out.iter()
            .map(got)
            .any(|got| (got.link, got.seq) == (OUTSIDE, POD_NEXT))
    );
    let mut tries = 0;
    for now in (100..100_000).step_by(100) {
        time_passes(&gateway, &mut departures, now);
        for link in asked(&mut gateway) {
            assert_eq!(link, PODS);
            tries += 1;
        }
    }
    assert_eq!(tries, 3);
    gateway.assert_balanced();
}

#[test]
fn keep_leaves_connections_alone_and_so_does_an_endpoint_that_still_serves() {
    let serving = |policy| {
        let mut spec = service(policy, &[OTHER]);
        spec.serving = vec![at(POD), at(OTHER)];
        spec
    };
    for (policy, after) in [
        (
            OnEndpointGone::Keep,
            service(OnEndpointGone::Keep, &[OTHER]),
        ),
        (OnEndpointGone::Keep, service(OnEndpointGone::Keep, &[])),
        (OnEndpointGone::Reset, serving(OnEndpointGone::Reset)),
        (OnEndpointGone::Drain(0), serving(OnEndpointGone::Drain(0))),
    ] {
        let mut departures = Departures::default();
        let mut gateway = Gateway::new(&[service(policy, &[POD])]);
        let seen = connect(&mut gateway, CLIENT, NODEPORT);
        let marked = change(&mut gateway, &mut departures, &[after], 0);
        assert_eq!(marked, Marked::default());
        let data = segment(at(CLIENT), at(NODEPORT), ACK, CLIENT_NEXT, POD_NEXT);
        assert_eq!(tuple(&gateway.pass(OUTSIDE, &from_client(data)).1), seen);
    }
}

#[test]
fn drain_lets_connections_go_on_for_its_time_and_a_returning_endpoint_keeps_them() {
    let mut departures = Departures::default();
    let policy = OnEndpointGone::Drain(30);
    let with = |backends: &[&str]| [service(policy, backends)];
    let mut gateway = Gateway::new(&with(&[POD]));
    let seen = connect(&mut gateway, CLIENT, NODEPORT);
    assert_eq!(
        change(&mut gateway, &mut departures, &with(&[OTHER]), 1_000),
        Marked::default()
    );
    for now in [1_001, 15_000, 30_999] {
        assert_eq!(
            time_passes(&gateway, &mut departures, now),
            Marked::default()
        );
        let data = segment(at(CLIENT), at(NODEPORT), ACK, CLIENT_NEXT, POD_NEXT);
        assert_eq!(tuple(&gateway.pass(OUTSIDE, &from_client(data)).1), seen);
    }
    // It comes back for a moment: nothing is reset at the end of its time.
    change(&mut gateway, &mut departures, &with(&[OTHER, POD]), 31_000);
    assert_eq!(
        time_passes(&gateway, &mut departures, 31_001),
        Marked::default()
    );
    // It leaves for good.
    change(&mut gateway, &mut departures, &with(&[OTHER]), 40_000);
    assert_eq!(
        time_passes(&gateway, &mut departures, 69_999),
        Marked::default()
    );
    assert_eq!(time_passes(&gateway, &mut departures, 70_000), MARKED);
    assert_eq!(gateway.upkeep(0).len(), 2);
}

#[test]
fn a_deleted_service_resets_by_its_last_annotation() {
    let mut departures = Departures::default();
    let mut gateway = Gateway::new(&[service(OnEndpointGone::Reset, &[POD])]);
    connect(&mut gateway, CLIENT, NODEPORT);
    assert_eq!(change(&mut gateway, &mut departures, &[], 0), MARKED);
}

#[test]
fn flows_to_other_endpoints_of_other_services_and_of_other_protocols_stay() {
    let mut udp = Spec::new("default/dns", &["203.0.113.10:30053"], &["100.96.2.2:53"]);
    udp.protocol = Protocol::Udp;
    udp.on_endpoint_gone = OnEndpointGone::Reset;
    let other = Spec::new("default/other", &["203.0.113.10:30001"], &[POD]);
    let mut departures = Departures::default();
    let with = |backends: &[&str]| {
        [
            service(OnEndpointGone::Reset, backends),
            udp.clone(),
            other.clone(),
        ]
    };
    let mut gateway = Gateway::new(&with(&[POD, OTHER]));
    let clients: Vec<String> = (1..=40)
        .map(|port| format!("203.0.113.50:{port}"))
        .collect();
    let seen: Vec<Tuple> = clients
        .iter()
        .map(|client| connect(&mut gateway, client, NODEPORT))
        .collect();
    let elsewhere = connect(&mut gateway, "203.0.113.51:9", "203.0.113.10:30001");
    let datagram = from_client(FrameSpec::udp(at(CLIENT), at("203.0.113.10:30053")));
    gateway.pass(OUTSIDE, &datagram);
    let to_pod = seen.iter().filter(|seen| seen.to() == at(POD)).count();
    assert!(to_pod > 0 && to_pod < clients.len());
    let marked = change(&mut gateway, &mut departures, &with(&[OTHER]), 0);
    assert_eq!(marked.marked as usize, to_pod);
    let mut asked = 0;
    for _ in 0..4 {
        asked += gateway.upkeep(0).len();
    }
    assert_eq!(asked, 2 * to_pod, "a few at a time, all in the end");
    for (client, seen) in clients
        .iter()
        .zip(&seen)
        .filter(|(_, seen)| seen.to() == at(OTHER))
    {
        let data = segment(at(client), at(NODEPORT), ACK, CLIENT_NEXT, POD_NEXT);
        assert_eq!(tuple(&gateway.pass(OUTSIDE, &from_client(data)).1), *seen);
    }
    let data = segment(
        at("203.0.113.51:9"),
        at("203.0.113.10:30001"),
        ACK,
        CLIENT_NEXT,
        POD_NEXT,
    );
    assert_eq!(
        tuple(&gateway.pass(OUTSIDE, &from_client(data)).1),
        elsewhere
    );
    assert_eq!(gateway.pass(OUTSIDE, &datagram).0, PODS);
    gateway.assert_balanced();
}

#[test]
fn a_syn_on_a_connection_that_is_being_reset_starts_afresh_elsewhere() {
    let mut departures = Departures::default();
    let with = |backends: &[&str]| [service(OnEndpointGone::Reset, backends)];
    let mut gateway = Gateway::new(&with(&[POD]));
    connect(&mut gateway, CLIENT, NODEPORT);
    change(&mut gateway, &mut departures, &with(&[OTHER]), 0);
    let seen = connect(&mut gateway, CLIENT, NODEPORT);
    assert_eq!(seen.to(), at(OTHER));
    // The order for the flow that was there before concerns nobody.
    assert!(gateway.upkeep(0).is_empty());
    assert_eq!(gateway.states(), [State::Established]);
}

#[test]
fn a_connection_that_is_not_complete_is_forgotten_so_that_the_next_syn_gets_another_endpoint() {
    let mut departures = Departures::default();
    let with = |backends: &[&str]| [service(OnEndpointGone::Reset, backends)];
    let mut gateway = Gateway::new(&with(&[POD]));
    let syn = || from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT)));
    assert_eq!(tuple(&gateway.pass(OUTSIDE, &syn()).1).to(), at(POD));
    let marked = change(&mut gateway, &mut departures, &with(&[OTHER]), 0);
    assert_eq!(
        marked,
        Marked {
            marked: 0,
            removed: 1
        }
    );
    assert_eq!(tuple(&gateway.pass(OUTSIDE, &syn()).1).to(), at(OTHER));
}

#[test]
fn a_restart_keeps_the_marks_and_finds_what_left_meanwhile() {
    let mut departures = Departures::default();
    let with = |backends: &[&str]| [service(OnEndpointGone::Reset, backends)];
    let mut gateway = Gateway::new(&with(&[POD]));
    connect(&mut gateway, CLIENT, NODEPORT);
    let marked = change(&mut gateway, &mut departures, &with(&[OTHER]), 0);
    assert_eq!(marked, MARKED);
    // Killed before a worker did anything; the next one knows of no departure.
    gateway.shared.v4.recover();
    let data = segment(at(CLIENT), at(NODEPORT), ACK, CLIENT_NEXT, POD_NEXT);
    let out = gateway.put(0, OUTSIDE, &from_client(data));
    assert!(
        out.iter()
            .map(got)
            .any(|got| (got.link, got.flags) == (OUTSIDE, RST))
    );

    let mut gateway = Gateway::new(&with(&[POD]));
    connect(&mut gateway, CLIENT, NODEPORT);
    gateway.update(&with(&[OTHER]));
    let mut departures = Departures::default();
    departures.note(&gateway.installed.may_have_departed(), 0);
    assert_eq!(time_passes(&gateway, &mut departures, 0), MARKED);
}

#[test]
fn what_left_before_the_start_does_not_shorten_the_time_of_what_leaves_later() {
    let mut departures = Departures::default();
    let with = |backends: &[&str]| [service(OnEndpointGone::Drain(10), backends)];
    let mut gateway = Gateway::new(&with(&[POD]));
    departures.note(&gateway.installed.may_have_departed(), 0);
    connect(&mut gateway, CLIENT, NODEPORT);
    change(&mut gateway, &mut departures, &with(&[OTHER]), 5_000);
    assert_eq!(
        time_passes(&gateway, &mut departures, 10_000),
        Marked::default()
    );
    assert_eq!(
        time_passes(&gateway, &mut departures, 14_999),
        Marked::default()
    );
    assert_eq!(time_passes(&gateway, &mut departures, 15_000), MARKED);
}

#[test]
fn many_flows_go_through_the_queue_in_turns() {
    let mut departures = Departures::default();
    let with = |backends: &[&str]| [service(OnEndpointGone::Reset, backends)];
    let mut gateway = Gateway::with(&with(&[POD]), 2, 16_384, Options::default());
    for nth in 0..4_500u32 {
        let client = format!("203.0.113.{}:{}", 50 + nth / 5_000, 1 + nth % 5_000);
        connect(&mut gateway, &client, NODEPORT);
    }
    let marked = change(&mut gateway, &mut departures, &with(&[OTHER]), 0);
    assert_eq!(marked.marked, 4_500);
    let mut asked = 0;
    for turn in 0..200 {
        asked += gateway.upkeep(turn % 2).len();
        departures.give(&gateway.shared, 0);
    }
    assert_eq!(asked, 9_000);
    gateway.assert_balanced();
}

/// Case U04 of the Service semantics.
#[test]
fn u04_a_segment_outside_the_window_goes_on_and_causes_no_reset() {
    for policy in [OnEndpointGone::Keep, OnEndpointGone::Reset] {
        let mut gateway = Gateway::new(&[service(policy, &[POD])]);
        let seen = connect(&mut gateway, CLIENT, NODEPORT);
        for (flags, seq, ack) in [
            (ACK, CLIENT_NEXT.wrapping_add(1 << 30), POD_NEXT),
            (ACK | PSH, CLIENT_NEXT.wrapping_sub(1 << 30), POD_NEXT),
            (ACK, CLIENT_NEXT, POD_NEXT.wrapping_add(1 << 30)),
            (FIN | ACK, CLIENT_NEXT.wrapping_add(1 << 29), POD_NEXT),
        ] {
            let mut odd = segment(at(CLIENT), at(NODEPORT), flags, seq, ack);
            odd.payload = b"x".to_vec();
            let out = gateway.pass(OUTSIDE, &from_client(odd));
            let out = got(&out);
            assert_eq!(
                (out.link, out.flags, out.seq, out.ack),
                (PODS, flags, seq, ack)
            );
            let odd = segment(seen.to(), seen.from(), ACK, seq, ack);
            let out = got(&gateway.pass(PODS, &from_pod(odd)));
            assert_eq!(
                (out.link, out.flags, out.seq, out.ack),
                (OUTSIDE, ACK, seq, ack)
            );
        }
        let good = segment(at(CLIENT), at(NODEPORT), ACK, CLIENT_NEXT, POD_NEXT);
        assert_eq!(tuple(&gateway.pass(OUTSIDE, &from_client(good)).1), seen);
        assert_eq!(
            gateway.workers[0].counters().total(Total::EndpointResets),
            0
        );
        gateway.assert_balanced();
    }
}
