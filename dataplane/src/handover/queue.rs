//! The queue of a handover, which also knows what was taken out of it and not sent yet.

use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

/// Frames for a link, on their way to the worker that sends them.
#[derive(Debug)]
pub(crate) struct Handover<T> {
    frames: ArrayQueue<T>,
    /// Frames that were put in, or are about to be, and were neither sent nor refused yet.
    unsent: AtomicU64,
}

impl<T> Handover<T> {
    /// One for so many frames.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            frames: ArrayQueue::new(capacity),
            unsent: AtomicU64::new(0),
        }
    }

    /// Puts in what there is room for; the rest stays, in order.
    pub(crate) fn put<const N: usize>(&self, frames: &mut ArrayVec<T, N>) {
        let offered = frames.len() as u64;
        // Relaxed, here and where frames turn out to find no room: who asks whether all is sent has heard of these frames
        // by a ring whose places were given back later, or has put them in itself.
        self.unsent.fetch_add(offered, Ordering::Relaxed);
        let mut rest = ArrayVec::<T, N>::new();
        let mut drain = frames.drain(..);
        for frame in drain.by_ref() {
            if let Err(frame) = self.frames.push(frame) {
                rest.push(frame);
                break;
            }
        }
        rest.extend(drain);
        *frames = rest;
        self.unsent
            .fetch_sub(frames.len() as u64, Ordering::Relaxed);
    }

    /// Takes a frame out, to be said [`Handover::done`] of.
    pub(crate) fn take(&self) -> Option<T> {
        self.frames.pop()
    }

    /// So many frames that were taken out have been sent or refused.
    pub(crate) fn done(&self, count: u64) {
        // Release, with the Acquire of `is_all_sent`: the device has these frames when another worker learns of it.
        self.unsent.fetch_sub(count, Ordering::Release);
    }

    /// Whether there is nothing to take.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        self.frames.is_full()
    }

    /// Whether no frame is on its way: neither in the queue nor in the sender's hand.
    pub(crate) fn is_all_sent(&self) -> bool {
        // Acquire, with the Release of `done`: what is sent from now on is sent later.
        self.unsent.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_on_its_way_until_it_is_said_to_be_sent() {
        let handover = Handover::new(2);
        assert!(handover.is_all_sent());
        let mut frames: ArrayVec<u8, 4> = [1, 2, 3].into_iter().collect();
        handover.put(&mut frames);
        assert_eq!(frames[..], [3], "there was room for two");
        assert!(handover.is_full() && !handover.is_all_sent());
        assert_eq!((handover.take(), handover.take()), (Some(1), Some(2)));
        assert!(handover.is_empty());
        assert!(!handover.is_all_sent(), "they are in somebody's hand");
        handover.done(1);
        assert!(!handover.is_all_sent());
        handover.done(1);
        assert!(handover.is_all_sent());
    }
}
