//! What is counted for services and their endpoints: each frame once, in the slot of its flow.
#![allow(clippy::unwrap_used)] // a helper that fails is a failed test

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;

use common::*;
use engine::counters::ServiceCounter;
use engine::shared::Options;
use engine::{Reason, Shared};
use hugepages::object::Protocol;
use packet::build::FrameSpec;

const TCP: &str = "203.0.113.10:30379";
const TCP6: &str = "[2001:db8:1::10]:30379";
const UDP: &str = "203.0.113.10:30053";
const PODS_OF_TCP: [&str; 2] = ["100.96.2.2:80", "100.96.2.6:80"];
const POD_OF_TCP6: &str = "[fd00:100:96:2::2]:80";
const POD_OF_UDP: &str = "100.96.2.2:53";

const NAMES: [&str; 4] = ["default/web", "default/web6", "default/dns", "default/none"];

const SYN: u8 = 2;
const ACK: u8 = 16;

fn services() -> [Spec; 3] {
    let mut udp = Spec::new(NAMES[2], &[UDP], &[POD_OF_UDP]);
    udp.protocol = Protocol::Udp;
    [
        Spec::new(NAMES[0], &[TCP], &PODS_OF_TCP),
        Spec::new(NAMES[1], &[TCP6], &[POD_OF_TCP6]),
        udp,
    ]
}

/// Frames, bytes, flows and refused ones of each endpoint of each service, over all workers, and under `None` of
/// what the service's own slot has.
fn counted(gateway: &Gateway) -> HashMap<(&'static str, Option<SocketAddr>), [u64; 4]> {
    let slots = &gateway.shared.endpoints;
    let name = |slot| {
        NAMES
            .into_iter()
            .find(|name| slot_of(gateway, name) == slot)
    };
    let endpoints = slots.all().map(|one| {
        let address = SocketAddr::new(one.backend.address, one.backend.port);
        ((name(one.service).unwrap(), Some(address)), one.slot)
    });
    let services = NAMES.map(|name| ((name, None), slot_of(gateway, name)));
    let services = services.into_iter().filter(|(_, slot)| *slot > 0);
    let mut counted = HashMap::new();
    for (name, slot) in services.chain(endpoints) {
        let counts = ServiceCounter::OF_ENDPOINTS.map(|(counter, _)| {
            let workers = gateway.workers.iter();
            workers
                .map(|worker| worker.counters().service(slot, counter))
                .sum()
        });
        if counts != [0; 4] {
            assert_eq!(counted.insert(name, counts), None, "{name:?} has two slots");
        }
    }
    counted
}

/// Slot of a service, 0 if it is not installed.
fn slot_of(gateway: &Gateway, name: &str) -> u32 {
    let frontends = gateway.installed.snapshot().frontends();
    let mut services = frontends.filter_map(|frontend| frontend.service.as_ref());
    services
        .find(|service| service.name == name)
        .map_or(0, |service| service.slot)
}

/// A connection's SYN and `more` segments of it, each of so many bytes; where they went.
fn connect(gateway: &mut Gateway, worker: usize, from: &str, to: &str, more: usize) -> SocketAddr {
    let mut at_pod = None;
    for nth in 0..=more {
        let flags = if nth == 0 { SYN } else { ACK };
        let spec = FrameSpec::tcp(at(from), at(to), flags).with_payload(&vec![0; nth * 100]);
        let sent = gateway.put(worker, OUTSIDE, &from_client(spec));
        at_pod = Some(tuple(&sent[0].1));
    }
    let there = at_pod.unwrap();
    let answer = FrameSpec::tcp(there.to(), there.from(), SYN | ACK);
    gateway.pass(PODS, &from_pod(answer));
    there.to()
}

#[test]
fn frames_and_flows_count_for_the_endpoint_that_serves_them() {
    let mut gateway = Gateway::with(&services(), 2, 4096, Options::default());
    let mut expected: HashMap<(&str, Option<SocketAddr>), [u64; 4]> = HashMap::new();
    for nth in 0..40usize {
        let (from, to, service, head) = match nth % 2 {
            0 => (format!("203.0.113.50:{}", 4000 + nth), TCP, NAMES[0], 54),
            _ => (
                format!("[2001:db8:1::50]:{}", 4000 + nth),
                TCP6,
                NAMES[1],
                74,
            ),
        };
        let pod = connect(&mut gateway, nth % 2, &from, to, nth % 4);
        let more = (nth % 4) as u64;
        let counts = expected.entry((service, Some(pod))).or_default();
        // The SYN, what followed, and the answer.
        counts[0] += more + 2;
        counts[1] += (more + 2) * head + 100 * (more * (more + 1) / 2);
        counts[2] += 1;
    }
    let query = FrameSpec::udp(at("203.0.113.50:999"), at(UDP)).with_payload(&[7; 60]);
    gateway.pass(OUTSIDE, &from_client(query));
    expected.insert((NAMES[2], Some(at(POD_OF_UDP))), [1, 42 + 60, 1, 0]);
    assert_eq!(counted(&gateway), expected);
    assert_eq!(
        expected.len(),
        4,
        "both pods of the first service have some"
    );

    // An endpoint that leaves and comes back counts where it did; its flows do so in between.
    let [web, web6, dns] = services();
    let fewer = Spec::new(NAMES[0], &[TCP], &PODS_OF_TCP[1..]);
    gateway.install(&[fewer, web6.clone(), dns.clone()]);
    let segment = FrameSpec::tcp(at("203.0.113.50:4000"), at(TCP), ACK);
    let (_, sent) = gateway.pass(OUTSIDE, &from_client(segment));
    let counts = expected
        .entry((NAMES[0], Some(tuple(&sent).to())))
        .or_default();
    counts[0] += 1;
    counts[1] += 54;
    assert_eq!(counted(&gateway), expected);
    gateway.install(&[web, web6, dns]);
    let pod = connect(&mut gateway, 0, "203.0.113.51:7", TCP, 0);
    let counts = expected.entry((NAMES[0], Some(pod))).or_default();
    *counts = [counts[0] + 2, counts[1] + 108, counts[2] + 1, 0];
    assert_eq!(counted(&gateway), expected);
    gateway.assert_balanced();
}

#[test]
fn flows_refused_before_an_endpoint_was_chosen_count_for_the_service_and_others_for_the_endpoint() {
    // All ports but two are excluded.
    let options = Options {
        nodeport_range: (1026, 65_535),
        ..Options::default()
    };
    let mut specs = services().to_vec();
    specs.truncate(1);
    specs[0].backends.truncate(1);
    specs.push(Spec::new(NAMES[3], &["203.0.113.10:30999"], &[]));
    let mut gateway = Gateway::with(&specs, 1, 4096, options);
    for nth in 0..2 {
        let from = format!("203.0.113.50:{}", 4000 + nth);
        connect(&mut gateway, 0, &from, TCP, 1);
    }
    for nth in 2..7 {
        let from = format!("203.0.113.50:{}", 4000 + nth);
        let syn = from_client(FrameSpec::syn(at(&from), at(TCP)));
        gateway.put(0, OUTSIDE, &syn);
    }
    assert_eq!(gateway.seen.dropped, [Reason::SnatPortsExhausted]);
    let syn = FrameSpec::syn(at("203.0.113.50:9"), at("203.0.113.10:30999"));
    gateway.put(0, OUTSIDE, &from_client(syn));
    let pod = Some(at(PODS_OF_TCP[0]));
    let counted = counted(&gateway);
    assert_eq!(counted[&(NAMES[0], pod)], [6, 6 * 54 + 200, 2, 5]);
    assert_eq!(counted[&(NAMES[3], None)], [0, 0, 0, 1]);
    assert_eq!(counted.len(), 2);
    // Not one of the four that endpoints have.
    let counters = gateway.workers[0].counters();
    assert_eq!(
        counters.service(slot_of(&gateway, NAMES[0]), ServiceCounter::SnatExhausted),
        5
    );
}

#[test]
fn without_slots_for_endpoints_services_count_all() {
    let shared = Shared::heap(4096, topology(), Options::default());
    assert_eq!(shared.endpoints.services(), 0);
    let mut gateway = Gateway::uncounted(shared, &services()[..1]);
    connect(&mut gateway, 0, "203.0.113.50:4000", TCP, 1);
    let counters = gateway.workers[0].counters();
    assert_eq!(counters.service(1, ServiceCounter::Frames), 3);
    assert_eq!(counters.service(1, ServiceCounter::Flows), 1);
}

#[test]
fn a_flow_keeps_the_second_in_which_it_was_made() {
    let mut gateway = Gateway::new(&services());
    let made = gateway.second;
    connect(&mut gateway, 0, "203.0.113.50:4000", TCP, 1);
    gateway.second += 50;
    let segment = FrameSpec::tcp(at("203.0.113.50:4000"), at(TCP), ACK);
    gateway.pass(OUTSIDE, &from_client(segment));
    connect(&mut gateway, 0, "203.0.113.50:4001", TCP, 0);
    let mut flows: Vec<_> = gateway.shared.v4.flows().collect();
    flows.sort_by_key(|flow| flow.made);
    let times: Vec<_> = flows
        .iter()
        .map(|flow| (flow.made, flow.last_seen))
        .collect();
    assert_eq!(times, [(made, made + 50), (made + 50, made + 50)]);

    // An entry that is used again is of another time.
    for flow in &flows {
        assert!(gateway.shared.v4.remove(flow));
    }
    gateway.second += 7;
    connect(&mut gateway, 0, "203.0.113.50:4000", TCP, 0);
    let again: Vec<_> = gateway.shared.v4.flows().map(|flow| flow.made).collect();
    assert_eq!(again, [made + 57]);
}
