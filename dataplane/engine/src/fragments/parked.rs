//! Fragments that wait, as frames, for the first one of their datagram.

use std::collections::VecDeque;

use packet::fragment::Piece;

use super::datagrams::MAX_WORKERS;

/// Fragments that wait at a worker, in all. One more, and the one that waited longest goes.
const MAX_PARKED: usize = 256;

/// Fragments that wait for one source (or those few that share its cell): a datagram of 64 KiB in reverse
/// order is 44.
const MAX_PARKED_EACH: u8 = 64;

/// Cells in which sources are counted.
const CELLS: usize = 256;

/// Seconds that a fragment waits.
const PARKED_SECONDS: u32 = 2;

/// A fragment on its way.
#[derive(Debug)]
pub(crate) struct Fragment<B> {
    pub(crate) input: usize,
    pub(crate) frame: B,
    pub(crate) piece: Piece,
}

/// Fragments that wait at one worker.
#[derive(Debug)]
pub(crate) struct Parked<B> {
    waiting: VecDeque<Waiting<B>>,
    each: Box<[u8; CELLS]>,
    pub(crate) worker: usize,
    /// The count of wakes when what waits was looked at last.
    pub(crate) wakes: u32,
    pub(crate) second: u32,
}

#[derive(Debug)]
pub(crate) struct Waiting<B> {
    pub(crate) fragment: Fragment<B>,
    pub(crate) since: u32,
    cell: u8,
}

impl<B> Parked<B> {
    pub(crate) fn new(worker: usize) -> Self {
        Self {
            waiting: VecDeque::with_capacity(MAX_PARKED),
            each: Box::new([0; CELLS]),
            worker: worker % MAX_WORKERS,
            wakes: 0,
            second: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn has_any(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Lets a fragment of the source with this hash wait. Gives one back that has to go: the one that waited
    /// longest if there is no room, this one if its source has too many.
    pub(crate) fn park(
        &mut self,
        fragment: Fragment<B>,
        source: u64,
        second: u32,
    ) -> Result<Option<Fragment<B>>, Fragment<B>> {
        let cell = (source >> 56) as u8;
        if self.each[usize::from(cell)] >= MAX_PARKED_EACH {
            return Err(fragment);
        }
        let oldest = (self.waiting.len() >= MAX_PARKED)
            .then(|| self.pop())
            .flatten();
        self.push(Waiting {
            fragment,
            since: second,
            cell,
        });
        Ok(oldest.map(|oldest| oldest.fragment))
    }

    /// Takes the fragment that waited longest.
    pub(crate) fn pop(&mut self) -> Option<Waiting<B>> {
        let waiting = self.waiting.pop_front()?;
        self.each[usize::from(waiting.cell)] -= 1;
        Some(waiting)
    }

    /// Puts one back that was taken, as the one that came last.
    pub(crate) fn push(&mut self, waiting: Waiting<B>) {
        self.each[usize::from(waiting.cell)] += 1;
        self.waiting.push_back(waiting);
    }
}

impl<B> Waiting<B> {
    /// Whether the first fragment is not expected any more.
    pub(crate) fn is_over(&self, second: u32) -> bool {
        second.saturating_sub(self.since) > PARKED_SECONDS
    }
}
