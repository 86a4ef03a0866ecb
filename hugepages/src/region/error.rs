//! Roles, how a data plane came to its region, and why a region cannot be had.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::header::Flaw;
use crate::journal::JournalError;
use crate::ring::RingError;

/// What a process is to the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Made or took over the region.
    DataPlane,
    /// Sends commands through it.
    ControlPlane,
    /// Only looks.
    Observer,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DataPlane => "data plane",
            Self::ControlPlane => "control plane",
            Self::Observer => "observer",
        })
    }
}

/// How the data plane came to its region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// There was none.
    Fresh,
    /// There was one that fits: its journal, flows and counters go on.
    TakenOver,
    /// There was one that does not fit, or something else of that name.
    Replaced(Flaw),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => formatter.write_str("new region"),
            Self::TakenOver => formatter.write_str("region taken over"),
            Self::Replaced(flaw) => write!(formatter, "region replaced: {flaw}"),
        }
    }
}

/// Why a region cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// A system call failed.
    #[error("cannot {what} {}: {cause}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// Another process of the same role uses it.
    #[error("the region {} is in use by another {role}{}", path.display(), holder(*pid))]
    InUse {
        /// The region.
        path: PathBuf,
        /// The role that is taken.
        role: Role,
        /// Process id of the other, when it can be told.
        pid: Option<u32>,
    },
    /// The file is no region that this program can use.
    #[error("cannot use the region {}: {flaw}", path.display())]
    Flawed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The folder or a file belongs to a user who may change it under our hands.
    #[error("{} belongs to user {owner}: remove it, or name another path", path.display())]
    Owner {
        /// The folder or file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// The geometry breaks a rule.
    #[error("a region must have {0}")]
    Geometry(&'static str),
    /// The filesystem has not the room.
    #[error(
        "the region {} needs {} MiB, its filesystem has {} MiB free", path.display(),
        wanted >> 20, available >> 20
    )]
    NoSpace {
        /// The region.
        path: PathBuf,
        /// Bytes that the region may come to take.
        wanted: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// This end of the ring or journal belongs to another role.
    #[error("the {role} may not write {what}")]
    Role {
        /// Our role.
        role: Role,
        /// What belongs to another.
        what: &'static str,
    },
    /// A ring in the region is broken.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The journal in the region is broken.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl RegionError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { what, path, cause }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}
