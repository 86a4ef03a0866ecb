//! What is known of fragments of translated datagrams, without putting them together.
//!
//! Only the first fragment has ports. What becomes of it is kept under what all fragments of a datagram
//! share ([`datagrams`]), shared by all workers, because the fragments may arrive at different ones.
//! Fragments that come before the first wait, as frames, at the worker that received them ([`parked`]);
//! the worker that then decides about the first wakes it. Which parts of a datagram have been seen is kept
//! as a few spans ([`spans`]), so that nothing overlaps that is sent on. [`crate::fragment`](mod@crate::fragment)
//! is a fragment's way through a worker.

mod datagrams;
mod ids;
mod parked;
mod spans;

pub use datagrams::Fragments;
pub(crate) use datagrams::{Datagrams, Fate, Identity, Noted};
pub(crate) use parked::{Fragment, Parked, Waiting};
