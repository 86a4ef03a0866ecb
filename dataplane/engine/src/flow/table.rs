//! The table: buckets of sixteen tags, one entry behind each tag.
//!
//! Bucket `b` is one cache line; the entry of its slot `s` has index `16 b + s`, so a tag needs no
//! pointer. A tag is 32 bits of the keyed hash, never 0 (0 = empty). A tuple may lie in either of two
//! buckets: the primary one, unless that was full.
//!
//! * **Lookups** are wait-free: compare sixteen tags at once, read one entry under its sequence.
//! * **Inserts** claim a slot by its tag: see [`insert`](super::insert).
//! * **Removal** begins at the forward entry; a reply entry whose forward entry is gone (a process
//!   died between the two) is an orphan, which ageing removes.

use hugepages::sync::Ordering;
use hugepages::{Line, Slab, TagLine};

use super::entry::{Content, Direction, Entries, Hit, Hop, Life, Peer};
use crate::family::{Family, SPREAD, Turned};

/// Slots of a bucket.
pub const SLOTS: usize = 16;

/// Lines of entries (4 MiB) from which on a table is wide.
const WIDE: usize = 1 << 16;

/// The flow table of one family, shared by all workers.
#[derive(Debug, Clone)]
pub struct FlowTable<F: Family> {
    pub(super) buckets: Slab<TagLine>,
    entries: Slab<Line>,
    seeds: [u64; 2],
    family: std::marker::PhantomData<F>,
}

/// Where to look for a tuple in one table: its primary bucket, and its tag, which gives the other bucket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    pub(super) primary: u32,
    pub(super) tag: u32,
}

impl Place {
    /// Primary bucket and tag.
    #[inline(always)]
    pub(crate) const fn parts(self) -> (u32, u32) {
        (self.primary, self.tag)
    }

    /// From its parts.
    #[inline(always)]
    pub(crate) const fn new(primary: u32, tag: u32) -> Self {
        Self { primary, tag }
    }

    /// The place of a tuple with this tag whose primary bucket has this entry.
    #[inline(always)]
    pub(crate) const fn around(entry: u32, tag: u32) -> Self {
        Self::new(entry / SLOTS as u32, tag)
    }
}

impl<F: Family> FlowTable<F> {
    /// A table over these lines, which are a table already (taken over) or zero.
    ///
    /// # Panics
    ///
    /// If the lines do not fit together: [`SLOTS`] entries a bucket.
    #[must_use]
    pub fn new(buckets: Slab<TagLine>, entries: Slab<Line>, seeds: [u64; 2]) -> Self {
        assert!(!buckets.is_empty(), "a flow table has at least one bucket");
        assert!(
            u32::try_from(buckets.len() * SLOTS).is_ok(),
            "an entry's index has 32 bits"
        );
        assert_eq!(
            buckets.len() * SLOTS * F::LINES,
            entries.len(),
            "sixteen entries a bucket"
        );
        Self {
            buckets,
            entries,
            seeds,
            family: std::marker::PhantomData,
        }
    }

    /// A table on the heap with room for about `flows` flows.
    #[must_use]
    pub fn heap(flows: usize, seeds: [u64; 2]) -> Self {
        let buckets = (flows * 4).div_ceil(SLOTS).max(1);
        Self::new(
            Slab::heap(buckets),
            Slab::heap(buckets * SLOTS * F::LINES),
            seeds,
        )
    }

    /// Number of slots: twice the number of flows that would fill it to the last.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// Where `key` belongs.
    #[must_use]
    #[inline(always)]
    pub fn place(&self, key: &F::Key) -> Place {
        self.place_of(&Turned::new(key))
    }

    /// [`FlowTable::place`] of a turned tuple.
    #[inline(always)]
    pub(crate) fn place_of(&self, key: &Turned<F>) -> Place {
        let hash = F::hash(self.seeds, &key.0);
        Place {
            primary: self.bucket_of(hash),
            tag: (hash as u32) | 1,
        }
    }

    /// Asks for the primary bucket's line.
    #[inline(always)]
    pub fn prefetch_bucket(&self, place: Place) {
        intrinsics::prefetch_at(&self.buckets, place.primary as usize);
    }

    /// First entry in the primary bucket that may hold the tuple, and asks for its lines. Some entry
    /// of another tuple if there is none: to find out here would cost a branch that does not predict.
    #[inline(always)]
    pub fn candidate(&self, place: Place) -> u32 {
        self.candidate_in(place.primary, place.tag)
    }

    /// [`FlowTable::candidate`] by the parts of a place.
    #[inline(always)]
    pub(crate) fn candidate_in(&self, bucket: u32, tag: u32) -> u32 {
        let matching = u32::from(self.matching(bucket, tag));
        let slot = (matching | 1 << SLOTS).trailing_zeros() % SLOTS as u32;
        let index = bucket * SLOTS as u32 + slot;
        self.prefetch_entry(index);
        index
    }

    /// Asks for both buckets' lines.
    #[inline]
    pub(crate) fn prefetch_buckets(&self, place: Place) {
        self.prefetch_bucket(place);
        intrinsics::prefetch_at(&self.buckets, self.alternate(place) as usize);
    }

    /// Asks for what making a flow of this place will need: its other bucket and the entry of the
    /// first free slot.
    #[inline]
    pub(crate) fn prefetch_free(&self, place: Place) {
        intrinsics::prefetch_at(&self.buckets, self.alternate(place) as usize);
        let free = u32::from(self.matching(place.primary, 0));
        let slot = (free | 1 << SLOTS).trailing_zeros() % SLOTS as u32;
        self.prefetch_entry(place.primary * SLOTS as u32 + slot);
    }

    /// Whether the entries are more than the TLB's pages: then a request for one may bring its page
    /// alone.
    #[inline(always)]
    pub(crate) fn is_wide(&self) -> bool {
        self.entries.len() >= WIDE
    }

    /// Whether either of the tuple's buckets has a free slot.
    #[inline(never)]
    pub(crate) fn has_room_for(&self, key: &F::Key) -> bool {
        self.buckets_of(key)
            .iter()
            .any(|bucket| self.has_room(*bucket))
    }

    /// Whether a bucket has a free slot.
    pub(crate) fn has_room(&self, bucket: usize) -> bool {
        self.matching(bucket as u32, 0) != 0
    }

    /// Asks for an entry's lines.
    #[inline(always)]
    pub(crate) fn prefetch_entry(&self, index: u32) {
        let entries = self.entries();
        for line in 0..F::LINES {
            entries.prefetch(index, line);
        }
    }

    /// The entry at `index` if it is `key`'s.
    pub fn read(&self, index: u32, key: &F::Key) -> Option<Hit<F>> {
        self.entries().read(index, &Turned::new(key))
    }

    /// Whether anything in the place's buckets has its tag.
    #[inline(always)]
    pub(crate) fn may_hold(&self, place: Place) -> bool {
        let alternate = self.alternate(place);
        self.matching(place.primary, place.tag) | self.matching(alternate, place.tag) != 0
    }

    /// Looks `key` up in both its buckets.
    pub fn find(&self, key: &F::Key, place: Place) -> Option<Hit<F>> {
        let (entries, key) = (self.entries(), Turned::new(key));
        for bucket in [place.primary, self.alternate(place)] {
            let mut matching = self.matching(bucket, place.tag);
            while matching != 0 {
                let index = bucket * SLOTS as u32 + matching.trailing_zeros();
                if let Some(hit) = entries.read(index, &key) {
                    return Some(hit);
                }
                matching &= matching - 1;
            }
        }
        None
    }

    /// Removes the flow whose forward entry is at `index`, if it still lives the life that was seen.
    /// True if this call removed it; false if it was gone or going.
    pub(crate) fn remove_life(&self, index: u32, life: Life) -> bool {
        let entries = self.entries();
        let peer = entries.peer(index);
        // The forward tag is given back last: until then its slot cannot become another flow's
        // whose reply entry would look like ours.
        if !self.in_range(peer.index) || !entries.kill(index, life) {
            return false;
        }
        let back = Peer {
            index,
            direction: Direction::Reply,
        };
        if let Some(life) = entries.life_with(peer.index, back) {
            self.remove_one(peer.index, life);
        }
        self.release(index);
        true
    }

    /// Removes a single entry whose other direction is missing.
    pub(crate) fn remove_one(&self, index: u32, life: Life) -> bool {
        let killed = self.entries().kill(index, life);
        if killed {
            self.release(index);
        }
        killed
    }

    /// After a restart, before any worker runs: clears what a killed process left half done, tags
    /// without a LIVE entry. Next hops are to be found anew: routes may have changed meanwhile. Returns the
    /// number of live entries.
    pub fn recover(&self) -> usize {
        let entries = self.entries();
        let mut live = 0;
        for (bucket, line) in self.buckets.iter().enumerate() {
            for (slot, tag) in line.0.iter().enumerate() {
                // Relaxed: nobody else uses the table yet.
                if tag.load(Ordering::Relaxed) == 0 {
                    continue;
                }
                let index = (bucket * SLOTS + slot) as u32;
                if entries.recover(index) {
                    entries.forget_hop(index);
                    live += 1;
                } else {
                    tag.store(0, Ordering::Relaxed);
                }
            }
        }
        live - self.remove_halves()
    }

    /// Notes that a frame was seen in the entry's direction.
    #[inline(always)]
    pub fn touch(&self, index: u32, second: u32, flags: u8) {
        self.entries().touch(index, second, flags);
    }

    /// Replaces an entry's next hop, if it is still `old`.
    pub fn set_hop(&self, index: u32, old: Hop, new: Hop) {
        self.entries().set_hop(index, old, new);
    }

    /// The live entry at `index`, whole.
    #[must_use]
    pub fn content(&self, index: u32) -> Option<(Content<F>, Life)> {
        if self.in_range(index) {
            self.entries().read_all(index)
        } else {
            None
        }
    }

    /// Calls `visit` with the index of every occupied slot of bucket `bucket`.
    pub(crate) fn visit_bucket(&self, bucket: usize, mut visit: impl FnMut(u32)) {
        let Some(line) = self.buckets.get(bucket) else {
            return;
        };
        let slots = if cfg!(loom) { 4 } else { SLOTS };
        for (slot, tag) in line.0.iter().take(slots).enumerate() {
            // Relaxed: `content` acquires what it reads.
            if tag.load(Ordering::Relaxed) != 0 {
                visit((bucket * SLOTS + slot) as u32);
            }
        }
    }

    /// Number of buckets.
    #[must_use]
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// The two buckets where `key` may lie.
    pub(crate) fn buckets_of(&self, key: &F::Key) -> [usize; 2] {
        let place = self.place(key);
        [place.primary as usize, self.alternate(place) as usize]
    }

    /// Whether forward entry `forward` is live and names `reply` as its other direction.
    pub(crate) fn belong(&self, forward: u32, reply: u32) -> bool {
        self.in_range(forward)
            && self.entries().is_live(forward)
            && self.entries().peer(forward)
                == (Peer {
                    index: reply,
                    direction: Direction::Forward,
                })
    }

    /// Second last seen and flags seen of an entry.
    pub(crate) fn activity(&self, index: u32) -> (u32, u8) {
        self.entries().activity(index)
    }

    pub(crate) fn in_range(&self, index: u32) -> bool {
        (index as usize) < self.slots()
    }

    /// The entries, for loops that keep them at hand.
    #[inline(always)]
    pub(crate) fn entries(&self) -> Entries<'_, F> {
        Entries::new(&self.entries)
    }

    #[inline(always)]
    fn bucket_of(&self, hash: u64) -> u32 {
        // The multiplication spreads what the low bits, which are the tag, do not tell into the high ones;
        // of these the high half of their product with the number of buckets is made: any number of buckets, no
        // division.
        let spread = hash.wrapping_mul(SPREAD) >> 32;
        ((spread * self.buckets.len() as u64) >> 32) as u32
    }

    #[inline(always)]
    pub(super) fn alternate(&self, place: Place) -> u32 {
        self.bucket_of(u64::from(place.tag) ^ self.seeds[1])
    }

    #[inline(always)]
    pub(super) fn matching(&self, bucket: u32, tag: u32) -> u16 {
        let line = &self.buckets[bucket as usize];
        #[cfg(not(loom))]
        {
            intrinsics::matching_tags(&line.0, tag)
        }
        // Loom explores every load: four slots show the same interleavings as sixteen.
        #[cfg(loom)]
        {
            line.0
                .iter()
                .take(4)
                .enumerate()
                .fold(0, |mask, (at, word)| {
                    mask | (u16::from(word.load(Ordering::Relaxed) == tag) << at)
                })
        }
    }

    /// Gives a claimed slot back, or the slot of an entry that was just killed.
    pub(super) fn release(&self, index: u32) {
        let (bucket, slot) = (index as usize / SLOTS, index as usize % SLOTS);
        // Release meets the Acquire of the next claim: what was done to the entry comes before.
        self.buckets[bucket].0[slot].store(0, Ordering::Release);
    }

    /// Removes entries whose other direction is missing; returns how many. Only while nobody inserts.
    fn remove_halves(&self) -> usize {
        let entries = self.entries();
        let mut removed = 0;
        for bucket in 0..self.bucket_count() {
            self.visit_bucket(bucket, |index| {
                let Some((content, life)) = entries.read_all(index) else {
                    return;
                };
                let peer = content.peer;
                let direction = match peer.direction {
                    Direction::Forward => Direction::Reply,
                    Direction::Reply => Direction::Forward,
                };
                let whole = self.in_range(peer.index)
                    && entries
                        .life_with(peer.index, Peer { index, direction })
                        .is_some();
                removed += usize::from(!whole && self.remove_one(index, life));
            });
        }
        removed
    }
}
