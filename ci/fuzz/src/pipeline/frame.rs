//! Buffers as awkward as a device's: in several segments, without room, or none at all.

use packet::{Buffer, Pool};

/// Free bytes in front of a fresh frame.
const HEADROOM: usize = 128;

/// Bytes of a buffer.
const SIZE: usize = HEADROOM + 2048;

/// What room that was asked for is filled with: it is of unspecified content.
const STALE: u8 = 0xa5;

/// A frame.
#[derive(Debug, Clone)]
pub struct Frame {
    storage: Vec<u8>,
    start: usize,
    is_contiguous: bool,
}

impl Frame {
    /// A frame of these bytes, of which at most 2 KiB are used.
    #[must_use]
    pub fn new(bytes: &[u8], headroom: usize, is_contiguous: bool) -> Self {
        let start = headroom.min(HEADROOM);
        let bytes = &bytes[..bytes.len().min(SIZE - start)];
        let mut storage = Vec::with_capacity(SIZE);
        storage.resize(start, STALE);
        storage.extend_from_slice(bytes);
        Self {
            storage,
            start,
            is_contiguous,
        }
    }
}

impl Buffer for Frame {
    fn bytes(&self) -> &[u8] {
        &self.storage[self.start..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..]
    }

    fn is_contiguous(&self) -> bool {
        self.is_contiguous
    }

    fn grow_front(&mut self, count: usize) -> bool {
        let fits = count <= self.start;
        if fits {
            self.start -= count;
            self.storage[self.start..self.start + count].fill(STALE);
        }
        fits
    }

    fn trim_front(&mut self, count: usize) -> bool {
        let fits = count <= self.storage.len() - self.start;
        if fits {
            self.start += count;
        }
        fits
    }

    fn set_len(&mut self, len: usize) -> bool {
        let fits = self.start + len <= SIZE;
        if fits {
            self.storage.resize(self.start + len, STALE);
        }
        fits
    }
}

/// A pool that may run dry.
#[derive(Debug, Default)]
pub struct FramePool {
    /// How many buffers it still gives.
    pub left: usize,
}

impl Pool for FramePool {
    type Buffer = Frame;

    fn alloc(&mut self) -> Option<Frame> {
        self.left = self.left.checked_sub(1)?;
        Some(Frame::new(&[], HEADROOM, true))
    }
}
