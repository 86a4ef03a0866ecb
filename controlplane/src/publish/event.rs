//! What becomes of updates.

use std::time::Duration;

use hugepages::Reason;

/// Something worth a log line or a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The region is attached.
    Attached,
    /// The region cannot be attached or has become unusable.
    Detached(String),
    /// An update has been sent to the ring's producer side (perhaps not all of it yet).
    Began {
        /// Its generation.
        generation: u64,
        /// Whether it holds the whole state.
        full: bool,
        /// Number of Puts and Deletes.
        changes: usize,
    },
    /// The data plane has installed an update.
    Committed {
        /// Its generation.
        generation: u64,
        /// From the first record to the answer.
        latency: Duration,
    },
    /// The data plane has not installed an update.
    Refused(Reason),
    /// The data plane wants everything again.
    Replay(Reason),
    /// The installed state is not the wanted one although all updates were confirmed.
    DigestMismatch,
    /// The data plane has taken an update and not answered it.
    NoAnswer,
    /// A reply that means nothing.
    BadReply,
}
