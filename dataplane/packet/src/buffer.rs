//! Where a frame's bytes live, and the seam to whatever carries frames.
//!
//! The packet path is generic over [`Buffer`], [`Pool`] and [`Link`] and monomorphised: DPDK's mbufs
//! and ports implement them for production, heap buffers and in-memory links for tests,
//! fuzzers and `portgate explain`. Nothing here is `dyn`.

use arrayvec::ArrayVec;

/// Frames handled together: one rx or tx call moves at most this many.
pub const BURST: usize = 32;

/// A burst of frames, in order of arrival.
pub type Burst<B> = ArrayVec<B, BURST>;

/// The storage of one frame. Dropping it gives the storage back to where it came from.
///
/// The bytes start at the Ethernet header and are contiguous; a frame in several segments shows
/// its first segment only and says so through [`Buffer::is_contiguous`].
pub trait Buffer {
    /// The frame's bytes.
    fn bytes(&self) -> &[u8];

    /// The frame's bytes, to change.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Whether all bytes of the frame are in [`Buffer::bytes`].
    fn is_contiguous(&self) -> bool;

    /// Makes room for `count` more bytes at the front, of unspecified content. False, and nothing
    /// changed, if there is no such headroom.
    fn grow_front(&mut self, count: usize) -> bool;

    /// Removes `count` bytes at the front. False, and nothing changed, if it has fewer.
    fn trim_front(&mut self, count: usize) -> bool;

    /// Sets the length, cutting at the end or adding bytes of unspecified content there. False,
    /// and nothing changed, if there is no such tailroom.
    fn set_len(&mut self, len: usize) -> bool;
}

/// Where fresh buffers come from, for frames that the gateway itself starts (ARP, NDP).
pub trait Pool {
    /// Its buffers.
    type Buffer: Buffer;

    /// An empty buffer (length 0), or `None` when the pool has none left.
    fn alloc(&mut self) -> Option<Self::Buffer>;
}

/// One queue of a NIC side, as one worker sees it.
pub trait Link {
    /// Its buffers.
    type Buffer: Buffer;

    /// Appends received frames to `frames`, up to its capacity; returns how many.
    fn rx_burst(&mut self, frames: &mut Burst<Self::Buffer>) -> usize;

    /// Sends from the front of `frames` and removes what was taken; returns how many. What it
    /// leaves, the device had no room for.
    fn tx_burst(&mut self, frames: &mut Burst<Self::Buffer>) -> usize;
}
