//! When each frame should be sent: open loop, whatever becomes of the frames before it.

/// A rate from a moment on.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    start: u64,
    /// Frames a nanosecond; `None` = as fast as they are taken.
    rate: Option<f64>,
}

impl Pace {
    /// `rate` frames a second from `start` (nanoseconds of CLOCK_MONOTONIC) on; `None` = all at once.
    #[must_use]
    pub fn new(start: u64, rate: Option<f64>) -> Self {
        Self {
            start,
            rate: rate.map(|rate| rate / 1e9),
        }
    }

    /// How many frames should have been sent by `now`.
    #[must_use]
    pub fn due(&self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.start);
        match self.rate {
            Some(rate) => (elapsed as f64 * rate) as u64,
            None => u64::MAX,
        }
    }

    /// When frame number `sequence` should be sent; at full speed that is now.
    #[must_use]
    pub fn time(&self, sequence: u64, now: u64) -> u64 {
        match self.rate {
            // Frame n is the (n + 1)th.
            Some(rate) => self.start + ((sequence + 1) as f64 / rate) as u64,
            None => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_when_their_time_has_come() {
        for rate in [1.0, 3.0, 1e6, 14_880_952.0] {
            let pace = Pace::new(500, Some(rate));
            assert_eq!(pace.due(500), 0);
            assert_eq!(pace.due(0), 0);
            for sequence in [0, 1, 2, 1000, 12_345_678] {
                let time = pace.time(sequence, 0);
                // Times are whole nanoseconds: rounded down, the frame may be due the next one.
                assert!(pace.due(time + 2) > sequence, "{rate} {sequence}");
                assert!(pace.due(time.saturating_sub(2)) <= sequence + 1);
            }
            assert_eq!(pace.due(500 + 10_000_000_001), (rate * 10.0) as u64);
        }
    }

    #[test]
    fn at_full_speed_every_frame_is_due_and_meant_for_now() {
        let pace = Pace::new(500, None);
        assert_eq!((pace.due(500), pace.time(7, 600)), (u64::MAX, 600));
    }
}
