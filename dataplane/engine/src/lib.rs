//! Decisions only: services, backend choice, flow table, NAT, pipeline over a burst.
#![forbid(unsafe_code)]

pub mod counters;
pub mod family;
pub mod flow;
pub mod install;
pub mod maglev;
pub mod publish;
pub mod reason;
pub mod route;
pub mod service;
pub mod slots;
pub mod snapshot;
pub mod topology;
