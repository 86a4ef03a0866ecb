//! Rewriting frames in place by one translation, without looking anything up.

use engine::family::Family;
use packet::{Buffer, Burst};

/// The least that a NAT does to a frame.
#[derive(Debug)]
pub struct FixedNat<F: Family> {
    translation: F::Translation,
}

impl<F: Family> FixedNat<F> {
    /// Turns every frame into one of tuple `to`.
    #[must_use]
    pub fn new(from: &F::Key, to: &F::Key) -> Self {
        Self {
            translation: F::translate(from, to),
        }
    }

    /// One burst's work.
    #[inline(always)]
    pub fn work<B: Buffer>(&self, burst: &mut Burst<B>, done: &mut Burst<B>) {
        for frame in burst.iter() {
            intrinsics::prefetch(frame.bytes());
        }
        for frame in burst.iter_mut() {
            rewrite::<F>(frame.bytes_mut(), &self.translation, 0x0201_0000_0002);
        }
        done.extend(burst.drain(..));
    }
}

/// Rewrites a TCP frame without options, and its MAC addresses: destination `mac`.
#[inline(always)]
pub fn rewrite<F: Family>(bytes: &mut [u8], translation: &F::Translation, mac: u64) {
    F::rewrite_plain(bytes, translation);
    bytes[..6].copy_from_slice(&mac.to_be_bytes()[2..]);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
}
