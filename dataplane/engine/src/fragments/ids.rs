//! Identifications for fragments that leave.
//!
//! A translation brings datagrams of several senders under one pair of addresses; two of the same
//! identification would be put together into one wrong datagram (RFC 6864 section 5.3 on middleboxes).
//! So every translated datagram that travels in fragments gets a new one, from a count for its pair of
//! addresses and protocol. Pairs that share a count leave numbers out, which does no harm.

use hugepages::sync::{AtomicU32, Ordering};

use crate::family::SPREAD;

/// Counts: enough for busy pairs to have their own.
const COUNTS: usize = if cfg!(loom) { 1 } else { 1024 };

/// The counts.
#[derive(Debug)]
pub(crate) struct Ids {
    counts: Box<[AtomicU32]>,
}

impl Ids {
    /// Counts that begin where `seed` says (RFC 7739 section 5.2: not where everybody expects).
    pub(crate) fn new(seed: u64) -> Self {
        let start = |at: u64| {
            let mixed = (at ^ seed).wrapping_mul(SPREAD);
            AtomicU32::new(((mixed ^ mixed >> 29).wrapping_mul(SPREAD) >> 32) as u32)
        };
        Self {
            counts: (0..COUNTS as u64).map(start).collect(),
        }
    }

    /// The next identification for datagrams whose addresses and protocol have this hash.
    pub(crate) fn next(&self, hash: u64) -> u32 {
        // Relaxed: only that no two callers get the same number matters.
        self.counts[(hash >> 32) as usize % COUNTS].fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_pair_gets_65_536_identifications_before_one_comes_again() {
        let ids = Ids::new(7);
        let mut seen = vec![false; 65_536];
        for _ in 0..65_536 {
            let id = ids.next(5 << 40) as u16;
            assert!(!std::mem::replace(&mut seen[usize::from(id)], true));
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    /// A mutation that this model was seen to catch: `next` by a load and a store.
    #[test]
    fn loom_two_datagrams_get_two_identifications() {
        loom::model(|| {
            let ids = hugepages::sync::Arc::new(Ids::new(7));
            let other = ids.clone();
            let there = loom::thread::spawn(move || other.next(5));
            assert_ne!(ids.next(5), there.join().unwrap());
        });
    }
}
