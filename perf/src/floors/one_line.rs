//! A staged NAT without a line of tags: a tuple's entry lies where its hash says, or in the next free place, and is
//! asked for at once. What a flow table could cost that touches one line for most hits, not two.

use engine::family::Family;
use hugepages::{Line, Slab};
use packet::{BURST, Buffer, Burst};

use super::entries::Entries;
use super::staged::key;

/// 2^64 divided by the golden ratio, odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Entries as [`super::staged::StagedNat`] has them, open addressing with linear probing.
#[derive(Debug)]
pub struct OneLineNat<F: Family> {
    entries: Entries<F>,
    seeds: [u64; 2],
    places: [(F::Key, u32); BURST],
    /// Frames of tuples that were not found.
    pub misses: u64,
}

impl<F: Family> OneLineNat<F> {
    /// An empty table in zeroed memory.
    #[must_use]
    pub fn new(entries: Slab<Line>, seeds: [u64; 2]) -> Self {
        Self {
            entries: Entries::new(entries),
            seeds,
            places: [(F::Key::default(), 0); BURST],
            misses: 0,
        }
    }

    /// Adds a translation.
    pub fn insert(&self, from: &F::Key, to: &F::Key, mac: u64) {
        let mut index = self.place(from);
        while !self.entries.is_free(index) {
            index = next(&self.entries, index);
        }
        self.entries.fill(index, from, to, mac);
    }

    /// One burst's work.
    #[inline(always)]
    pub fn work<B: Buffer>(&mut self, burst: &mut Burst<B>, done: &mut Burst<B>) {
        for frame in burst.iter() {
            intrinsics::prefetch(frame.bytes());
        }
        for (at, frame) in burst.iter().enumerate() {
            let key = key::<F>(frame.bytes());
            let index = self.place(&key);
            self.entries.ask_for(index);
            self.places[at] = (key, index);
        }
        // Once more, as in the other floor: a request whose page is not in the TLB brings only the page.
        for (_, index) in &self.places[..burst.len()] {
            self.entries.ask_for(*index);
        }
        // Those that lie elsewhere: the next place is in the neighbouring line, further ones are waited for.
        for (key, index) in &mut self.places[..burst.len()] {
            if !self.entries.holds(*index, key) {
                *index = next(&self.entries, *index);
                self.entries.ask_for(*index);
            }
        }
        for (at, frame) in burst.iter_mut().enumerate() {
            let (key, mut index) = self.places[at];
            while !self.entries.holds(index, &key) {
                if self.entries.is_free(index) {
                    self.misses += 1;
                    break;
                }
                index = next(&self.entries, index);
            }
            self.entries.rewrite(index, frame.bytes_mut());
        }
        done.extend(burst.drain(..));
    }

    #[inline(always)]
    fn place(&self, key: &F::Key) -> u32 {
        let count = self.entries.len() as u128;
        let hash = F::hash(self.seeds, key);
        // Tuples with a structure lie close together in the hash's upper half, and linear probing makes long runs of
        // that.
        let spread = (hash ^ hash >> 32).wrapping_mul(SPREAD);
        ((u128::from(spread) * count) >> 64) as u32
    }
}

#[inline(always)]
fn next<F: Family>(entries: &Entries<F>, index: u32) -> u32 {
    if index as usize + 1 == entries.len() {
        0
    } else {
        index + 1
    }
}
