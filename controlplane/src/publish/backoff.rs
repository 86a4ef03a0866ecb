//! Waits between attempts.

use std::time::{Duration, Instant};

/// Shortest and longest wait between attempts that fail.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// When something that failed may be tried again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    pub(super) fn failed(&mut self, now: Instant) {
        let wait = RETRY
            .0
            .saturating_mul(1 << self.failures.min(16))
            .min(RETRY.1);
        self.failures += 1;
        self.not_before = Some(now + wait);
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.not_before
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}
