//! The seam to the host's kernel: who takes the frames of [`crate::exception`].

use std::fmt;

/// The host's kernel, as a worker sees it.
pub trait Host<B>: fmt::Debug + Send {
    /// Takes a frame that came by link number `link`, or gives it back if it has no room, or wants nothing of
    /// that link.
    ///
    /// # Errors
    ///
    /// The frame.
    fn take(&mut self, link: usize, frame: B) -> Result<(), B>;

    /// Whether it wants frames of this link.
    fn wants(&self, link: usize) -> bool;
}

/// What a worker knows about the host.
#[derive(Debug)]
pub(crate) struct Exceptions<B> {
    pub(crate) host: Box<dyn Host<B>>,
    /// Frames a second.
    pub(crate) rate: u32,
    /// The second that is counted, and frames given away in it.
    pub(crate) spent: (u32, u32),
}

impl<B> Exceptions<B> {
    pub(crate) fn new(host: Box<dyn Host<B>>, rate: u32) -> Self {
        Self {
            host,
            rate,
            spent: (0, 0),
        }
    }
}
