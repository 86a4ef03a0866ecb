//! The table against a `HashMap`, and under real threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::family::{Family, V4, V6};

const SEEDS: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn key(client: u16) -> <V4 as Family>::Key {
    [
        0x0a00_0000_0000_0000 | (u64::from(client) << 32) | 0x6445_b51f,
        (40_000 << 48) | (80 << 32) | 6,
    ]
}

/// What `key(client)` becomes with SNAT port `port`, towards one backend.
fn translated(port: u16) -> <V4 as Family>::Key {
    [
        (0xcb00_710a << 32) | 0x6460_0202,
        (u64::from(port) << 48) | (8080 << 32) | 6,
    ]
}

fn flow(client: u16, second: u32) -> NewFlow<V4> {
    NewFlow {
        forward: key(client),
        forward_hop: Hop::new(7, 1, 0, 0),
        reply_hop: Hop::new(7, 2, 0, 0),
        second,
        flags: state::SYN,
    }
}

fn find(table: &FlowTable<V4>, key: &[u64; 2]) -> Option<Hit<V4>> {
    table.find(key, table.place(key))
}

#[derive(Debug, Clone)]
enum Op {
    Insert { client: u16, port: u16 },
    Remove { client: u16, by_reply: bool },
    Find { client: u16 },
    FindReply { port: u16 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0u16..64, 0u16..48).prop_map(|(client, port)| Op::Insert { client, port }),
        (0u16..64, any::<bool>()).prop_map(|(client, by_reply)| Op::Remove { client, by_reply }),
        (0u16..64).prop_map(|client| Op::Find { client }),
        (0u16..48).prop_map(|port| Op::FindReply { port }),
    ]
}

proptest! {
    #[test]
    fn the_table_does_what_a_hash_map_does(ops in proptest::collection::vec(op(), 1..400)) {
        let table = FlowTable::<V4>::heap(256, SEEDS);
        // client → (port, index); port → client
        let mut oracle: HashMap<u16, (u16, u32)> = HashMap::new();
        let mut ports: HashMap<u16, u16> = HashMap::new();
        for op in ops {
            match op {
                Op::Insert { client, port } => {
                    // Three candidates: port, port + 1, port + 2.
                    let mut tried = 0;
                    let got = table.insert(&flow(client, 1), || {
                        tried += 1;
                        (tried <= 3).then(|| translated(port + tried - 1))
                    });
                    let free = (port..port + 3).find(|port| !ports.contains_key(port));
                    match (oracle.get(&client), free) {
                        (Some((_, index)), _) => {
                            prop_assert_eq!(got.unwrap_err(), InsertError::Exists(*index));
                        }
                        (None, None) => {
                            prop_assert_eq!(got.unwrap_err(), InsertError::NoCandidate);
                        }
                        (None, Some(port)) => {
                            let inserted = got.unwrap();
                            let expected = V4::translate(&key(client), &translated(port));
                            prop_assert_eq!(inserted.translation, expected);
                            oracle.insert(client, (port, inserted.index));
                            ports.insert(port, client);
                        }
                    }
                }
                Op::Remove { client, by_reply } => {
                    if let Some((port, index)) = oracle.remove(&client) {
                        ports.remove(&port);
                        let reply = V4::reverse(&translated(port));
                        let index =
                            if by_reply { find(&table, &reply).unwrap().index } else { index };
                        let flow = table.view_of(index).unwrap();
                        prop_assert!(table.remove(&flow));
                        prop_assert!(!table.remove(&flow));
                    }
                }
                Op::Find { client } => {
                    let hit = find(&table, &key(client)).map(|hit| hit.translation);
                    let expected = oracle.get(&client).map(|(port, _)| {
                        V4::translate(&key(client), &translated(*port))
                    });
                    prop_assert_eq!(hit, expected);
                }
                Op::FindReply { port } => {
                    let reply = V4::reverse(&translated(port));
                    let hit = find(&table, &reply).map(|hit| hit.translation);
                    let expected = ports.get(&port).map(|client| {
                        V4::translate(&reply, &V4::reverse(&key(*client)))
                    });
                    prop_assert_eq!(hit, expected);
                }
            }
            prop_assert_eq!(table.flows().count(), oracle.len());
        }
    }
}

#[test]
fn two_workers_inserting_the_same_flows_make_each_of_them_once() {
    let table = FlowTable::<V4>::heap(20_000, SEEDS);
    let inserted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for client in 0..10_000 {
                    loop {
                        let mut port = 1024 + client % 7;
                        let got = table.insert(&flow(client, 1), || {
                            port += 1;
                            Some(translated(port))
                        });
                        match got {
                            Ok(_) => inserted.fetch_add(1, Ordering::Relaxed),
                            Err(InsertError::Exists(_)) => 0,
                            // More threads than cores: the other one was put to sleep half-way.
                            Err(InsertError::Busy) => continue,
                            Err(other) => panic!("{other:?}"),
                        };
                        break;
                    }
                }
            });
        }
    });
    assert_eq!(inserted.load(Ordering::Relaxed), 10_000);
    let flows: Vec<_> = table.flows().collect();
    assert_eq!(flows.len(), 10_000);
    let mut translated: Vec<_> = flows.iter().map(|flow| flow.translated).collect();
    translated.sort_unstable();
    translated.dedup();
    assert_eq!(translated.len(), 10_000, "no two flows share a reply tuple");
}

#[test]
fn readers_never_see_a_mixture_of_two_flows_in_one_slot() {
    // One bucket, so that slots are reused at once.
    let table = FlowTable::<V4>::new(hugepages::Slab::heap(1), hugepages::Slab::heap(16), SEEDS);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let rounds = if cfg!(miri) { 200 } else { 200_000 };
            for round in 0..rounds {
                let client = (round % 5) as u16;
                let mut candidate = Some(translated(client));
                if let Ok(inserted) = table.insert(&flow(client, round), || candidate.take()) {
                    table.remove(&table.view(inserted.index).unwrap());
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for client in 0..5 {
                    if let Some(hit) = find(&table, &key(client)) {
                        let expected = V4::translate(&key(client), &translated(client));
                        assert_eq!(hit.translation, expected);
                    }
                }
            }
        });
    });
    assert_eq!(table.flows().count(), 0);
}

#[test]
fn flows_are_forgotten_when_their_timeout_has_passed_and_not_before() {
    let table = FlowTable::<V4>::heap(64, SEEDS);
    let inserted = table
        .insert(&flow(1, 100), || Some(translated(2000)))
        .unwrap();
    let timeouts = Timeouts::default();
    let buckets = table.bucket_count();
    let age = |second| {
        let mut removed = 0;
        table.age(&mut 0, buckets, second, &timeouts, |_| removed += 1);
        removed
    };
    assert_eq!(age(160), 0);
    // A reply keeps it alive although the forward direction is silent.
    let reply = find(&table, &V4::reverse(&translated(2000))).unwrap();
    table.touch(reply.index, 150, state::SYN);
    assert_eq!(age(210), 0);
    table.touch(inserted.index, 150, state::ACK);
    assert_eq!(
        table.view(inserted.index).unwrap().state,
        State::Established
    );
    assert_eq!(age(80_000), 0);
    table.touch(inserted.index, 80_000, state::RST);
    assert_eq!(age(80_121), 1);
    assert_eq!(table.flows().count(), 0);
    assert!(find(&table, &V4::reverse(&translated(2000))).is_none());
}

#[test]
fn a_full_table_gives_up_half_open_flows_and_never_established_ones() {
    let table = FlowTable::<V4>::new(hugepages::Slab::heap(1), hugepages::Slab::heap(16), SEEDS);
    for client in 0..8 {
        let inserted = table
            .insert(&flow(client, 10), || Some(translated(client)))
            .unwrap();
        if client < 4 {
            table.touch(inserted.index, 10, state::ACK);
            let reply = find(&table, &V4::reverse(&translated(client))).unwrap();
            table.touch(reply.index, 10, state::SYN);
        }
    }
    let timeouts = Timeouts::default();
    let mut candidate = 100;
    let mut gone = 0;
    for client in 100..140 {
        let result = table.insert_or_evict(
            &flow(client, 20),
            &timeouts,
            true,
            || {
                candidate += 1;
                Some(translated(candidate))
            },
            |_| gone += 1,
        );
        assert!(result.is_ok());
    }
    assert_eq!(gone, 40);
    for client in 0..4 {
        assert!(find(&table, &key(client)).is_some());
    }
    // All established now: nothing may go.
    for flow in table.flows().collect::<Vec<_>>() {
        table.touch(flow.index, 20, state::ACK);
        let reply = find(&table, &V4::reverse(&flow.translated)).unwrap();
        table.touch(reply.index, 20, state::SYN);
    }
    let result = table.insert_or_evict(
        &flow(200, 21),
        &timeouts,
        true,
        || Some(translated(999)),
        |_| {},
    );
    assert_eq!(result.unwrap_err(), InsertError::Full);
}

#[test]
fn what_a_killed_process_left_half_done_is_discarded_and_the_rest_kept() {
    let buckets = hugepages::Slab::<hugepages::TagLine>::heap(1);
    let entries = hugepages::Slab::<hugepages::Line>::heap(16);
    let table = FlowTable::<V4>::new(buckets.clone(), entries.clone(), SEEDS);
    table.insert(&flow(1, 1), || Some(translated(1))).unwrap();
    let broken = table.insert(&flow(2, 1), || Some(translated(2))).unwrap();
    // As if killed while filling the forward entry: claimed tag, meta FILLING.
    entries[broken.index as usize].0[entry::META].fetch_sub(1, Ordering::Relaxed);
    assert_eq!(table.recover(), 2, "one whole flow");
    assert!(find(&table, &key(1)).is_some());
    assert!(find(&table, &key(2)).is_none());
    assert!(find(&table, &V4::reverse(&translated(2))).is_none());
    table.insert(&flow(2, 1), || Some(translated(2))).unwrap();
}

#[test]
fn ipv6_flows_use_both_lines() {
    let table = FlowTable::<V6>::heap(64, SEEDS);
    let forward = [1, 2, 3, 4, (5 << 32) | 6];
    let translated = [11, 12, 13, 14, (15 << 32) | 6];
    let flow = NewFlow {
        forward,
        forward_hop: Hop::new(9, 4095, 255, 4095),
        reply_hop: Hop::default(),
        second: 3,
        flags: 0,
    };
    table.insert(&flow, || Some(translated)).unwrap();
    let hit = table.find(&forward, table.place(&forward)).unwrap();
    assert_eq!(hit.translation, V6::translate(&forward, &translated));
    let parts = (
        hit.hop.slot(),
        hit.hop.neighbour(),
        hit.hop.neighbour_generation(),
    );
    assert_eq!(parts, (9, 4095, 255));
    let reply = V6::reverse(&translated);
    let back = table.find(&reply, table.place(&reply)).unwrap();
    assert_eq!(
        back.translation,
        V6::translate(&reply, &V6::reverse(&forward))
    );
}

/// Tuples as they come in practice, each set with a structure that a weak hash would show.
fn structured() -> Vec<(&'static str, Vec<[u64; 2]>)> {
    let tuple = |source: u64, destination: u64, from: u64, to: u64| {
        [source << 32 | destination, from << 48 | to << 32 | 6]
    };
    let vip = 0x6444_b51f;
    vec![
        (
            "one client's ports",
            (0..60_000)
                .map(|port| tuple(0xcb00_7132, vip, 1024 + port, 80))
                .collect(),
        ),
        (
            "clients in a row, one port",
            (0..60_000)
                .map(|client| tuple(0x0a00_0000 + client, vip, 40_000, 80))
                .collect(),
        ),
        (
            "a square of clients and ports",
            (0..60_000)
                .map(|at| tuple(0x0a00_0000 + at % 245, vip, 1024 + at / 245, 80))
                .collect(),
        ),
        (
            "replies of endpoints",
            (0..60_000)
                .map(|at| tuple(0x6440_0000 + at % 100, 0x0a00_0001, 8080, 1024 + at / 100))
                .collect(),
        ),
        (
            "high bytes only",
            (0..60_000)
                .map(|at| tuple((at & 0xff) << 24 | 1, vip, (at >> 8) << 8, 80))
                .collect(),
        ),
    ]
}

#[test]
fn tuples_with_a_structure_fill_buckets_and_tags_like_random_ones() {
    // 20 seeds, 5 sets: an unlucky seed for one of them would be a weakness (100 seeds were seen to pass).
    for seed in 1..=20u64 {
        let seeds = [
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            seed.wrapping_mul(0xd1b5_4a32_d192_ed03) ^ 0x5851_f42d_4c95_7f2d,
        ];
        let table = FlowTable::<V4>::heap(4096, seeds);
        assert_eq!(table.bucket_count(), 1024);
        for (what, tuples) in structured() {
            let mut buckets = vec![0u32; 1024];
            let mut tags = std::collections::HashSet::new();
            for key in &tuples {
                let place = table.place(key);
                let (bucket, tag) = place.parts();
                buckets[bucket as usize] += 1;
                tags.insert((bucket, tag >> 1));
            }
            let mean = tuples.len() as f64 / 1024.0;
            let chi: f64 = buckets
                .iter()
                .map(|&count| (f64::from(count) - mean).powi(2) / mean)
                .sum();
            // 1,023 degrees of freedom: mean 1,023, deviation 45. Less is more even than random.
            assert!(chi < 1_400.0, "{what}, seed {seed}: chi² {chi}");
            // Pairs that share bucket and tag: expected 60,000² / 2 / 2⁴¹, less than one in a thousand sets.
            let twice = tuples.len() - tags.len();
            assert!(
                twice < 8,
                "{what}, seed {seed}: {twice} tuples with a tag of another"
            );
        }
    }
}
