//! Traces: the main core takes an operator's request ([`desk`]), workers fill in what they see ([`tap`]).
//!
//! While nobody asks, a worker reads one flag a burst. While somebody does, it looks at as many frames a second as the
//! request allows, and sends those that are asked for through the pipeline one by one, with an observer.

mod desk;
mod plan;
mod tap;

pub(crate) use desk::Desk;
pub(crate) use tap::{Tap, WorkerTracer};
