//! The contract between the processes: region, header, rings, records, journal, counters.
//!
//! [`object`] says what the control plane tells the data plane; [`slab`] is how both see the
//! region's memory.

#![deny(unsafe_code)]

pub mod codec;
pub mod cursor;
pub mod digest;
pub mod message;
pub mod object;
pub mod record;
pub mod ring;
#[allow(unsafe_code)]
pub mod slab;
pub mod sync;

#[cfg(all(test, not(loom)))]
mod arbitrary;

pub use digest::Digest;
pub use message::{Message, Reason, Reply};
pub use record::{Record, RecordError};
pub use slab::{Line, Slab, TagLine};
