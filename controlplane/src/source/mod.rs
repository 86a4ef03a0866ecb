//! Where the cluster's objects come from.
//!
//! A source runs by itself and sends [`SourceEvent`]s. Whatever happens to it, what it said last
//! stays in force.

mod event;
pub mod kubernetes;
pub mod manifests;

pub use event::{Change, Events, SourceEvent};
