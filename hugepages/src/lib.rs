//! The contract between the processes: region, header, rings, records, journal, counters.
//!
//! [`object`] says what the control plane tells the data plane; [`slab`] is how both see the
//! region's memory.

pub mod object;
pub mod slab;
pub mod sync;

pub use slab::{Line, Slab, TagLine};
