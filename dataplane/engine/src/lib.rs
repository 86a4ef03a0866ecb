//! Decisions only: services, backend choice, flow table, NAT, pipeline over a burst.
#![forbid(unsafe_code)]

pub mod family;
pub mod flow;
