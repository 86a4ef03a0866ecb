//! Inserts: both directions of a flow, against whoever inserts the same at the same time.
//!
//! **A claim** takes a slot by compare-and-swap of its tag from 0. Two workers that insert the same
//! tuple at once end in one flow: after claiming, each looks for the same tag in both buckets.
//! A sequentially consistent fence between claim and look makes at least one of them
//! see the other. Who sees a LIVE entry of its key has lost. Who sees an unfinished claim at a
//! lower position takes its own back and starts over; who sees one at a higher position waits for it to be
//! finished or taken back. So the lower claim never takes itself back for the higher one, and one
//! of two always goes on.
//!
//! **The reply entry is the lock** on a SNAT port: a candidate port is taken by inserting the
//! reply tuple, and if that exists the next candidate is tried.

use hugepages::sync::{Ordering, spin};

use super::entry::{Content, Direction, Hop, Life, Peer, activity};
use super::table::{FlowTable, Place, SLOTS};
use crate::family::{Family, Turned};

/// Looks at a competing claim before giving up: some 10 µs, a thousand times what a claim takes.
const PATIENCE: u32 = if cfg!(loom) { 4 } else { 1_000 };

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

impl<F: Family> FlowTable<F> {
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
}

enum Contest {
    Won,
    Lost(u32),
    Yield,
    Stuck,
}
