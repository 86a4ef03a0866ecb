//! Durations, kept finely enough to draw a curve of their percentiles.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Percentiles of a curve.
pub const PERCENTILES: [f64; 12] = [
    1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0,
];

/// The longest duration that is told from longer ones: an hour, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// Durations since the process started, to one part in a hundred; clones count in the same place.
#[derive(Debug, Clone)]
pub struct Curve(Arc<Mutex<Histogram<u64>>>);

impl Default for Curve {
    fn default() -> Self {
        // One microsecond to an hour with two digits is what such a histogram can hold.
        #[allow(clippy::expect_used, reason = "constants that a test has tried")]
        let histogram = Histogram::new_with_bounds(1, LONGEST, 2).expect("sound bounds");
        Self(Arc::new(Mutex::new(histogram)))
    }
}

impl Curve {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(LONGEST);
        let mut histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(micros.max(1));
    }

    /// How many there were, and the duration in seconds at each of some percentiles; no percentiles of none.
    #[must_use]
    pub fn points(&self) -> (u64, Vec<(f64, f64)>) {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = histogram.len();
        let at = |percentile: f64| {
            let micros = histogram.value_at_percentile(percentile);
            (percentile, micros as f64 / 1e6)
        };
        let shown = PERCENTILES.into_iter().filter(|_| count > 0);
        (count, shown.map(at).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_shows_the_durations_that_it_was_told() {
        let curve = Curve::default();
        assert_eq!(curve.points(), (0, Vec::new()));
        for millis in 1..=100 {
            curve.observe(Duration::from_millis(millis));
        }
        curve.observe(Duration::from_secs(1_000_000));
        let (count, points) = curve.points();
        assert_eq!(count, 101);
        let at = |wanted: f64| points.iter().find(|(at, _)| *at == wanted).unwrap().1;
        assert!((0.050..0.052).contains(&at(50.0)), "{points:?}");
        assert!((0.099..0.102).contains(&at(99.0)), "{points:?}");
        assert!((3_550.0..3_700.0).contains(&at(100.0)), "{points:?}");
    }
}
