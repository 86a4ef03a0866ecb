//! Bytes only: frame views, one-pass parse, rewrite, checksums. No decisions, no tables.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod checksum;
pub mod memory;
pub mod parse;
pub mod rewrite;
pub mod sctp;
pub mod tuple;

pub use buffer::{BURST, Buffer, Burst, Link, Pool};
