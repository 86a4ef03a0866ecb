//! The worker that receives: what it keeps, what it deals out, and how that changes.

use packet::{Buffer, Burst};

use super::ring::Outlet;
use super::slot::{SLOTS, slot};
use super::{Mode, Pressures};
use crate::pipeline::MAX_WORKERS;

/// Slots that change hands at a time: the load is met in steps of 3 %.
const STEP: usize = 4;

/// A taker gets more only while less than one in so many places of its ring are taken.
const NEARLY_EMPTY: usize = 8;

/// And may lose some again while more than one in so many are.
const HALF_FULL: usize = 2;

/// Deals one link's frames.
#[derive(Debug)]
pub struct Dealer<B> {
    seed: u64,
    mode: Mode,
    /// Who has each slot: 0 keeps it here, else it is the number of the outlet, from 1 on.
    slots: [u8; SLOTS],
    /// To each taker, and last a closed one: without any room, so that what would go there is refused.
    outlets: Vec<Outlet<B>>,
    pressures: Pressures,
    wish: Option<Wish>,
    /// Where the next slot is looked for.
    next: usize,
    /// Whether any slot is dealt out.
    is_dealing: bool,
}

/// A change that waits for a moment at which no frame can overtake another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// The outlet of this index gets more.
    Give(usize),
    /// It loses some.
    TakeBack(usize),
    /// It loses those that are closed, when its frames have been carried up to the one of this number, the last of theirs.
    Reclaim(usize, u64),
}

impl<B: Buffer> Dealer<B> {
    /// A dealer to these outlets. A `seed` that nobody outside knows keeps everybody from choosing a worker.
    ///
    /// # Panics
    ///
    /// If there are as many outlets as there can be workers.
    #[must_use]
    pub fn new(mode: Mode, mut outlets: Vec<Outlet<B>>, pressures: Pressures, seed: u64) -> Self {
        assert!(outlets.len() < MAX_WORKERS, "a dealer is a worker itself");
        let workers = outlets.len() + 1;
        outlets.push(Outlet::closed());
        let mut slots = [0; SLOTS];
        if mode == Mode::Even {
            for (at, slot) in slots.iter_mut().enumerate() {
                *slot = (at % workers) as u8;
            }
        }
        Self {
            seed,
            mode,
            slots,
            outlets,
            pressures,
            wish: None,
            next: 0,
            is_dealing: mode == Mode::Even,
        }
    }

    /// Whether any flow is dealt out now.
    #[inline(always)]
    #[must_use]
    pub const fn is_dealing(&self) -> bool {
        self.is_dealing
    }

    /// Deals a burst: what stays is this worker's. `begun` is when it was received, if its time is asked for. `dealt` hears
    /// of frames and bytes that go to another worker, before that can have them; `refused` gets the frames for which a
    /// worker has no room.
    #[inline]
    pub fn deal(
        &mut self,
        burst: &mut Burst<B>,
        begun: Option<u64>,
        mut dealt: impl FnMut(u64, u64),
        mut refused: impl FnMut(&mut Burst<B>),
    ) {
        for frame in burst.iter() {
            intrinsics::prefetch(frame.bytes());
        }
        let mut kept = Burst::new();
        for frame in burst.drain(..) {
            let way = slot(frame.bytes(), self.seed).map_or(0, |slot| self.slots[slot]);
            match way
                .checked_sub(1)
                .and_then(|at| self.outlets.get_mut(usize::from(at)))
            {
                Some(outlet) => outlet.hand.push(frame),
                None => kept.push(frame),
            }
        }
        *burst = kept;
        for outlet in &mut self.outlets {
            if outlet.hand.is_empty() {
                continue;
            }
            outlet.put(begun, &mut dealt);
            if !outlet.hand.is_empty() {
                refused(&mut outlet.hand);
                outlet.hand.clear();
            }
        }
    }

    /// Looks now and then whether the shares fit the load. `is_behind`: this worker cannot keep up with what it receives by
    /// this link; `is_fed`: it takes frames from others itself.
    #[cold]
    pub fn look(&mut self, is_behind: bool, is_fed: bool) {
        let last = self.wish.take();
        if self.mode != Mode::Auto {
            return;
        }
        if let Some(Wish::Reclaim(at, _)) = last {
            // Its frames, or those of who sends them, take too long: these flows have waited enough.
            self.pass(self.closed(), at + 1, SLOTS);
        }
        let counts = self.counts();
        let outlets = self.takers().iter().enumerate();
        // Who is fed and behind is relieved by those who feed it: else two workers would exchange their work.
        if is_behind && !is_fed && counts[0] > 0 {
            let free = outlets.filter(|(_, outlet)| {
                !self.pressures.is_behind(outlet.worker) && !outlet.is_filled_to(NEARLY_EMPTY)
            });
            let least = free.min_by_key(|(at, _)| counts[at + 1]);
            self.wish = least.map(|(at, _)| Wish::Give(at));
        } else if !is_behind {
            let strained = outlets.filter(|(at, outlet)| {
                counts[at + 1] > 0
                    && (self.pressures.is_behind(outlet.worker) || outlet.is_filled_to(HALF_FULL))
            });
            let most = strained.max_by_key(|(at, _)| counts[at + 1]);
            self.wish = most.map(|(at, _)| Wish::TakeBack(at));
            // A ring that never is empty never gives anything back: what would go in for a few slots is refused for a
            // moment, as what there is no room for is already.
            if let Some(Wish::TakeBack(at)) = self.wish
                && last == self.wish
            {
                self.pass(at + 1, self.closed(), STEP);
                self.wish = Some(Wish::Reclaim(at, self.outlets[at].dealt()));
            }
        }
    }

    /// Whether a change waits for its moment.
    #[inline(always)]
    #[must_use]
    pub const fn has_wish(&self) -> bool {
        self.wish.is_some()
    }

    /// Makes the change that waits, if no frame can be overtaken: those that were dealt have been carried, and, as
    /// `is_sent` says then, no worker has any on the way to another that sends it. Returns whether it did. To be called
    /// when this worker has sent what it kept, before it deals the next burst.
    #[cold]
    pub fn change(&mut self, is_sent: impl FnOnce() -> bool) -> bool {
        // What this worker keeps has been carried when its turn is over.
        let (is_carried, from, to, most) = match self.wish {
            Some(Wish::Give(at)) => (true, 0, at + 1, STEP),
            Some(Wish::TakeBack(at)) => (self.outlets[at].is_quiet(), at + 1, 0, STEP),
            Some(Wish::Reclaim(at, last)) => {
                let is_carried = self.outlets[at].carried() >= last;
                (is_carried, self.closed(), 0, SLOTS)
            }
            None => return false,
        };
        if !is_carried || !is_sent() {
            return false;
        }
        self.pass(from, to, most);
        self.wish = None;
        true
    }

    /// Passes slots on, so many at most.
    fn pass(&mut self, from: usize, to: usize, most: usize) {
        let mut left = most;
        for _ in 0..SLOTS {
            let slot = &mut self.slots[self.next];
            self.next = (self.next + 1) % SLOTS;
            if usize::from(*slot) == from {
                *slot = to as u8;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        self.is_dealing = self.slots.iter().any(|way| *way != 0);
    }

    fn takers(&self) -> &[Outlet<B>] {
        &self.outlets[..self.outlets.len() - 1]
    }

    /// What closed slots have for their way.
    fn closed(&self) -> usize {
        self.outlets.len()
    }

    /// Slots of this worker, then of each outlet's, then those that are closed.
    pub(super) fn counts(&self) -> [usize; MAX_WORKERS + 1] {
        let mut counts = [0; MAX_WORKERS + 1];
        for way in self.slots {
            counts[usize::from(way)] += 1;
        }
        counts
    }
}
