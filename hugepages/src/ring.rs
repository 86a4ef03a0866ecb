//! Records from one process to the other: one producer, one consumer, no waiting.
//!
//! # Byte layout
//!
//! Two pieces of memory, so that each side can be kept from writing the other's. The producer's:
//!
//! | line | word | meaning |
//! |-----:|-----:|---------|
//! | 0 | 0 | tail: records published since the ring was made |
//! | 1 + 2 s, 2 + 2 s | all | the record in slot s |
//!
//! and the consumer's, one line:
//!
//! | line | word | meaning |
//! |-----:|-----:|---------|
//! | 0 | 0 | head: records consumed since the ring was made |
//!
//! # Why it is right
//!
//! Two pairs of orderings carry the argument:
//!
//! 1. The producer's Release store of the tail meets the consumer's Acquire load of it: whoever
//!    sees the tail sees the words of every record before it.
//! 2. The consumer's Release store of the head meets the producer's Acquire load of it: when the
//!    producer sees that a slot is free, the consumer has finished reading it.
//!
//! Nothing else is ordered, and words are Relaxed atomics, so even a broken peer causes wrong
//! records, which the decoder refuses, but no undefined behaviour. Either side may be killed at any
//! point: a record is published by the one store of the tail, or not at all. A side that starts
//! again goes on from its own position in the region.

use crate::cursor::{Cursor, Overrun};
use crate::record::{Record, WORDS};
use crate::slab::{Line, Slab};
use crate::sync::{AtomicU64, Ordering};

/// Lines of the producer's memory before the first slot.
const HEADER: usize = 1;

/// Lines of the consumer's memory.
pub const READER_LINES: usize = 1;

/// Lines of a slot.
const SLOT: usize = 2;

/// Lines of the producer's memory in a ring of this many records.
#[must_use]
pub const fn lines(records: usize) -> usize {
    HEADER + SLOT * records
}

/// Why a ring cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The memory does not hold a power of two of records.
    #[error("{lines} cache lines do not make a ring")]
    Size {
        /// Lines of the memory.
        lines: usize,
    },
    /// The positions are impossible: the other process is broken.
    #[error(transparent)]
    Overrun(#[from] Overrun),
}

/// The memory of a ring, as both sides share it.
#[derive(Debug, Clone)]
pub struct Memory {
    /// What the producer writes: [`lines`].
    pub sent: Slab<Line>,
    /// What the consumer writes: [`READER_LINES`].
    pub read: Slab<Line>,
}

impl Memory {
    /// A new ring's memory on the heap, for so many records.
    #[must_use]
    pub fn heap(records: usize) -> Self {
        Self {
            sent: Slab::heap(lines(records)),
            read: Slab::heap(READER_LINES),
        }
    }
}

/// The ring's memory and arithmetic, the same for both sides.
#[derive(Debug)]
struct Ring {
    memory: Memory,
    cursor: Cursor,
}

impl Ring {
    fn new(memory: Memory) -> Result<Self, RingError> {
        let lines = memory.sent.len();
        let size = RingError::Size { lines };
        let slots = lines.checked_sub(HEADER).ok_or(size)?;
        let cursor = Cursor::new((slots / SLOT) as u64).ok_or(size)?;
        if slots % SLOT == 0 && memory.read.len() == READER_LINES {
            Ok(Self { memory, cursor })
        } else {
            Err(size)
        }
    }

    fn tail(&self) -> &AtomicU64 {
        &self.memory.sent[0].0[0]
    }

    fn head(&self) -> &AtomicU64 {
        &self.memory.read[0].0[0]
    }

    fn words(&self, position: u64) -> impl Iterator<Item = &AtomicU64> {
        let first = HEADER + SLOT * self.cursor.slot(position);
        self.memory.sent[first..first + SLOT]
            .iter()
            .flat_map(|line| &line.0)
    }
}

/// The side that sends.
#[derive(Debug)]
pub struct Producer {
    ring: Ring,
    /// Our own copy of the tail, which nobody else writes.
    tail: u64,
}

impl Producer {
    /// The producer of the ring in this memory, going on where the last one stopped.
    ///
    /// # Errors
    ///
    /// [`RingError::Size`].
    pub fn attach(memory: Memory) -> Result<Self, RingError> {
        let ring = Ring::new(memory)?;
        // Relaxed: only producers store it, and a former process's stores are long done.
        let tail = ring.tail().load(Ordering::Relaxed);
        Ok(Self { ring, tail })
    }

    /// Sends as many of the records as there is room for, from the front; returns how many. The
    /// rest are for another call. An impossible head of the consumer counts as no room:
    /// [`Producer::room`] tells.
    pub fn push_all(&mut self, records: &[Record]) -> usize {
        let fitting = records.len().min(self.room().unwrap_or(0));
        for record in &records[..fitting] {
            for (place, word) in self.ring.words(self.tail).zip(record.to_words()) {
                place.store(word, Ordering::Relaxed);
            }
            self.tail = self.tail.wrapping_add(1);
        }
        if fitting > 0 {
            // Release, meets the Acquire in `Consumer::waiting`: the words above become visible.
            self.ring.tail().store(self.tail, Ordering::Release);
        }
        fitting
    }

    /// Records for which there is room.
    ///
    /// # Errors
    ///
    /// [`RingError::Overrun`] when the consumer's position is impossible.
    pub fn room(&self) -> Result<usize, RingError> {
        // Acquire, meets the Release in `Consumer::pop`: free slots have been read to the end.
        let head = self.ring.head().load(Ordering::Acquire);
        Ok(self.ring.cursor.free(head, self.tail)? as usize)
    }

    /// Slots of the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.cursor.capacity() as usize
    }
}

/// The side that receives.
#[derive(Debug)]
pub struct Consumer {
    ring: Ring,
    /// Our own copy of the head, which nobody else writes.
    head: u64,
}

impl Consumer {
    /// The consumer of the ring in this memory, going on where the last one stopped.
    ///
    /// # Errors
    ///
    /// [`RingError::Size`].
    pub fn attach(memory: Memory) -> Result<Self, RingError> {
        let ring = Ring::new(memory)?;
        // Relaxed: only consumers store it, and a former process's stores are long done.
        let head = ring.head().load(Ordering::Relaxed);
        Ok(Self { ring, head })
    }

    /// The next record, if there is one. It is a copy: validate it, then trust it.
    ///
    /// # Errors
    ///
    /// [`RingError::Overrun`] when the producer's position is impossible; nothing is consumed.
    /// [`Consumer::clear`] makes the ring usable again.
    pub fn pop(&mut self) -> Result<Option<Record>, RingError> {
        if self.waiting()? == 0 {
            return Ok(None);
        }
        let mut words = [0; WORDS];
        for (word, place) in words.iter_mut().zip(self.ring.words(self.head)) {
            *word = place.load(Ordering::Relaxed);
        }
        self.advance(self.head.wrapping_add(1));
        Ok(Some(Record::from_words(words)))
    }

    /// Records that wait to be consumed.
    ///
    /// # Errors
    ///
    /// [`RingError::Overrun`] when the producer's position is impossible.
    pub fn waiting(&self) -> Result<usize, RingError> {
        // Acquire, meets the Release in `Producer::push_all`: the words up to the tail are there.
        let tail = self.ring.tail().load(Ordering::Acquire);
        Ok(self.ring.cursor.used(self.head, tail)? as usize)
    }

    /// Slots of the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.cursor.capacity() as usize
    }

    /// Throws away everything published so far, also when the positions were impossible.
    pub fn clear(&mut self) {
        let tail = self.ring.tail().load(Ordering::Acquire);
        self.advance(tail);
    }

    fn advance(&mut self, head: u64) {
        self.head = head;
        // Release, meets the Acquire in `Producer::room`: our loads of the slots before are done.
        self.ring.head().store(head, Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
#[path = "ring_tests.rs"]
mod tests;

#[cfg(test)]
#[cfg(loom)]
#[path = "ring_loom.rs"]
mod loom_tests;
