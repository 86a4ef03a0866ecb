//! A staged NAT without a line of tags: a tuple's entry lies where its hash says, or in the next free place, and is
//! asked for at once. What a flow table could cost that touches one line for most hits, not two.

use std::sync::atomic::Ordering;

use engine::family::Family;
use hugepages::{Line, Slab};
use packet::{BURST, Buffer, Burst};

use super::nat::rewrite;
use super::staged::key;

/// 2^64 divided by the golden ratio, odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Entries as [`super::staged::StagedNat`] has them, open addressing with linear probing.
#[derive(Debug)]
pub struct OneLineNat<F: Family> {
    entries: Slab<Line>,
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
            entries,
            seeds,
            places: [(F::Key::default(), 0); BURST],
            misses: 0,
        }
    }

    /// Adds a translation.
    pub fn insert(&self, from: &F::Key, to: &F::Key, mac: u64) {
        let mut index = self.place(from);
        while !self.is_free(index) {
            index = self.next(index);
        }
        let (addresses, ports) = F::store(&F::translate(from, to));
        let words = from.as_ref().iter().chain(addresses.as_ref());
        for (at, word) in words.chain([&ports, &mac]).enumerate() {
            self.entries[index as usize * F::LINES + at / 8].0[at % 8]
                .store(*word, Ordering::Relaxed);
        }
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
            self.ask_for(index);
            self.places[at] = (key, index);
        }
        // Once more, as in the other floor: a request whose page is not in the TLB brings only the page.
        for (_, index) in &self.places[..burst.len()] {
            self.ask_for(*index);
        }
        // Those that lie elsewhere: the next place is in the neighbouring line, further ones are waited for.
        for (key, index) in &mut self.places[..burst.len()] {
            if !holds::<F>(&self.entries, *index, key) {
                *index = next::<F>(&self.entries, *index);
                for line in 0..F::LINES {
                    intrinsics::prefetch(&self.entries[*index as usize * F::LINES + line]);
                }
            }
        }
        for (at, frame) in burst.iter_mut().enumerate() {
            let (key, mut index) = self.places[at];
            while !holds::<F>(&self.entries, index, &key) {
                if self.is_free(index) {
                    self.misses += 1;
                    break;
                }
                index = self.next(index);
            }
            let mut addresses = F::Addresses::default();
            for (at, word) in addresses.as_mut().iter_mut().enumerate() {
                *word = read::<F>(&self.entries, index, F::KEY_WORDS + at);
            }
            let rest = F::KEY_WORDS + F::ADDRESS_WORDS;
            let translation = F::load(addresses, read::<F>(&self.entries, index, rest));
            let mac = read::<F>(&self.entries, index, rest + 1);
            rewrite::<F>(frame.bytes_mut(), &translation, mac);
        }
        done.extend(burst.drain(..));
    }

    #[inline(always)]
    fn place(&self, key: &F::Key) -> u32 {
        let count = (self.entries.len() / F::LINES) as u128;
        let hash = F::hash(self.seeds, key);
        // Tuples with a structure lie close together in the hash's upper half, and linear probing makes long runs of
        // that.
        let spread = (hash ^ hash >> 32).wrapping_mul(SPREAD);
        ((u128::from(spread) * count) >> 64) as u32
    }

    #[inline(always)]
    fn ask_for(&self, index: u32) {
        for line in 0..F::LINES {
            intrinsics::prefetch(&self.entries[index as usize * F::LINES + line]);
        }
    }

    fn next(&self, index: u32) -> u32 {
        next::<F>(&self.entries, index)
    }

    fn is_free(&self, index: u32) -> bool {
        read::<F>(&self.entries, index, 0) == 0
    }
}

#[inline(always)]
fn next<F: Family>(entries: &[Line], index: u32) -> u32 {
    let next = index + 1;
    if next as usize * F::LINES == entries.len() {
        0
    } else {
        next
    }
}

#[inline(always)]
fn holds<F: Family>(entries: &[Line], index: u32, key: &F::Key) -> bool {
    let words = key.as_ref().iter().enumerate();
    words.fold(0, |different, (at, word)| {
        different | (read::<F>(entries, index, at) ^ word)
    }) == 0
}

#[inline(always)]
fn read<F: Family>(entries: &[Line], index: u32, word: usize) -> u64 {
    entries[index as usize * F::LINES + word / 8].0[word % 8].load(Ordering::Relaxed)
}
