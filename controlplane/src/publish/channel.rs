//! The way to the data plane, as far as publishing needs it.

use hugepages::{Digest, Record};

/// Why a channel can no longer be used. It is dropped and made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// A command ring and a reply ring, and what the region's header says about the other side.
pub trait Channel {
    /// Sends as many of the records as there is room for, from the front; returns how many.
    ///
    /// # Errors
    ///
    /// The command ring is broken.
    fn send(&mut self, records: &[Record]) -> Result<usize, Broken>;

    /// The next reply that has come, if any.
    ///
    /// # Errors
    ///
    /// The reply ring is broken.
    fn receive(&mut self) -> Result<Option<Record>, Broken>;

    /// Whether the data plane has taken everything that was sent.
    ///
    /// # Errors
    ///
    /// The command ring is broken.
    fn is_drained(&self) -> Result<bool, Broken>;

    /// Boot id under which this control plane uses the region; never 0.
    fn boot(&self) -> u64;

    /// Boot id of the data plane that uses the region; 0 = none yet.
    fn peer_boot(&self) -> u64;

    /// Generation and digest of the state that the data plane says it has installed; `None` when
    /// that cannot be told.
    fn installed(&self) -> Option<(u64, Digest)>;

    /// Says which state this control plane wants.
    fn report(&mut self, generation: u64, digest: Digest);

    /// Says that this control plane is alive.
    fn beat(&mut self);

    /// Whether the region is still the one that a new process would find.
    fn is_current(&self) -> bool;
}

/// Makes channels.
pub trait Connector {
    /// What it makes.
    type Channel: Channel + std::fmt::Debug;

    /// Attaches to the region and announces this control plane under a new boot id.
    ///
    /// # Errors
    ///
    /// A sentence: there is no region yet, or it cannot be used.
    fn connect(&mut self) -> Result<Self::Channel, Broken>;
}
