//! Dealing frames out by software, where a link has fewer receive queues than there are workers.
//!
//! A worker that has a queue deals ([`Dealer`]): by a hash of the tuple, some of the frames that it receives go to workers
//! that have no queue of that link, through a bounded ring to each ([`ring`]). Who takes them ([`Inlet`]) carries them
//! as its own. Tables are shared, so what counts is order alone: all frames of a flow's direction go to one worker, and
//! a flow changes its worker only when none of its frames is under way.
//!
//! How much is dealt out follows the load ([`Mode::Auto`]): dealing costs both sides something, so nothing is dealt
//! while the receiving worker keeps up.

mod dealer;
mod ring;
mod slot;
#[cfg(all(test, not(loom)))]
mod tests;

use hugepages::sync::{Arc, AtomicBool, Ordering};

pub use dealer::Dealer;
pub use ring::{Inlet, Outlet, ring};
pub use slot::{SLOTS, slot};

/// How much a link's frames are dealt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As much as the load asks for.
    Auto,
    /// To all workers alike, from the first frame on.
    Even,
}

/// Which workers cannot keep up with what they receive themselves: each says it of itself.
#[derive(Debug, Clone)]
pub struct Pressures(Arc<Vec<AtomicBool>>);

impl Pressures {
    /// Of so many workers, none of which is behind.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let flags = (0..workers).map(|_| AtomicBool::new(false));
        Self(Arc::new(flags.collect()))
    }

    /// Says it of one.
    pub fn set(&self, worker: usize, is_behind: bool) {
        if let Some(flag) = self.0.get(worker) {
            // Relaxed: it stands alone, and a look later will do.
            flag.store(is_behind, Ordering::Relaxed);
        }
    }

    /// Whether this one is behind.
    #[must_use]
    pub fn is_behind(&self, worker: usize) -> bool {
        let flag = self.0.get(worker);
        flag.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}
