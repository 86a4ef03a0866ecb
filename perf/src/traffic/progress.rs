//! What the thread that measures lets others see while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Looking for the gateway's MAC address.
    Resolve = 0,
    /// Making the flows.
    Open,
    /// Sending, uncounted.
    WarmUp,
    /// Sending.
    Measure,
    /// Waiting for what is on its way.
    Settle,
    /// Finishing connections.
    Close,
}

const NAMES: [&str; 6] = [
    "looking for the gateway",
    "making flows",
    "warming up",
    "measuring",
    "settling",
    "closing connections",
];

/// Shared between the thread that works and the one that shows.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    turns: AtomicU32,
    sent: AtomicU64,
    received: AtomicU64,
    stop: Arc<AtomicBool>,
}

impl Progress {
    /// Says what is done from here on.
    pub fn enter(&self, phase: Phase) {
        // Relaxed, here and below: each word stands alone and is only shown.
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Every `rarely` calls, by the one thread that works: updates the counts.
    pub fn turn(&self, rarely: u32, counts: impl FnOnce() -> (u64, u64)) {
        let turns = self.turns.load(Ordering::Relaxed).wrapping_add(1);
        self.turns.store(turns, Ordering::Relaxed);
        if turns.is_multiple_of(rarely) {
            let (sent, received) = counts();
            self.sent.store(sent, Ordering::Relaxed);
            self.received.store(received, Ordering::Relaxed);
        }
    }

    /// The flag that asks the thread that works to come to an end; for signals.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Whether it should.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Shows it on stderr every second until `finished`, by the thread that waits.
    pub fn show_until(&self, label: &str, finished: impl Fn() -> bool) {
        let start = Instant::now();
        let mut shown = start;
        while !finished() {
            std::thread::sleep(Duration::from_millis(20));
            if shown.elapsed() >= Duration::from_secs(1) {
                shown = Instant::now();
                eprintln!("{}", self.line(label, start.elapsed()));
            }
        }
    }

    fn line(&self, label: &str, elapsed: Duration) -> String {
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        format!(
            "{label} {:>4} s: {}, {} frames sent, {} received",
            elapsed.as_secs(),
            NAMES.get(phase).unwrap_or(&""),
            self.sent.load(Ordering::Relaxed),
            self.received.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_shown() {
        let progress = Progress::default();
        progress.enter(Phase::Measure);
        progress.turn(1, || (7, 5));
        let line = progress.line("gen", Duration::from_secs(3));
        assert_eq!(line, "gen    3 s: measuring, 7 frames sent, 5 received");
        assert!(!progress.is_stopped());
        progress.stop_flag().store(true, Ordering::Relaxed);
        assert!(progress.is_stopped());
    }
}
