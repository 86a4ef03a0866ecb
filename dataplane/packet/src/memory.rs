//! Buffers, pool and link in ordinary memory: the second implementation of the seam.

use std::collections::VecDeque;

use crate::buffer::{Buffer, Burst, Link, Pool};

/// Free bytes in front of a fresh frame, as DPDK leaves them (`RTE_PKTMBUF_HEADROOM`).
pub const HEADROOM: usize = 128;

/// A frame on the heap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeapBuffer {
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl HeapBuffer {
    /// Room for `capacity` bytes behind [`HEADROOM`]; empty.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            storage: vec![0; HEADROOM + capacity],
            start: HEADROOM,
            end: HEADROOM,
        }
    }

    /// A frame of these bytes, with room to grow to 2 KiB.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut buffer = Self::with_capacity(bytes.len().max(2048));
        buffer.storage[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        buffer.end = HEADROOM + bytes.len();
        buffer
    }
}

impl Buffer for HeapBuffer {
    fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }

    fn is_contiguous(&self) -> bool {
        true
    }

    fn grow_front(&mut self, count: usize) -> bool {
        let fits = count <= self.start;
        if fits {
            self.start -= count;
        }
        fits
    }

    fn trim_front(&mut self, count: usize) -> bool {
        let fits = count <= self.end - self.start;
        if fits {
            self.start += count;
        }
        fits
    }

    fn set_len(&mut self, len: usize) -> bool {
        let end = self
            .start
            .checked_add(len)
            .filter(|end| *end <= self.storage.len());
        if let Some(end) = end {
            self.end = end;
        }
        end.is_some()
    }
}

/// A pool that never runs dry unless told to.
#[derive(Debug)]
pub struct HeapPool {
    /// How many buffers it still gives.
    pub left: usize,
}

impl Default for HeapPool {
    fn default() -> Self {
        Self { left: usize::MAX }
    }
}

impl Pool for HeapPool {
    type Buffer = HeapBuffer;

    fn alloc(&mut self) -> Option<HeapBuffer> {
        self.left = self.left.checked_sub(1)?;
        Some(HeapBuffer::with_capacity(2048))
    }
}

/// A link whose far side is the test: frames put into `incoming` are received, sent ones end up in
/// `outgoing`.
#[derive(Debug, Default)]
pub struct MemoryLink {
    /// Frames waiting to be received.
    pub incoming: VecDeque<HeapBuffer>,
    /// Frames sent.
    pub outgoing: VecDeque<HeapBuffer>,
}

impl Link for MemoryLink {
    type Buffer = HeapBuffer;

    fn rx_burst(&mut self, frames: &mut Burst<HeapBuffer>) -> usize {
        let count = self.incoming.len().min(frames.remaining_capacity());
        frames.extend(self.incoming.drain(..count));
        count
    }

    fn tx_burst(&mut self, frames: &mut Burst<HeapBuffer>) -> usize {
        let count = frames.len();
        self.outgoing.extend(frames.drain(..));
        count
    }
}
