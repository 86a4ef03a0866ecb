//! Floods: what they may take, and what nobody else loses by them. Every flood is ten times as many flows as the
//! table is made for, from random sources, through a real pipeline.

#![allow(clippy::unwrap_used)] // in helpers of the tests, too

mod common;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use common::*;
use engine::Reason;
use engine::counters::{ServiceCounter, Total};
use engine::family::{Family, V4};
use engine::flow::{FlowTable, State};
use engine::limits::Limits;
use engine::shared::Options;
use hugepages::object::Protocol;
use packet::build::FrameSpec;
use packet::tcp::{ACK, RST, SYN};
use packet::tuple::Tuple;

const FLOWS: usize = 4096;
const FLOOD: usize = 10 * FLOWS;
const HALF_OPEN: usize = FLOWS / 2;
const HALF_OPEN_PER_SERVICE: usize = FLOWS / 4;

const FLOODED: &str = "203.0.113.10:30001";
const OTHER: &str = "203.0.113.10:30002";
const DATAGRAMS: &str = "203.0.113.10:30003";
const PODS_OF_ALL: [&str; 2] = ["100.96.2.2", "100.96.2.6"];

fn service(name: &'static str, frontend: &str, protocol: Protocol) -> Spec {
    let backends = PODS_OF_ALL.map(|pod| format!("{pod}:80"));
    Spec {
        protocol,
        ..Spec::new(name, &[frontend], &[&backends[0], &backends[1]])
    }
}

fn services() -> [Spec; 3] {
    [
        service("default/flooded", FLOODED, Protocol::Tcp),
        service("default/other", OTHER, Protocol::Tcp),
        service("default/datagrams", DATAGRAMS, Protocol::Udp),
    ]
}

fn gateway(options: Options) -> Gateway {
    Gateway::with(&services(), 1, FLOWS, options)
}

fn limited(limits: Limits) -> Options {
    Options {
        limits,
        ..Options::default()
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A client anywhere on the Internet.
    fn client(&mut self) -> SocketAddr {
        let bits = self.next();
        let address = IpAddr::from([
            11 + (bits % 89) as u8, // neither reserved nor a network that the gateway knows
            (bits >> 8) as u8,
            (bits >> 16) as u8,
            (bits >> 24) as u8,
        ]);
        SocketAddr::new(address, 1 + (bits >> 32) as u16 % 65_000)
    }
}

/// What a client's frame became at the pod.
fn at_pod(gateway: &mut Gateway, spec: FrameSpec) -> Option<Tuple> {
    let out = gateway.put(0, OUTSIDE, &from_client(spec));
    let (_, bytes) = out.iter().find(|(link, _)| *link == PODS)?;
    Some(tuple(bytes))
}

/// A client's connection: SYN, the pod's answer, ACK. Returns what the pod sees.
fn connect(gateway: &mut Gateway, client: SocketAddr, service: &str) -> Option<Tuple> {
    let seen = at_pod(gateway, FrameSpec::syn(client, at(service)))?;
    let answer = FrameSpec::tcp(seen.to(), seen.from(), SYN | ACK);
    assert_eq!(gateway.put(0, PODS, &from_pod(answer)).len(), 1);
    let ack = FrameSpec::tcp(client, at(service), ACK);
    assert_eq!(at_pod(gateway, ack), Some(seen));
    Some(seen)
}

/// Connections of clients in the network outside.
fn established(gateway: &mut Gateway, service: &str, count: u16) -> Vec<(SocketAddr, Tuple)> {
    (0..count)
        .map(|port| {
            let client = at(&format!("203.0.113.50:{}", 10_000 + port));
            (client, connect(gateway, client, service).unwrap())
        })
        .collect()
}

/// Every connection carries a segment each way, translated as before.
fn assert_alive(gateway: &mut Gateway, service: &str, connections: &[(SocketAddr, Tuple)]) {
    for (client, seen) in connections {
        let segment = FrameSpec::tcp(*client, at(service), ACK).with_payload(b"ping");
        assert_eq!(at_pod(gateway, segment), Some(*seen));
        let back = FrameSpec::tcp(seen.to(), seen.from(), ACK).with_payload(b"pong");
        let (link, bytes) = gateway.pass(PODS, &from_pod(back));
        assert_eq!(link, OUTSIDE);
        assert_eq!(
            (tuple(&bytes).from(), tuple(&bytes).to()),
            (at(service), *client)
        );
    }
}

fn half_open(gateway: &Gateway, service: &str) -> usize {
    let to = at(service);
    let flows = gateway.shared.v4.flows();
    flows
        .filter(|flow| V4::tuple(&flow.forward).to() == to && flow.state == State::HalfOpen)
        .count()
}

fn assert_invariants(gateway: &Gateway) {
    gateway.assert_balanced();
    let table: &FlowTable<V4> = &gateway.shared.v4;
    let mut replies = HashSet::new();
    let mut flows = 0;
    for flow in table.flows() {
        flows += 1;
        assert!(
            replies.insert(V4::reverse(&flow.translated)),
            "two flows share a reply tuple"
        );
    }
    let counters = gateway.workers[0].counters();
    let open = counters.total(Total::FlowsCreated) - counters.total(Total::FlowsRemoved);
    assert_eq!(
        open, flows,
        "flows created and removed account for those that are there"
    );
    let slots = 0..counters.service_slots() as u32;
    let of_services: u64 = slots
        .map(|slot| counters.service(slot, ServiceCounter::HalfOpenEvicted))
        .sum();
    assert_eq!(of_services, counters.total(Total::HalfOpenEvicted));
    for reason in Reason::ALL {
        assert!(
            counters.drops(*reason) < 1 << 32,
            "{} wrapped",
            reason.name()
        );
    }
}

/// A flood of SYNs at one service while clients of it and of another come and go.
fn syn_flood(pods_answer: bool) {
    let mut gateway = gateway(Options::default());
    let mut random = Random(0x5eed_0001);
    let old = established(&mut gateway, FLOODED, 300);
    let others = established(&mut gateway, OTHER, 300);
    // A client that needs until a quarter of the table's worth of SYNs later for its ACK.
    let slow = at("203.0.113.51:77");
    let slow_seen = at_pod(&mut gateway, FrameSpec::syn(slow, at(OTHER))).unwrap();
    let mut admitted = 0;
    for nth in 0..FLOOD {
        let from = random.client();
        let seen = at_pod(&mut gateway, FrameSpec::syn(from, at(FLOODED)));
        if let (true, Some(seen)) = (pods_answer, seen) {
            let answer = FrameSpec::tcp(seen.to(), seen.from(), SYN | ACK);
            gateway.put(0, PODS, &from_pod(answer));
        }
        if nth.is_multiple_of(64) {
            let client = at(&format!("203.0.113.51:{}", 1000 + nth / 64));
            assert!(
                connect(&mut gateway, client, OTHER).is_some(),
                "{:?}",
                gateway.seen.dropped
            );
            // New clients of the flooded service get in, too.
            assert!(connect(&mut gateway, client, FLOODED).is_some());
            admitted += 1;
        }
        if nth.is_multiple_of(4096) {
            assert!(half_open(&gateway, FLOODED) <= HALF_OPEN_PER_SERVICE);
            assert_invariants(&gateway);
        }
    }
    // The connections that were completed lately have places of their own in the queue.
    let left = half_open(&gateway, FLOODED);
    assert!((HALF_OPEN_PER_SERVICE - 64..=HALF_OPEN_PER_SERVICE).contains(&left));
    let ack = FrameSpec::tcp(slow, at(OTHER), ACK);
    assert_eq!(
        at_pod(&mut gateway, ack),
        Some(slow_seen),
        "a slow handshake elsewhere"
    );
    assert_alive(&mut gateway, FLOODED, &old);
    assert_alive(&mut gateway, OTHER, &others);
    let counters = gateway.workers[0].counters();
    assert!(
        counters.total(Total::HalfOpenEvicted) as usize
            >= FLOOD - 2 * HALF_OPEN_PER_SERVICE - admitted
    );
    assert_eq!(counters.drops(Reason::FlowTableFull), 0);
    assert_invariants(&gateway);
}

#[test]
fn a_syn_flood_of_ten_tables_ends_no_established_flow_and_admits_new_clients() {
    syn_flood(false);
}

#[test]
fn a_syn_flood_that_the_pods_answer_is_no_worse() {
    syn_flood(true);
}

#[test]
fn the_oldest_half_open_flow_of_the_flooded_service_goes_first() {
    let mut gateway = gateway(Options::default());
    let clients: Vec<SocketAddr> = (0..HALF_OPEN_PER_SERVICE + 100)
        .map(|nth| SocketAddr::new([11, 0, (nth >> 8) as u8, nth as u8].into(), 999))
        .collect();
    for client in &clients {
        at_pod(&mut gateway, FrameSpec::syn(*client, at(FLOODED))).unwrap();
    }
    let there: HashSet<SocketAddr> = gateway
        .shared
        .v4
        .flows()
        .map(|flow| V4::tuple(&flow.forward).from())
        .collect();
    assert_eq!(there, clients[100..].iter().copied().collect());
}

#[test]
fn floods_of_several_services_share_what_all_may_have_and_leave_room() {
    let frontends: Vec<String> = (0..6)
        .map(|nth| format!("203.0.113.10:3010{nth}"))
        .collect();
    let names = ["x/0", "x/1", "x/2", "x/3", "x/4", "x/5"];
    let mut specs: Vec<Spec> = frontends
        .iter()
        .zip(names)
        .map(|(frontend, name)| service(name, frontend, Protocol::Tcp))
        .collect();
    specs.extend(services());
    let mut gateway = Gateway::with(&specs, 1, FLOWS, Options::default());
    let mut random = Random(0x5eed_0002);
    let old = established(&mut gateway, OTHER, 300);
    for nth in 0..FLOOD {
        let to = at(&frontends[nth % frontends.len()]);
        at_pod(&mut gateway, FrameSpec::syn(random.client(), to)).unwrap();
        if nth.is_multiple_of(512) {
            let client = at(&format!("203.0.113.51:{}", 1000 + nth / 512));
            assert!(connect(&mut gateway, client, OTHER).is_some());
        }
    }
    let each: Vec<usize> = frontends.iter().map(|to| half_open(&gateway, to)).collect();
    assert!(each.iter().sum::<usize>() <= HALF_OPEN, "{each:?}");
    let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
    assert!(
        most - least <= HALF_OPEN / 6,
        "no flood takes another's share: {each:?}"
    );
    assert_alive(&mut gateway, OTHER, &old);
    assert_invariants(&gateway);
}

/// A flood of datagrams.
fn udp_flood(pods_answer: bool) {
    let mut gateway = gateway(Options::default());
    let mut random = Random(0x5eed_0003);
    let connections = established(&mut gateway, OTHER, 300);
    // Clients that talk on, one of them without ever being answered.
    let talkers: Vec<SocketAddr> = (0..100)
        .map(|port| at(&format!("203.0.113.50:{}", 5000 + port)))
        .collect();
    let mut seen = Vec::new();
    for (nth, talker) in talkers.iter().enumerate() {
        let there = at_pod(&mut gateway, FrameSpec::udp(*talker, at(DATAGRAMS))).unwrap();
        if nth > 0 {
            let answer = FrameSpec::udp(there.to(), there.from());
            assert_eq!(gateway.put(0, PODS, &from_pod(answer)).len(), 1);
        }
        seen.push(there);
    }
    gateway.second += 1;
    for (talker, there) in talkers.iter().zip(&seen) {
        let again = at_pod(&mut gateway, FrameSpec::udp(*talker, at(DATAGRAMS)));
        assert_eq!(again, Some(*there));
    }
    for nth in 0..FLOOD {
        let from = random.client();
        let there = at_pod(&mut gateway, FrameSpec::udp(from, at(DATAGRAMS)));
        if let (true, Some(there)) = (pods_answer, there) {
            gateway.put(0, PODS, &from_pod(FrameSpec::udp(there.to(), there.from())));
        }
        if nth.is_multiple_of(128) {
            let client = at(&format!("203.0.113.51:{}", 1000 + nth / 128));
            assert!(connect(&mut gateway, client, OTHER).is_some());
            // A new client of the flooded service has its answer.
            let there = at_pod(&mut gateway, FrameSpec::udp(client, at(DATAGRAMS))).unwrap();
            let answer = FrameSpec::udp(there.to(), there.from());
            let (link, back) = gateway.pass(PODS, &from_pod(answer));
            assert_eq!((link, tuple(&back).to()), (OUTSIDE, client));
        }
    }
    let flows = gateway.shared.v4.flows();
    let datagrams = flows
        .filter(|flow| V4::tuple(&flow.forward).to() == at(DATAGRAMS))
        .count();
    assert!(
        datagrams <= HALF_OPEN_PER_SERVICE + talkers.len(),
        "{datagrams}"
    );
    for (talker, there) in talkers.iter().zip(&seen) {
        let again = at_pod(&mut gateway, FrameSpec::udp(*talker, at(DATAGRAMS)));
        assert_eq!(
            again,
            Some(*there),
            "a flow that was there before the flood"
        );
    }
    assert_alive(&mut gateway, OTHER, &connections);
    assert_eq!(
        gateway.workers[0].counters().drops(Reason::FlowTableFull),
        0
    );
    assert_invariants(&gateway);
}

#[test]
fn a_udp_flood_of_ten_tables_ends_no_flow_in_use_and_admits_new_clients() {
    udp_flood(false);
}

#[test]
fn a_udp_flood_that_the_pods_answer_is_no_worse() {
    udp_flood(true);
}

#[test]
fn a_flood_of_acks_that_belong_to_no_connection_counts_as_half_open() {
    let mut gateway = gateway(Options::default());
    let mut random = Random(0x5eed_0004);
    let old = established(&mut gateway, FLOODED, 100);
    for _ in 0..FLOOD {
        let from = random.client();
        if let Some(there) = at_pod(&mut gateway, FrameSpec::tcp(from, at(FLOODED), ACK)) {
            // The pod knows of no such connection.
            let reset = FrameSpec::tcp(there.to(), there.from(), RST);
            gateway.put(0, PODS, &from_pod(reset));
        }
    }
    assert_alive(&mut gateway, FLOODED, &old);
    assert!(connect(&mut gateway, at("203.0.113.51:1"), FLOODED).is_some());
    assert_invariants(&gateway);
}

#[test]
fn a_source_and_a_service_get_no_more_new_flows_a_second_than_is_set() {
    let limits = Limits {
        new_flows_per_source: 50,
        new_flows_per_service: 500,
        ..Limits::default()
    };
    let mut gateway = gateway(limited(limits));
    let old = established(&mut gateway, FLOODED, 100);
    gateway.second += 10;
    let greedy = |gateway: &mut Gateway, first: u16| {
        (first..first + 400)
            .filter(|port| {
                let client = at(&format!("203.0.113.51:{port}"));
                at_pod(gateway, FrameSpec::syn(client, at(FLOODED))).is_some()
            })
            .count()
    };
    assert_eq!(
        greedy(&mut gateway, 1000),
        100,
        "two seconds' worth after a pause"
    );
    assert_eq!(gateway.seen.dropped, [Reason::SourceLimit]);
    gateway.second += 1;
    assert_eq!(greedy(&mut gateway, 2000), 50);
    let mut random = Random(0x5eed_0005);
    let mut flood = |gateway: &mut Gateway| {
        (0..FLOOD)
            .filter(|_| at_pod(gateway, FrameSpec::syn(random.client(), at(FLOODED))).is_some())
            .count()
    };
    gateway.second += 10;
    assert_eq!(flood(&mut gateway), 1000);
    assert_eq!(gateway.seen.dropped, [Reason::ServiceLimit]);
    assert!(
        connect(&mut gateway, at("203.0.113.50:1"), OTHER).is_some(),
        "another service"
    );
    // What is there already is not limited.
    assert_alive(&mut gateway, FLOODED, &old);
    let counters = gateway.workers[0].counters();
    let slots = 0..counters.service_slots() as u32;
    let sum = |counter| -> u64 {
        slots
            .clone()
            .map(|slot| counters.service(slot, counter))
            .sum()
    };
    let dropped = counters.drops(Reason::SourceLimit) + counters.drops(Reason::ServiceLimit);
    assert_eq!(sum(ServiceCounter::Limited), dropped);
    assert_eq!(sum(ServiceCounter::Refused), dropped);
    assert_invariants(&gateway);
}

#[test]
fn two_workers_keep_to_the_quota_together() {
    let limits = Limits {
        workers: 2,
        ..Limits::default()
    };
    let mut gateway = Gateway::with(&services(), 2, FLOWS, limited(limits));
    let mut random = Random(0x5eed_0006);
    for nth in 0..FLOOD {
        let frame = from_client(FrameSpec::syn(random.client(), at(FLOODED)));
        assert_eq!(gateway.put(nth % 2, OUTSIDE, &frame).len(), 1);
    }
    assert_eq!(half_open(&gateway, FLOODED), HALF_OPEN_PER_SERVICE);
    gateway.assert_balanced();
}

#[test]
fn ports_used_up_towards_one_endpoint_are_counted_and_recover_when_flows_end() {
    let spec = Spec::new("default/one", &[FLOODED], &["100.96.2.2:80"]);
    // All ports but 200 are excluded.
    let options = Options {
        nodeport_range: (1224, 65_535),
        ..Options::default()
    };
    let mut gateway = Gateway::with(&[spec], 1, FLOWS, options);
    let mut made = Vec::new();
    let mut refused = 0u64;
    for port in 1..=400 {
        let client = at(&format!("203.0.113.50:{port}"));
        match connect(&mut gateway, client, FLOODED) {
            Some(seen) => made.push((client, seen)),
            None => {
                assert_eq!(gateway.seen.dropped, [Reason::SnatPortsExhausted]);
                refused += 1;
            }
        }
    }
    assert_eq!((made.len(), refused), (200, 200));
    let counters = gateway.workers[0].counters();
    assert_eq!(counters.drops(Reason::SnatPortsExhausted), refused);
    assert_eq!(counters.service(1, ServiceCounter::SnatExhausted), refused);
    assert_alive(&mut gateway, FLOODED, &made);
    // Fifty connections end; as many others find a port.
    for (client, _) in made.drain(..50) {
        at_pod(&mut gateway, FrameSpec::tcp(client, at(FLOODED), RST)).unwrap();
    }
    for port in 1000..1050 {
        let client = at(&format!("203.0.113.51:{port}"));
        let seen = connect(&mut gateway, client, FLOODED).expect("a port that was given up");
        made.push((client, seen));
    }
    assert_eq!(
        at_pod(
            &mut gateway,
            FrameSpec::syn(at("203.0.113.51:2000"), at(FLOODED))
        ),
        None
    );
    assert_alive(&mut gateway, FLOODED, &made);
    assert_invariants(&gateway);
}
