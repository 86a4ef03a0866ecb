//! Decisions only: services, backend choice, flow table, NAT, pipeline over a burst.
//!
//! No DPDK, no clock, no thread: [`pipeline::Pipeline::process`] takes the time and a burst. The same
//! code runs in workers, tests, fuzzers and `portgate explain`.
//!
//! The order in which to read: [`pipeline`] (a frame's way), [`flow`] (the table of flows),
//! [`first`](mod@first) (how a flow is made), [`service`] (the decision), [`snapshot`] and
//! [`install`] (where decisions come from), [`egress`], [`neighbour`] and [`local`](mod@local)
//! (the way out, and answers).
//!
//! Who may call whom: `pipeline` calls `first`, `local` and `egress`; these call tables and
//! `service`; `install` runs on the main core and reaches workers through `publish` alone.
#![forbid(unsafe_code)]

pub mod affinity;
mod alone;
mod carry;
mod clamp;
mod classify;
pub mod counters;
mod cut;
pub mod departures;
pub mod egress;
pub mod endpoints;
mod exception;
pub mod family;
pub mod fan_out;
mod fast;
mod first;
pub mod flow;
mod fragment;
pub mod fragments;
mod gone;
pub mod host;
pub mod install;
mod lane;
pub mod limits;
mod local;
pub mod maglev;
pub mod neighbour;
pub mod observe;
mod openings;
pub mod orders;
pub mod pipeline;
pub mod publish;
mod quoted;
mod ranges;
pub mod rates;
pub mod reason;
pub mod route;
pub mod service;
pub mod settle;
pub mod shared;
pub mod slots;
pub mod snapshot;
mod snat;
pub mod sweep;
pub mod times;
pub mod topology;
mod towards;
pub mod trace;
mod ways;

pub use host::Host;
pub use pipeline::{Now, Pipeline};
pub use reason::Reason;
pub use shared::Shared;
pub use snat::usable_ports;
