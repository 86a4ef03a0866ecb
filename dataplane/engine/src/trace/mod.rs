//! Traces: what an operator asks to see of frames, and what is seen of each on its way through the real pipeline.
//!
//! A [`Tracer`] is an observer of the pipeline ([`crate::observe`]): it writes down what it is told and decides nothing.
//! Which frames it is shown is decided by a [`Request`]; what it writes is a [`Record`]. Requests and records travel
//! as lines of JSON ([`Message`]) over a socket beside the region, between the operator's command and the main core.
//!
//! Who may call whom: `tracer` calls `ends` and `record`; all use `request`.

mod ends;
mod record;
mod request;
mod tracer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use record::{Image, MAIN_CORE, Out, Record, STEPS, Step};
pub use request::{Pattern, Request};
pub use tracer::{Sheets, Tracer};

/// What the data plane answers to a request, a line of JSON each.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Frames are traced from now on.
    Begun,
    /// One frame.
    Frame(Box<Record>),
    /// The trace is over.
    Ended(Summary),
    /// There is no trace, for this reason.
    Refused(String),
}

/// How a trace has ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Summary {
    /// Why: `limit`, `time` or `takeover`.
    pub why: String,
    /// Frames told.
    pub frames: u64,
    /// Frames that workers looked at.
    pub examined: u64,
    /// Frames that passed without a look, to spare the workers.
    pub unexamined: u64,
    /// Frames that matched and were not told: more a second than asked for.
    pub missed: u64,
}

/// The socket beside a region where traces are asked for.
#[must_use]
pub fn socket_path(region: &Path) -> PathBuf {
    let mut name = region.as_os_str().to_owned();
    name.push(".trace");
    PathBuf::from(name)
}
