//! The lock-free flow table that all workers share.
//!
//! [`table`] finds and removes; [`insert`] inserts; [`entry`] is one entry and how it is read while others write;
//! [`state`] is what is known of a flow; [`age`] forgets; `gone` marks flows whose endpoint is gone.

pub mod age;
pub mod entry;
mod gone;
pub mod insert;
pub mod state;
pub mod table;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use age::FlowView;
pub(crate) use entry::Entries;
pub use entry::{Direction, Hit, Hop, Life, NO_ROUTES, ROUTE_GENERATIONS};
pub use insert::{InsertError, Inserted, NewFlow};
pub use state::{State, Timeouts};
pub use table::{FlowTable, Place};
