//! A bare staged NAT: a table of the same shape as the flow table with nothing but the translation in
//! it, looked up a burst at a time, and the rewrite.

use std::sync::atomic::Ordering;

use engine::family::Family;
use hugepages::{Line, Slab, TagLine};
use packet::parse::{NO_VLAN, Network, Parsed, TCP};
use packet::{BURST, Buffer, Burst};

use super::entries::Entries;

const SLOTS: usize = 16;

/// Tags in buckets of sixteen, one entry behind each.
#[derive(Debug)]
pub struct StagedNat<F: Family> {
    buckets: Slab<TagLine>,
    entries: Entries<F>,
    seeds: [u64; 2],
    places: [(F::Key, u32, u32); BURST],
    /// Frames of tuples that were not found.
    pub misses: u64,
}

impl<F: Family> StagedNat<F> {
    /// An empty table in zeroed memory: sixteen entries a bucket.
    #[must_use]
    pub fn new(buckets: Slab<TagLine>, entries: Slab<Line>, seeds: [u64; 2]) -> Self {
        Self {
            buckets,
            entries: Entries::new(entries),
            seeds,
            places: [(F::Key::default(), 0, 0); BURST],
            misses: 0,
        }
    }

    /// The entries' lines.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        self.entries.lines()
    }

    /// Adds a translation. Where a bucket is full, the next one is taken.
    pub fn insert(&self, from: &F::Key, to: &F::Key, mac: u64) {
        let (mut bucket, tag) = self.place(from);
        loop {
            let tags = &self.buckets[bucket as usize].0;
            let free = intrinsics::matching_tags(tags, 0);
            if free == 0 {
                bucket = (bucket + 1) % self.buckets.len() as u32;
                continue;
            }
            let slot = free.trailing_zeros();
            tags[slot as usize].store(tag, Ordering::Relaxed);
            self.entries
                .fill(bucket * SLOTS as u32 + slot, from, to, mac);
            return;
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
            let (bucket, tag) = self.place(&key);
            intrinsics::prefetch(&self.buckets[bucket as usize]);
            self.places[at] = (key, bucket, tag);
        }
        for (_, bucket, tag) in &mut self.places[..burst.len()] {
            let found = intrinsics::matching_tags(&self.buckets[*bucket as usize].0, *tag);
            let index = *bucket * SLOTS as u32 + (found.trailing_zeros() & 15);
            self.entries.ask_for(index);
            *bucket = index;
        }
        // Once more: a request whose page is not in the TLB brings only the page.
        for (_, index, _) in &self.places[..burst.len()] {
            self.entries.ask_for(*index);
        }
        for (at, frame) in burst.iter_mut().enumerate() {
            let (key, mut index, tag) = self.places[at];
            if !self.entries.holds(index, &key) {
                match self.search(&key, index, tag) {
                    Some(found) => index = found,
                    None => {
                        self.misses += 1;
                        continue;
                    }
                }
            }
            self.entries.rewrite(index, frame.bytes_mut());
        }
        done.extend(burst.drain(..));
    }

    #[inline(always)]
    fn place(&self, key: &F::Key) -> (u32, u32) {
        let hash = F::hash(self.seeds, key);
        let bucket = ((u128::from(hash) * self.buckets.len() as u128) >> 64) as u32;
        (bucket, hash as u32 | 1)
    }

    /// In the bucket's other slots and the buckets that it overflows into.
    #[cold]
    fn search(&self, key: &F::Key, index: u32, tag: u32) -> Option<u32> {
        let mut bucket = index / SLOTS as u32;
        for _ in 0..SLOTS {
            let mut found = intrinsics::matching_tags(&self.buckets[bucket as usize].0, tag);
            while found != 0 {
                let index = bucket * SLOTS as u32 + found.trailing_zeros();
                if self.entries.holds(index, key) {
                    return Some(index);
                }
                found &= found - 1;
            }
            bucket = (bucket + 1) % self.buckets.len() as u32;
        }
        None
    }
}

/// Tuple of a TCP frame without options, unchecked.
#[inline(always)]
pub(super) fn key<F: Family>(bytes: &[u8]) -> F::Key {
    let (network, l4) = if F::LINES == 1 {
        (Network::V4, 34)
    } else {
        (Network::V6, 54)
    };
    let parsed = Parsed {
        l3: 14,
        l4,
        end: 0,
        vlan: NO_VLAN,
        network,
        protocol: TCP,
        tcp_flags: 0,
        ttl: 0,
    };
    F::key(bytes, &parsed)
}
