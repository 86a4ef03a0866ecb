//! Models of the table's orderings: every interleaving of two threads.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p engine --release --lib loom_`.
//!
//! Mutations that these models were seen to catch:
//! * `fill` storing LIVE with Relaxed → `loom_a_reader_sees_a_whole_entry_or_none`
//! * `fill` without its Release fence, or `read` without its Acquire fence or second look →
//!   `loom_a_reader_never_mixes_two_lives_of_an_entry`
//! * `contend` without its fence, or that ignores a higher unfinished claim →
//!   `loom_two_inserts_of_one_tuple_make_one_flow`
//! * `contend` looking twice (key, then LIVE) instead of once → the same model and
//!   `two_workers_inserting_the_same_flows_make_each_of_them_once`
//! * `kill` by a plain store → `loom_two_removers_remove_once`

use loom::thread;

use hugepages::Slab;

use super::*;
use crate::family::{Family, V4};

fn table() -> FlowTable<V4> {
    FlowTable::new(Slab::heap(1), Slab::heap(16), [3, 5])
}

const FORWARD: [u64; 2] = [0x0a00_0001_6445_b51f, (40_000 << 48) | (80 << 32) | 6];

fn translated(port: u64) -> [u64; 2] {
    [
        (0xcb00_710a << 32) | 0x6460_0202,
        (port << 48) | (8080 << 32) | 6,
    ]
}

fn flow() -> NewFlow<V4> {
    NewFlow {
        forward: FORWARD,
        forward_hop: Hop::default(),
        reply_hop: Hop::default(),
        second: 1,
        flags: 0,
    }
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 100_000;
    builder.check(check);
}

#[test]
fn loom_a_reader_sees_a_whole_entry_or_none() {
    model(|| {
        let table = table();
        let writer = table.clone();
        let inserting = thread::spawn(move || {
            let mut one = Some(translated(2000));
            writer.insert(&flow(), || one.take()).unwrap();
        });
        if let Some(hit) = table.find(&FORWARD, table.place(&FORWARD)) {
            assert_eq!(hit.translation, V4::translate(&FORWARD, &translated(2000)));
        }
        inserting.join().unwrap();
    });
}

#[test]
fn loom_a_reader_never_mixes_two_lives_of_an_entry() {
    model(|| {
        let table = table();
        let mut one = Some(translated(2000));
        let first = table.insert(&flow(), || one.take()).unwrap();
        let writer = table.clone();
        let replacing = thread::spawn(move || {
            assert!(writer.remove(&writer.view(first.index).unwrap()));
            let mut two = Some(translated(3000));
            writer.insert(&flow(), || two.take()).unwrap();
        });
        if let Some(hit) = table.read(first.index, &FORWARD) {
            let old = V4::translate(&FORWARD, &translated(2000));
            let new = V4::translate(&FORWARD, &translated(3000));
            assert!(hit.translation == old || hit.translation == new);
        }
        replacing.join().unwrap();
    });
}

#[test]
fn loom_two_inserts_of_one_tuple_make_one_flow() {
    model(|| {
        let table = table();
        let other = table.clone();
        let racing = thread::spawn(move || {
            let mut one = Some(translated(2000));
            other.insert(&flow(), || one.take()).is_ok()
        });
        let mut two = Some(translated(3000));
        let mine = table.insert(&flow(), || two.take()).is_ok();
        let theirs = racing.join().unwrap();
        assert!(!(mine && theirs), "two flows of one tuple");
        assert!(table.flows().count() <= 1);
        if mine || theirs {
            assert_eq!(table.flows().count(), 1);
        }
    });
}

#[test]
fn loom_two_removers_remove_once() {
    model(|| {
        let table = table();
        let mut one = Some(translated(2000));
        let first = table.insert(&flow(), || one.take()).unwrap();
        let other = table.clone();
        let flow = table.view(first.index).unwrap();
        let removing = thread::spawn(move || other.remove(&flow));
        let mine = table.remove(&flow);
        assert!(mine ^ removing.join().unwrap());
        assert_eq!(table.flows().count(), 0);
    });
}
