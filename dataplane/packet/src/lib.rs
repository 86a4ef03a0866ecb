//! Bytes only: frame views, one-pass parse, rewrite, checksums. No decisions, no tables.
#![forbid(unsafe_code)]

pub mod answer;
pub mod arp;
pub mod buffer;
pub mod build;
pub mod checksum;
pub mod ethernet;
mod field;
pub mod fragment;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod memory;
pub mod mss;
pub mod ndp;
pub mod parse;
pub mod plain;
pub mod reset;
pub mod rewrite;
pub mod sctp;
pub mod segment;
pub mod tcp;
pub mod tuple;

pub use buffer::{BURST, Buffer, Burst, Link, Pool};
