//! Looking tuples up in DPDK's hash table.

use std::time::Instant;

use dpdk::{Eal, HashTable};
use engine::family::Family;
use packet::BURST;

use crate::Error;
use crate::bench::random::Random;

/// An `rte_hash` that holds tuples.
#[derive(Debug)]
pub struct HashFloor<F: Family> {
    table: HashTable<F::Key>,
    keys: Vec<F::Key>,
}

/// Entries of a table that is made for `keys`: a hash table that is full is slow, ours is half empty.
const fn entries(keys: usize) -> usize {
    keys + keys / 2
}

/// Bytes that a table for `keys` keys of `words` words needs: entries with a data pointer, buckets of eight
/// in a line, and a ring of free positions, of which the number is a power of two.
#[must_use]
pub const fn memory(keys: usize, words: usize) -> usize {
    let entries = entries(keys);
    let entry = (8 + words * 8).next_multiple_of(16);
    entries * entry + entries.next_power_of_two() * (64 / 8 + 4)
}

impl<F: Family> HashFloor<F> {
    /// A table with these tuples.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if memory is short.
    pub fn new(eal: &Eal, keys: Vec<F::Key>) -> Result<Self, Error> {
        let size = u32::try_from(entries(keys.len())).unwrap_or(u32::MAX);
        let mut table = HashTable::<F::Key>::new(eal, "floor", size.max(16))?;
        let missing = keys
            .iter()
            .filter(|key| table.insert(key).is_none())
            .count();
        if missing > 0 {
            return Err(Error::Run(format!(
                "the floor rte_hash_bulk had no room for {missing} of {} tuples",
                keys.len()
            )));
        }
        Ok(Self { table, keys })
    }

    /// Nanoseconds a lookup, in bursts of 32, of random tuples that are there.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if one was not found.
    pub fn measure(&mut self, lookups: usize, random: &mut Random) -> Result<f64, Error> {
        // Chosen before the clock starts, and in a row, as those of a burst are once they were parsed.
        let chosen: Vec<F::Key> = (0..lookups.next_multiple_of(BURST))
            .map(|_| self.keys[random.below(self.keys.len())])
            .collect();
        let mut missing = 0;
        let start = Instant::now();
        for burst in chosen.chunks_exact(BURST) {
            let positions = self.table.lookup(burst);
            missing += positions.iter().filter(|at| **at < 0).count();
        }
        let elapsed = start.elapsed();
        if missing > 0 {
            return Err(Error::Run(format!(
                "the floor rte_hash_bulk did not find {missing} tuples"
            )));
        }
        Ok(elapsed.as_nanos() as f64 / chosen.len() as f64)
    }
}
