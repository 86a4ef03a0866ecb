//! The data-plane process: wiring, workers, updates, statistics.
//!
//! [`process`](mod@process) is the life of the process from settings to the last frame; it calls `wiring`
//! (settings to DPDK and engine), starts a `worker` on each core, and then, on the main core, goes on with
//! [`update`] (commands in, snapshots out) `watch` (links and their troubles)
//! and `trace` (frames that an operator wants to see). [`tables`] and [`update`] need
//! neither DPDK nor a thread: tests run them in memory.
#![forbid(unsafe_code)]

mod beside;
mod confine;
mod dealing;
mod error;
mod handover;
mod host;
mod process;
mod quiet;
mod recall;
mod reconnect;
pub mod tables;
mod takeover;
mod trace;
pub mod update;
mod watch;
mod wiring;
mod worker;

pub use error::Error;
pub use process::{Mode, run};
