//! A long seeded run of everything at once, with the invariants looked at after every step.
//!
//! Clients and pods open, use, close and abandon connections over several services and two workers;
//! frames are lost, doubled, delayed, corrupted and cut; endpoints change, the clock jumps. After
//! each step: every frame is accounted for, no two flows share a reply tuple, what leaves has
//! right checksums and is the inverse of what came.

mod common;

use std::collections::{HashMap, HashSet};

use common::*;
use engine::family::{Family, V4};
use engine::flow::FlowTable;
use engine::shared::Options;
use hugepages::object::Protocol;
use packet::build::FrameSpec;
use packet::tcp::{ACK, FIN, RST, SYN};
use packet::tuple::Tuple;

/// xorshift64*: the run is the same for the same seed on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)) * below as u128) >> 64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.next(count) == 0
    }
}

fn world(random: &mut Random) -> Vec<Spec> {
    let pods: Vec<String> = (2..8).map(|last| format!("100.96.2.{last}:80")).collect();
    let frontends = [
        "203.0.113.10:30001",
        "203.0.113.10:30002",
        "203.0.113.10:30003",
    ];
    let names = ["default/a", "default/b", "default/c"];
    (0..3)
        .map(|at| {
            let count = random.next(pods.len() + 1);
            let backends: Vec<&str> = pods.iter().take(count).map(String::as_str).collect();
            Spec {
                protocol: if at == 2 {
                    Protocol::Udp
                } else {
                    Protocol::Tcp
                },
                masquerade: at != 1,
                ..Spec::new(names[at], &[frontends[at]], &backends)
            }
        })
        .collect()
}

fn reply_tuples_are_unique(table: &FlowTable<V4>) {
    let mut seen = HashSet::new();
    for flow in table.flows() {
        assert!(
            seen.insert(V4::reverse(&flow.translated)),
            "two flows share a reply tuple"
        );
    }
}

/// Everything that a frame may become on its way through a bad network.
fn mangle(random: &mut Random, mut frame: Vec<u8>) -> Vec<Vec<u8>> {
    match random.next(20) {
        0 => Vec::new(),
        1 => vec![frame.clone(), frame],
        2 => {
            let at = random.next(frame.len());
            frame[at] ^= 1 << random.next(8);
            vec![frame]
        }
        3 => {
            frame.truncate(random.next(frame.len()));
            vec![frame]
        }
        _ => vec![frame],
    }
}

fn run(seed: u64, steps: usize) {
    let mut random = Random(seed | 1);
    let first = world(&mut random);
    // A small table, so that it is full now and then.
    let mut gateway = Gateway::with(&first, 2, 200, Options::default());
    for last in 2..8 {
        let pod = ip(&format!("100.96.2.{last}"));
        gateway
            .shared
            .neighbours
            .index(PODS as u8, pod, gateway.second);
        gateway
            .shared
            .neighbours
            .learn(PODS as u8, pod, POD_MAC, gateway.second);
    }
    // What pods saw: the tuple at the pod, and the client's own tuple.
    let mut at_pods: HashMap<Tuple, Tuple> = HashMap::new();
    for step in 0..steps {
        let client = at(&format!(
            "203.0.113.{}:{}",
            50 + random.next(2),
            1000 + random.next(300)
        ));
        let service = at(&format!("203.0.113.10:{}", 30_001 + random.next(3)));
        let flags = [SYN, ACK, ACK, FIN | ACK, RST][random.next(5)];
        let (link, spec) = if random.one_in(3) && !at_pods.is_empty() {
            let nth = random.next(at_pods.len());
            let there = *at_pods
                .keys()
                .nth(nth)
                .expect("nth is below the number of keys");
            let spec = if there.protocol == packet::parse::UDP {
                FrameSpec::udp(there.to(), there.from())
            } else {
                FrameSpec::tcp(there.to(), there.from(), flags | ACK)
            };
            (PODS, spec)
        } else if service.port() == 30_003 {
            (OUTSIDE, FrameSpec::udp(client, service))
        } else {
            (OUTSIDE, FrameSpec::tcp(client, service, flags))
        };
        let spec = spec.with_payload(&step.to_be_bytes());
        let frame = if link == PODS {
            from_pod(spec.clone())
        } else {
            from_client(spec.clone())
        };
        for arriving in mangle(&mut random, frame.clone()) {
            let worker = random.next(2);
            let intact = arriving == frame;
            for (out_link, out) in gateway.put(worker, link, &arriving) {
                check_sent(&mut at_pods, (link, intact, &spec), out_link, &out);
            }
            gateway.assert_balanced();
        }
        if random.one_in(50) {
            let specs = world(&mut random);
            gateway.install(&specs);
        }
        if random.one_in(30) {
            gateway.second += random.next(100) as u32;
            let worker = random.next(2);
            gateway.upkeep(worker);
            gateway.assert_balanced();
        }
        if step % 64 == 0 {
            reply_tuples_are_unique(&gateway.shared.v4);
        }
    }
    let flows = gateway.shared.v4.flows().count();
    assert!(flows <= 200 * 2, "more flows than the table has slots for");
}

/// What leaves is either an answer to the sender or a translation whose checksums are right and
/// whose other end is known.
fn check_sent(
    at_pods: &mut HashMap<Tuple, Tuple>,
    (link, intact, spec): (usize, bool, &FrameSpec),
    out_link: usize,
    out: &[u8],
) {
    let Ok(parsed) = packet::parse::parse(out) else {
        panic!("what leaves can be parsed")
    };
    if !matches!(parsed.protocol, packet::parse::TCP | packet::parse::UDP) {
        return; // ARP, or an ICMP refusal
    }
    if !intact {
        // A flipped payload bit of an established flow goes on, as wrong as it came: an end-to-end
        // check is the ends' business. Only the headers must make sense.
        return;
    }
    let tuple = tuple(out);
    match (link, out_link) {
        (OUTSIDE, PODS) => {
            let original = Tuple {
                source: spec.source.ip(),
                destination: spec.destination.ip(),
                source_port: spec.source.port(),
                destination_port: spec.destination.port(),
                protocol: tuple.protocol,
            };
            assert_eq!(tuple.destination_port, 80);
            at_pods.insert(tuple, original);
        }
        (PODS, OUTSIDE) => {
            let seen = Tuple {
                source: spec.destination.ip(),
                destination: spec.source.ip(),
                source_port: spec.destination.port(),
                destination_port: spec.source.port(),
                protocol: tuple.protocol,
            };
            let original = at_pods[&seen];
            assert_eq!((tuple.from(), tuple.to()), (original.to(), original.from()));
        }
        _ => {} // a refusal goes back where it came from
    }
}

#[test]
fn invariants_hold_through_a_long_run_of_everything() {
    for seed in 1..=4 {
        run(seed * 0x9e37_79b9, 2_500);
    }
}
