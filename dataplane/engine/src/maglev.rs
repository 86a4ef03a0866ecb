//! Consistent choice of a backend (Maglev hashing, Eisenbud et al., NSDI 2016, section 3.4).
//!
//! Every backend fills the table in an order of its own that depends on its address and the seed alone,
//! in turns; so each gets its share to within one entry a turn, every gateway with the same seed has the same
//! table, and a backend that comes or goes moves few of the others' entries.

use std::net::IpAddr;

use hugepages::object::Backend;

use crate::family::SPREAD;

/// Entries a backend, at least: shares differ by at most 1/64.
const ENTRIES_PER_BACKEND: usize = 64;

/// Sizes of tables, all prime. Few, because a change of size moves nearly every flow: within one size a
/// backend that comes or goes moves little more than its share.
const SIZES: [usize; 6] = [251, 1_021, 4_093, 16_381, 65_521, 524_287];

/// Above this many backends a table would cost more memory than its evenness is worth: choice by
/// the hash's range instead, which is even but not consistent.
const MAX_BACKENDS: usize = 8_191;

/// A lookup table for one set of backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maglev {
    /// Index of the backend; empty when there is nothing to choose or too much.
    table: Vec<u16>,
    backends: usize,
}

impl Maglev {
    /// The table for `members`, which are in the set's order.
    #[must_use]
    pub fn new(members: &[Backend], seed: u64) -> Self {
        let backends = members.len();
        if !(2..=MAX_BACKENDS).contains(&backends) {
            return Self {
                table: Vec::new(),
                backends,
            };
        }
        let wanted = backends * ENTRIES_PER_BACKEND;
        let size = SIZES
            .into_iter()
            .find(|size| *size >= wanted)
            .unwrap_or(SIZES[5]);
        Self {
            table: fill(members, seed, size),
            backends,
        }
    }

    /// Index of the backend for a flow with this hash; `None` if there are no backends.
    #[must_use]
    #[inline]
    pub fn choose(&self, hash: u64) -> Option<usize> {
        let range = |size: usize| ((u128::from(hash) * size as u128) >> 64) as usize;
        match self.table.get(range(self.table.len())) {
            Some(index) => Some(usize::from(*index)),
            None => (self.backends > 0).then(|| range(self.backends)),
        }
    }
}

fn fill(members: &[Backend], seed: u64, size: usize) -> Vec<u16> {
    const EMPTY: u16 = u16::MAX;
    let mut table = vec![EMPTY; size];
    // (place to try next, step): step < size and size is prime, so each walk visits every entry.
    let mut walks: Vec<(usize, usize)> = members
        .iter()
        .map(|member| {
            let hash = hash_backend(member, seed);
            let step = (hash.rotate_left(32).wrapping_mul(SPREAD) % (size as u64 - 1)) as usize + 1;
            ((hash % size as u64) as usize, step)
        })
        .collect();
    let mut filled = 0;
    loop {
        for (index, (place, step)) in walks.iter_mut().enumerate() {
            while table[*place] != EMPTY {
                // Both are below `size`: no division is needed, of which there would be several for each entry.
                *place += *step;
                if *place >= size {
                    *place -= size;
                }
            }
            table[*place] = index as u16;
            filled += 1;
            if filled == size {
                return table;
            }
        }
    }
}

/// Depends on address, port and seed only: neither on the order of the set nor on the machine.
fn hash_backend(backend: &Backend, seed: u64) -> u64 {
    let (high, low) = match backend.address {
        IpAddr::V4(v4) => (4, u64::from(v4.to_bits())),
        IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64, v6.to_bits() as u64),
    };
    let mut hash = seed ^ SPREAD;
    for word in [high, low, u64::from(backend.port)] {
        hash = (hash ^ word).wrapping_mul(SPREAD);
        hash ^= hash >> 29;
        hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^= hash >> 32;
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn backends(count: u32) -> Vec<Backend> {
        (0..count)
            .map(|at| Backend {
                address: Ipv4Addr::from(0x0af4_0000 + at).into(),
                port: 8080,
            })
            .collect()
    }

    fn shares(maglev: &Maglev) -> Vec<usize> {
        let mut shares = vec![0; maglev.backends];
        for index in &maglev.table {
            shares[usize::from(*index)] += 1;
        }
        shares
    }

    #[test]
    fn every_backend_gets_its_share() {
        for count in [2, 3, 10, 50, 1000] {
            let shares = shares(&Maglev::new(&backends(count), 7));
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count} backends: {least} to {most}");
        }
    }

    #[test]
    fn one_backend_less_moves_few_flows_of_the_others() {
        let all = backends(50);
        let mut fewer = all.clone();
        fewer.remove(20);
        let (before, after) = (Maglev::new(&all, 1), Maglev::new(&fewer, 1));
        let step = u64::MAX / 100_000;
        let moved = (0..100_000u64)
            .filter(|at| {
                let was = before.choose(at * step).unwrap();
                let is = after.choose(at * step).unwrap();
                was != 20 && all[was] != fewer[is]
            })
            .count();
        assert!(moved < 6_000, "{moved} of 100,000 moved");
    }

    #[test]
    fn the_same_seed_chooses_alike_and_another_differently() {
        let all = backends(10);
        assert_eq!(Maglev::new(&all, 3), Maglev::new(&all, 3));
        assert_ne!(Maglev::new(&all, 3), Maglev::new(&all, 4));
    }

    #[test]
    fn sizes_are_prime() {
        let is_prime = |n: usize| {
            (2..)
                .take_while(|d| d * d <= n)
                .all(|d| !n.is_multiple_of(d))
        };
        assert!(SIZES.into_iter().all(is_prime));
        assert!(SIZES[5] >= MAX_BACKENDS * ENTRIES_PER_BACKEND);
    }

    #[test]
    fn none_one_and_very_many_backends_need_no_table() {
        assert_eq!(Maglev::new(&[], 0).choose(5), None);
        assert_eq!(Maglev::new(&backends(1), 0).choose(u64::MAX), Some(0));
        let many = Maglev::new(&backends(100_000), 0);
        assert!(many.table.is_empty());
        assert_eq!(many.choose(u64::MAX), Some(99_999));
        assert_eq!(many.choose(0), Some(0));
    }
}
