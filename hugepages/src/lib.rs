//! The contract between the processes: region, header, rings, records, journal, counters.
//!
//! The control plane decides, the data plane looks up; this crate is all that they share. Both map
//! one file, the [`Region`]; the operator's command maps it read-only. The layers, each knowing
//! only those below it:
//!
//! | layer | modules | knows |
//! |-------|---------|-------|
//! | region | [`region`], [`header`], [`layout`] | files, locks, who is alive, where what lies |
//! | state | [`journal`], [`digest`] | what is installed, whole after any kill |
//! | talk | [`ring`], [`cursor`], [`message`], [`codec`] | commands one way, replies the other |
//! | words | [`record`], [`object`], [`link_info`], [`offloads`] | bytes and their meaning |
//! | memory | [`slab`], [`sync`] | atomics in cache lines |
//!
//! Beside them stands [`host`]: what the machine must give before there is a region or a frame, and the
//! command `portgate-hugepages` that shows it and sets it up.
//!
//! Rules that hold everywhere:
//!
//! * The other process is not trusted to be correct. Everything that it writes is copied out, then
//!   validated; what is impossible is a typed error, never a panic or a wrap.
//! * Shared memory is atomics and nothing else, so no write of another process is undefined
//!   behaviour here. Each ordering names its partner.
//! * Either process may be killed between any two stores. Whatever must change together becomes
//!   visible by one store.
//!
//! `unsafe` is confined to the mapping of the region and to slabs.

#![deny(unsafe_code)]

pub mod codec;
pub mod cursor;
pub mod digest;
#[cfg_attr(loom, allow(dead_code))]
pub mod header;
#[cfg(not(loom))]
pub mod host;
pub mod journal;
pub mod layout;
pub mod link_info;
pub mod message;
pub mod object;
pub mod offloads;
pub mod record;
#[cfg(not(loom))]
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
pub use link_info::{FanOut, LinkErrors, LinkInfo, Queues, worker_of_queue};
pub use message::{Message, Reason, Reply};
pub use record::{Record, RecordError};
#[cfg(not(loom))]
pub use region::{Family, Origin, Region, RegionError, RingFill, Role};
pub use ring::{Consumer, Producer, RingError};
pub use slab::{HalfLine, Line, Slab, TagLine};
