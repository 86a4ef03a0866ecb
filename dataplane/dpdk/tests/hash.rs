//! DPDK's hash table behind the safe wrapper.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;

use common::config;
use dpdk::{Eal, Error, HashTable};

#[test]
fn keys_are_found_where_they_were_put_and_others_are_not() {
    let eal = Eal::init(&config(false)).unwrap();
    let mut table = HashTable::<[u64; 2]>::new(&eal, "pairs", 2048).unwrap();
    let key = |number: u64| [number, !number];
    let positions: Vec<u32> = (0..1000)
        .map(|number| table.insert(&key(number)).unwrap())
        .collect();
    assert_eq!(positions.iter().collect::<HashSet<_>>().len(), 1000);
    assert_eq!(table.insert(&key(7)), Some(positions[7]), "there already");

    for first in (0..1000).step_by(20) {
        let keys: Vec<_> = (first..first + 20).map(key).collect();
        let found = table.lookup(&keys);
        let expected = &positions[first as usize..][..20];
        assert!(
            found.iter().eq(expected
                .iter()
                .map(|at| *at as i32)
                .collect::<Vec<_>>()
                .iter())
        );
    }
    let strangers = [key(1000), key(1001), [1, 1]];
    assert!(table.lookup(&strangers).iter().all(|at| *at < 0));
    assert!(table.lookup(&[]).is_empty());

    let again = HashTable::<[u64; 2]>::new(&eal, "pairs", 16);
    assert!(
        matches!(again, Err(Error::Hash { .. })),
        "the name is taken"
    );
    drop(table);
    let mut long = HashTable::<[u64; 5]>::new(&eal, "pairs", 16).unwrap();
    let at = long.insert(&[1, 2, 3, 4, 5]).unwrap();
    assert_eq!(
        long.lookup([&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 6]]).as_slice(),
        [at as i32, -2],
        "all words count; -2 is ENOENT"
    );
}
