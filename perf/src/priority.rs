//! Going first while something is timed.
//!
//! With `kernel.sched_autogroup_enabled` a nice value weighs only among the processes of one session;
//! among sessions the autogroup's own counts. So both are raised.

use std::fs;

const AUTOGROUP: &str = "/proc/self/autogroup";

/// Raised priority, until dropped.
#[derive(Debug)]
pub struct Raised {
    autogroup_before: Option<String>,
}

impl Raised {
    /// Raises as far as this user may; a measurement without is only noisier.
    #[must_use]
    pub fn now() -> Self {
        // An error means the limit RLIMIT_NICE: see above.
        let _ = rustix::process::nice(-19);
        // "/autogroup-64 nice 0"
        let before = fs::read_to_string(AUTOGROUP).ok().and_then(|text| {
            text.trim()
                .rsplit_once(' ')
                .map(|(_, nice)| nice.to_owned())
        });
        let raised = fs::write(AUTOGROUP, "-19").is_ok();
        Self {
            autogroup_before: before.filter(|_| raised),
        }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(before) = &self.autogroup_before {
            // The session may be a user's shell, which should not stay ahead of everybody.
            let _ = fs::write(AUTOGROUP, before);
        }
    }
}
