//! The lock-free flow table that all workers share.
//!
//! [`table`] finds, inserts and removes; [`entry`] is one entry and how it is read while others write;
//! [`state`] is what is known of a flow; [`age`] forgets; `gone` marks flows whose endpoint is gone.

pub mod age;
pub mod entry;
mod gone;
pub mod state;
pub mod table;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use age::FlowView;
pub(crate) use entry::Entries;
pub use entry::{Direction, Hit, Hop, Life, NO_ROUTES, ROUTE_GENERATIONS};
pub use state::{State, Timeouts};
pub use table::{FlowTable, InsertError, Inserted, NewFlow, Place};
