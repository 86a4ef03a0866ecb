//! The table: buckets of sixteen tags, one entry behind each tag.
//!
//! Bucket `b` is one cache line; the entry of its slot `s` has index `16 b + s`, so a tag needs no
//! pointer. A tag is 32 bits of the keyed hash, never 0 (0 = empty). A tuple may lie in either of two
//! buckets: the primary one, unless that was full.
//!
//! * **Lookups** are wait-free: compare sixteen tags at once, read one entry under its sequence.
//! * **Inserts** claim a slot by compare-and-swap of its tag from 0. Two workers that insert the same
//!   tuple at once end in one flow: after claiming, each looks for the same tag in both buckets.
//!   A sequentially consistent fence between claim and look makes at least one of them
//!   see the other. Who sees a LIVE entry of its key has lost. Who sees an unfinished claim at a
//!   lower position takes its own back and starts over; who sees one at a higher position waits for it to be
//!   finished or taken back. So the lower claim never takes itself back for the higher one, and one
//!   of two always goes on.
//! * **The reply entry is the lock** on a SNAT port: a candidate port is taken by inserting the
//!   reply tuple, and if that exists the next candidate is tried.
//! * **Removal** begins at the forward entry; a reply entry whose forward entry is gone (a process
//!   died between the two) is an orphan, which ageing removes.

use hugepages::sync::{Ordering, spin};
use hugepages::{Line, Slab, TagLine};

use super::entry::{Content, Direction, Entries, Hit, Hop, Life, Peer, activity};
use crate::family::{Family, SPREAD, Turned};

/// Slots of a bucket.
pub const SLOTS: usize = 16;

/// Lines of entries (4 MiB) from which on a table is wide.
const WIDE: usize = 1 << 16;

/// Looks at a competing claim before giving up: some 10 µs, a thousand times what a claim takes.
const PATIENCE: u32 = if cfg!(loom) { 4 } else { 1_000 };

/// The flow table of one family, shared by all workers.
#[derive(Debug, Clone)]
pub struct FlowTable<F: Family> {
    buckets: Slab<TagLine>,
    entries: Slab<Line>,
    seeds: [u64; 2],
    family: std::marker::PhantomData<F>,
}

/// Where to look for a tuple in one table: its primary bucket, and its tag, which gives the other bucket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    primary: u32,
    tag: u32,
}

/// A flow to be: everything but the SNAT port.
#[derive(Debug, Clone, Copy)]
pub struct NewFlow<F: Family> {
    /// Tuple of the client's frames.
    pub forward: F::Key,
    /// Next hop towards the backend.
    pub forward_hop: Hop,
    /// Next hop towards the client.
    pub reply_hop: Hop,
    /// Second of the first frame.
    pub second: u32,
    /// TCP flags of the first frame, as [`super::state::seen`] keeps them.
    pub flags: u8,
}

/// A flow that was inserted.
#[derive(Debug, Clone, Copy)]
pub struct Inserted<F: Family> {
    /// Its forward entry.
    pub index: u32,
    /// Its reply entry.
    pub reply: u32,
    /// The life of its forward entry.
    pub life: Life,
    /// What its forward frames become.
    pub translation: F::Translation,
}

/// Why a flow was not inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertError {
    /// The tuple is there already, at this index: somebody was faster.
    Exists(u32),
    /// No free slot in the two buckets of the tuple (or of its reply).
    Full,
    /// Every candidate for the translated tuple was taken.
    NoCandidate,
    /// Another worker is at the same tuple and did not finish in time.
    Busy,
}

/// Which direction of a flow was not inserted, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    Forward(InsertError),
    Reply(InsertError),
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

    /// Inserts both directions of a flow.
    ///
    /// `candidates` gives, one after the other, the tuples that the client's frames may become (they
    /// differ in source port); the first whose reply tuple is free is taken. None left ends the search.
    ///
    /// # Errors
    ///
    /// See [`InsertError`]; nothing is left behind.
    pub fn insert(
        &self,
        flow: &NewFlow<F>,
        candidates: impl FnMut() -> Option<F::Key>,
    ) -> Result<Inserted<F>, InsertError> {
        self.insert_over(flow, candidates, |_| false)
    }

    /// [`FlowTable::insert`] with one candidate: what nearly every flow takes.
    ///
    /// # Errors
    ///
    /// As [`FlowTable::insert`], for one direction or the other.
    #[inline]
    pub(crate) fn insert_one(
        &self,
        flow: &NewFlow<F>,
        translated: &F::Key,
    ) -> Result<Inserted<F>, Blocked> {
        let reply_key = F::reverse(translated);
        let reply_place = self.place(&reply_key);
        // Needed after the forward direction's claim, which takes long enough to wait for it.
        self.prefetch_buckets(reply_place);
        let forward_place = self.place(&flow.forward);
        let index = self
            .claim(&flow.forward, forward_place)
            .map_err(Blocked::Forward)?;
        match self.claim(&reply_key, reply_place) {
            Ok(reply) => Ok(self.fill(flow, index, reply, translated)),
            Err(error) => {
                self.release(index);
                Err(Blocked::Reply(error))
            }
        }
    }

    /// [`FlowTable::insert`], where `make_room` is told the entry that holds a candidate's reply tuple and
    /// may remove its flow; true if it has.
    pub(crate) fn insert_over(
        &self,
        flow: &NewFlow<F>,
        mut candidates: impl FnMut() -> Option<F::Key>,
        mut make_room: impl FnMut(u32) -> bool,
    ) -> Result<Inserted<F>, InsertError> {
        let index = self.claim(&flow.forward, self.place(&flow.forward))?;
        loop {
            let Some(translated) = candidates() else {
                self.release(index);
                return Err(InsertError::NoCandidate);
            };
            let reply_key = F::reverse(&translated);
            let place = self.place(&reply_key);
            let claimed = match self.claim(&reply_key, place) {
                Err(InsertError::Exists(holder)) if make_room(holder) => {
                    self.claim(&reply_key, place)
                }
                other => other,
            };
            match claimed {
                Ok(reply) => return Ok(self.fill(flow, index, reply, &translated)),
                Err(InsertError::Exists(_) | InsertError::Busy) => {}
                Err(other) => {
                    self.release(index);
                    return Err(other);
                }
            }
        }
    }

    /// Fills both claimed entries of a flow.
    #[inline(always)]
    fn fill(&self, flow: &NewFlow<F>, index: u32, reply: u32, translated: &F::Key) -> Inserted<F> {
        let entries = self.entries();
        let [translation, back] = F::translate_both(&flow.forward, translated);
        // The reply entry's line was asked for only when it was claimed (the forward one's with the burst): it
        // comes last (a new flow 170 → 166 ns with entries in the cache, 425 → 390 without).
        let there = entries.fill(
            index,
            &Content {
                key: flow.forward,
                translation,
                hop: flow.forward_hop,
                peer: Peer {
                    index: reply,
                    direction: Direction::Forward,
                },
                activity: activity(flow.second, flow.flags),
            },
        );
        let back = entries.fill(
            reply,
            &Content {
                key: F::reverse(translated),
                translation: back,
                hop: flow.reply_hop,
                peer: Peer {
                    index,
                    direction: Direction::Reply,
                },
                activity: activity(flow.second, 0),
            },
        );
        // Who finds the forward entry finds the reply entry.
        entries.publish(back);
        let life = entries.publish(there);
        Inserted {
            index,
            reply,
            life,
            translation,
        }
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
    fn alternate(&self, place: Place) -> u32 {
        self.bucket_of(u64::from(place.tag) ^ self.seeds[1])
    }

    #[inline(always)]
    fn matching(&self, bucket: u32, tag: u32) -> u16 {
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

    /// Claims a slot for `key`, alone. The entry is FREE and the caller's to fill, or to release.
    fn claim(&self, key: &F::Key, place: Place) -> Result<u32, InsertError> {
        for _ in 0..PATIENCE {
            // Whether the key is there already, `contend` finds out: seldom, as frames of a flow that is there
            // do not come here, and candidates are picked at random.
            let Some(index) = self.claim_slot(place) else {
                let there = self.find(key, place).map(|hit| hit.index);
                return Err(there.map_or(InsertError::Full, InsertError::Exists));
            };
            match self.contend(key, place, index) {
                Contest::Won => return Ok(index),
                Contest::Lost(other) => {
                    self.release(index);
                    return Err(InsertError::Exists(other));
                }
                Contest::Yield => {
                    self.release(index);
                    spin();
                }
                Contest::Stuck => {
                    self.release(index);
                    return Err(InsertError::Busy);
                }
            }
        }
        Err(InsertError::Busy)
    }

    fn claim_slot(&self, place: Place) -> Option<u32> {
        for bucket in [place.primary, self.alternate(place)] {
            let mut free = self.matching(bucket, 0);
            while free != 0 {
                let slot = free.trailing_zeros();
                let tag = &self.buckets[bucket as usize].0[slot as usize];
                // Acquire meets the Release in `release`: the entry behind is FREE. Release is not
                // needed for the tag itself (nothing was written yet) but pairs with the fence below.
                if tag
                    .compare_exchange(0, place.tag, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    let index = bucket * SLOTS as u32 + slot;
                    self.prefetch_entry(index);
                    return Some(index);
                }
                free &= free - 1;
            }
        }
        None
    }

    /// Settles with others that claim the same tuple at the same time.
    fn contend(&self, key: &F::Key, place: Place, mine: u32) -> Contest {
        let (entries, key) = (self.entries(), Turned::new(key));
        // Sequentially consistent, and so is every contender's: of two claims, at least one's owner
        // sees the other's tag below.
        // `claim_slot`'s successful exchange comes right before, which makes the fence free on x86 (45 ns of a
        // new flow).
        #[cfg(not(loom))]
        intrinsics::fence_behind_exchange();
        #[cfg(loom)]
        hugepages::sync::fence(Ordering::SeqCst);
        let (primary, alternate) = (place.primary, self.alternate(place));
        for _ in 0..PATIENCE {
            let mut wait = false;
            for bucket in [primary, alternate] {
                let mut matching = self.matching(bucket, place.tag);
                while matching != 0 {
                    let other = bucket * SLOTS as u32 + matching.trailing_zeros();
                    matching &= matching - 1;
                    if other == mine {
                        continue;
                    }
                    match entries.holds(other, &key) {
                        Some(true) => return Contest::Lost(other),
                        Some(false) => {} // another tuple of the same tag
                        None if other < mine => return Contest::Yield,
                        None => wait = true,
                    }
                }
            }
            if !wait {
                return Contest::Won;
            }
            spin();
        }
        Contest::Stuck
    }

    /// Gives a claimed slot back, or the slot of an entry that was just killed.
    fn release(&self, index: u32) {
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

enum Contest {
    Won,
    Lost(u32),
    Yield,
    Stuck,
}
