//! Brings the data plane to the desired state, whatever either side has been through.
//!
//! A state machine without a clock and without threads: [`Publisher::poll`] is told the time, does
//! what can be done without waiting, and says when to come back. One update is under way at a time;
//! what changes meanwhile becomes one update after it, so bursts coalesce by themselves while a
//! first change goes out at once.
//!
//! | event | what follows |
//! |-------|--------------|
//! | no region, region replaced, ring broken | attach again (with backoff), then a full update |
//! | data plane's boot id changed, `Replay` | full update |
//! | `Refused`, or an answer of another digest | full update, later and later if it repeats |
//! | ring full | wait; changes coalesce |
//! | everything taken but no answer for a while | full update |
//! | quiet, and the installed digest is not the wanted one | full update |

mod backoff;
mod channel;
mod event;
mod link;
mod publisher;
mod region;

pub use channel::{Broken, Channel, Connector};
pub use event::Event;
pub use publisher::Publisher;
pub use region::RegionConnector;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
