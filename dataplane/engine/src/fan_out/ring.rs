//! A bounded ring from a worker that deals to one that takes.
//!
//! Frames that were taken leave the ring only when they have been carried: a ring that looks empty to the dealer has
//! nothing under way behind it either.

use packet::{Buffer, Burst};
use rtrb::{Consumer, Producer, RingBuffer};

/// Marks that may be under way at a time: so rare that one would do.
const MARKS: usize = 4;

/// A ring for so many frames that link `link` receives, between the dealer and the worker `worker`.
#[must_use]
pub fn ring<B: Buffer>(link: usize, worker: usize, capacity: usize) -> (Outlet<B>, Inlet<B>) {
    let (frames, taken_frames) = RingBuffer::new(capacity);
    let (marks, taken_marks) = RingBuffer::new(MARKS);
    let outlet = Outlet {
        worker,
        frames,
        marks,
        dealt: 0,
        hand: Burst::new(),
    };
    let inlet = Inlet {
        link,
        frames: taken_frames,
        marks: taken_marks,
        taken: 0,
    };
    (outlet, inlet)
}

/// The dealer's end.
#[derive(Debug)]
pub struct Outlet<B> {
    /// Who takes.
    pub(super) worker: usize,
    frames: Producer<B>,
    marks: Producer<Mark>,
    /// Frames put in so far.
    dealt: u64,
    /// Frames of the burst in hand that are for it.
    pub(super) hand: Burst<B>,
}

/// The taker's end.
#[derive(Debug)]
pub struct Inlet<B> {
    link: usize,
    frames: Consumer<B>,
    marks: Consumer<Mark>,
    /// Frames taken so far.
    taken: u64,
}

/// For the time that frames take from rx to tx.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The frame before which so many were dealt is the first behind it.
    behind: u64,
    /// When it was received, in nanoseconds of the dealer's clock.
    begun: u64,
}

impl<B: Buffer> Outlet<B> {
    /// One to nobody, without any room.
    pub(super) fn closed() -> Self {
        ring(0, usize::MAX, 0).0
    }

    /// Puts in what there is room for; `count` hears how many frames and bytes that are, before anybody can take them.
    /// The rest stays in hand.
    #[inline]
    pub(super) fn put(&mut self, begun: Option<u64>, count: impl FnOnce(u64, u64)) {
        let room = self.room(self.hand.len());
        if room == 0 {
            return;
        }
        let frames = &self.hand[..room];
        let bytes = frames.iter().map(|frame| frame.bytes().len() as u64).sum();
        count(room as u64, bytes);
        self.dealt += room as u64;
        if let Some(begun) = begun {
            let behind = self.dealt;
            // Without room for a mark this burst is not timed.
            let _ = self.marks.push(Mark { behind, begun });
        }
        // Nobody else puts frames in, so there is as much room as there was.
        if let Ok(chunk) = self.frames.write_chunk_uninit(room) {
            chunk.fill_from_iter(self.hand.drain(..room));
        }
    }

    /// Frames that were put in so far.
    pub(super) fn dealt(&self) -> u64 {
        self.dealt
    }

    /// Of those, how many have been carried: the first ones.
    pub(super) fn carried(&self) -> u64 {
        self.dealt - self.taken_places() as u64
    }

    /// Whether all frames that were put in have been carried.
    pub(super) fn is_quiet(&self) -> bool {
        self.taken_places() == 0
    }

    /// Whether more than one in `part` of its places are taken.
    pub(super) fn is_filled_to(&self, part: usize) -> bool {
        self.taken_places() * part > self.frames.buffer().capacity()
    }

    fn taken_places(&self) -> usize {
        self.frames.buffer().capacity() - self.frames.slots()
    }

    /// Room for `wanted` frames, or less. Asks the taker's side only where what it said before is not enough.
    #[inline(always)]
    fn room(&self, wanted: usize) -> usize {
        let known = self.frames.cached_slots();
        if known >= wanted {
            return wanted;
        }
        self.frames.slots().min(wanted)
    }
}

impl<B: Buffer> Inlet<B> {
    /// The link whose frames come here.
    #[must_use]
    pub const fn link(&self) -> usize {
        self.link
    }

    /// Takes a burst and has it carried by `carry`, which leaves it empty; how many frames that were. `timed` hears when
    /// a frame was received that has now been carried and whose time is asked for.
    #[inline]
    pub fn take(&mut self, carry: impl FnOnce(&mut Burst<B>), timed: impl FnOnce(u64)) -> usize {
        let count = self.frames.slots().min(packet::BURST);
        let Ok(chunk) = self.frames.read_chunk(count) else {
            return 0;
        };
        if count == 0 {
            return 0;
        }
        let mut places = chunk.into_iter();
        let mut burst: Burst<B> = places.by_ref().collect();
        carry(&mut burst);
        // The places are free from here on, and the dealer may know that nothing is under way.
        drop(places);
        self.taken += count as u64;
        if let Ok(mark) = self.marks.peek().copied()
            && mark.behind <= self.taken
        {
            let _ = self.marks.pop();
            timed(mark.begun);
        }
        count
    }

    /// Frees what is in it; how many frames that were.
    pub fn discard(&mut self) -> u64 {
        let mut count = 0;
        while self.frames.pop().is_ok() {
            count += 1;
        }
        count
    }
}
