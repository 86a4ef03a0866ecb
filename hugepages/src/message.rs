//! What the processes say to each other.
//!
//! The control plane sends an update as `Begin`, any number of `Put` and `Delete`, `Commit`. The
//! data plane stages it and answers the Commit with `Committed` or `Refused`; nothing of an update
//! is visible before. Whenever the data plane cannot go on from what it has, it says `Replay`, and
//! the control plane sends a full update.

use crate::digest::Digest;
use crate::object::{Object, ObjectId};

/// A command, control plane to data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An update begins. What was staged and not committed is forgotten.
    Begin {
        /// Boot id of the control plane that sends it.
        boot: u64,
        /// Generation that the update leads to.
        generation: u64,
        /// The update holds the whole state: what it does not name is to be removed.
        full: bool,
    },
    /// Add this object or replace the one with its id.
    Put(Object),
    /// Remove this object.
    Delete(ObjectId),
    /// The update is complete: install it.
    Commit {
        /// As in Begin.
        boot: u64,
        /// As in Begin.
        generation: u64,
        /// Number of Put and Delete since Begin.
        changes: u64,
        /// Digest of the state that must result.
        digest: Digest,
    },
}

/// A reply, data plane to control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The update is installed and workers use it.
    Committed {
        /// Its generation.
        generation: u64,
        /// Digest of the installed state.
        digest: Digest,
        /// Time from reading Commit to the snapshot's publication, in nanoseconds.
        nanos: u64,
    },
    /// The update is not installed; the state is as it was before.
    Refused {
        /// Its generation.
        generation: u64,
        /// Why.
        reason: Reason,
    },
    /// Send everything again as a full update.
    Replay {
        /// Why.
        reason: Reason,
    },
}

/// Why the data plane refuses an update or asks for a replay. The number is part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Reason {
    /// The data plane has just started.
    #[error("the data plane has just started")]
    Started = 1,
    /// A record did not decode.
    #[error("a record did not decode")]
    BadRecord = 2,
    /// A command came outside Begin and Commit.
    #[error("a command came outside an update")]
    NoBegin = 3,
    /// Commit names another boot id or generation than Begin.
    #[error("the commit belongs to another update")]
    WrongUpdate = 4,
    /// Not as many changes as Commit says.
    #[error("the number of changes is not what the commit says")]
    WrongCount = 5,
    /// The resulting state has another digest than Commit says.
    #[error("the resulting state is not the one that the commit means")]
    WrongDigest = 6,
    /// An object refers to one that is not there.
    #[error("an object refers to one that does not exist")]
    Dangling = 7,
    /// The journal, or another part of the region, has no room for the state.
    #[error("the region has no room for the state")]
    Full = 8,
    /// The ring was broken and has been reset.
    #[error("the command ring was broken")]
    BrokenRing = 9,
}

impl Reason {
    /// The reason with this number, if there is one.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Started,
            2 => Self::BadRecord,
            3 => Self::NoBegin,
            4 => Self::WrongUpdate,
            5 => Self::WrongCount,
            6 => Self::WrongDigest,
            7 => Self::Dangling,
            8 => Self::Full,
            9 => Self::BrokenRing,
            _ => return None,
        })
    }
}
