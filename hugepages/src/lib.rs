//! The contract between the processes: region, header, rings, records, journal, counters.
//!
//! [`object`] says what the control plane tells the data plane; [`slab`] is how both see the
//! region's memory.

#![deny(unsafe_code)]

pub mod codec;
pub mod cursor;
pub mod digest;
#[cfg_attr(loom, allow(dead_code))]
pub mod header;
pub mod journal;
pub mod layout;
pub mod link_info;
pub mod message;
pub mod object;
pub mod record;
#[cfg(not(loom))]
#[allow(unsafe_code)]
pub mod region;
pub mod ring;
mod seqlock;
#[allow(unsafe_code)]
#[cfg_attr(loom, allow(dead_code))]
pub mod slab;
pub mod sync;

#[cfg(test)]
#[cfg(not(loom))]
mod arbitrary;

pub use digest::Digest;
pub use header::{Flaw, Process, State};
pub use journal::{Journal, JournalError};
pub use layout::Geometry;
pub use link_info::LinkInfo;
pub use message::{Message, Reason, Reply};
pub use record::{Record, RecordError};
#[cfg(not(loom))]
pub use region::{Family, Origin, Region, RegionError, Role};
pub use ring::{Consumer, Producer, RingError};
pub use slab::{Line, Slab, TagLine};
