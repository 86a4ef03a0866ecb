//! How often something took how long.

use engine::counters::Counters;
use engine::times;
use serde_json::{Value, json};

/// What is shown of a histogram: the name and the part of all that took no longer.
pub const QUANTILES: [(&str, f64); 8] = [
    ("p10", 0.1),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];

/// Counts by time.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Seconds.
    from: f64,
    to: f64,
    count: u64,
}

impl Histogram {
    /// A worker's bursts by the time that they took from rx to tx, of those that were timed.
    #[must_use]
    pub fn of_bursts(worker: &Counters) -> Self {
        let seconds = |bucket| times::start(bucket) as f64 / 1e9;
        let counts = worker.times().into_iter().enumerate();
        Self::new(counts.map(|(at, count)| (seconds(at), seconds(at + 1), count)))
    }

    /// From the bounds of each bucket, in seconds, and its count; in the order of the bounds.
    #[must_use]
    pub fn new(buckets: impl Iterator<Item = (f64, f64, u64)>) -> Self {
        let bucket = |(from, to, count)| Bucket { from, to, count };
        Self {
            buckets: buckets.map(bucket).collect(),
        }
    }

    /// All that was counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// Leaves out what had been counted before.
    pub fn subtract(&mut self, before: &Self) {
        for (bucket, before) in self.buckets.iter_mut().zip(&before.buckets) {
            bucket.count = bucket.count.saturating_sub(before.count);
        }
    }

    /// Counts what others have counted in the same buckets, too.
    pub fn add(&mut self, other: &Self) {
        for (bucket, other) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.count += other.count;
        }
    }

    /// The sum of all times in seconds, as if each were the middle of its bucket.
    #[must_use]
    pub fn sum(&self) -> f64 {
        let of = |Bucket { from, to, count }: &Bucket| {
            // A bucket without an end tells no more than its start.
            let middle = if to.is_finite() {
                (from + to) / 2.0
            } else {
                *from
            };
            *count as f64 * middle
        };
        self.buckets.iter().map(of).sum()
    }

    /// Counts between these bounds in seconds, the first from zero on, and one more for what is beyond the last.
    /// A bucket counts where it begins; so bounds should be bounds of buckets.
    #[must_use]
    pub fn between(&self, bounds: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 1];
        for bucket in &self.buckets {
            counts[bounds.partition_point(|bound| *bound <= bucket.from)] += bucket.count;
        }
        counts
    }

    /// The time in seconds that this part of all did not exceed; within a bucket as if its counts were spread
    /// evenly. 0 if nothing was counted.
    #[must_use]
    pub fn quantile(&self, part: f64) -> f64 {
        let wanted = (part * self.count() as f64).max(1.0);
        let mut below = 0.0;
        let mut longest = 0.0;
        for Bucket { from, to, count } in self.buckets.iter().filter(|bucket| bucket.count > 0) {
            let count = *count as f64;
            // A bucket without an end tells no more than its start.
            let end = if to.is_finite() { *to } else { *from };
            if below + count >= wanted {
                return from + (end - from) * ((wanted - below) / count);
            }
            below += count;
            longest = end;
        }
        longest
    }

    /// For programs: the count, quantiles, and the buckets that are not empty; times in seconds.
    #[must_use]
    pub fn document(&self) -> Value {
        let shown = self.buckets.iter().filter(|bucket| bucket.count > 0);
        let buckets = shown.map(|Bucket { from, to, count }| {
            let to = to.is_finite().then_some(to);
            json!({"from": from, "to": to, "count": count})
        });
        let mut document = json!({
            "count": self.count(),
            "buckets": buckets.collect::<Vec<_>>(),
        });
        for (name, quantile) in QUANTILES {
            let time = (self.count() > 0).then(|| self.quantile(quantile));
            document[name.replace('.', "")] = time.into();
        }
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_where_they_should() {
        let buckets = [(0.0, 1.0, 50), (1.0, 2.0, 40), (2.0, f64::INFINITY, 10)];
        let mut histogram = Histogram::new(buckets.into_iter());
        assert_eq!(histogram.count(), 100);
        assert_eq!(histogram.quantile(0.25), 0.5);
        assert_eq!(histogram.quantile(0.5), 1.0);
        assert_eq!(histogram.quantile(0.9), 2.0);
        assert_eq!(
            histogram.quantile(1.0),
            2.0,
            "it may be longer: nobody knows"
        );
        assert_eq!(histogram.sum(), 105.0);
        assert_eq!(histogram.between(&[1.0]), [50, 50]);
        assert_eq!(histogram.between(&[1.0, 2.0]), [50, 40, 10]);
        histogram.subtract(&Histogram::new([(0.0, 1.0, 50)].into_iter()));
        assert_eq!(histogram.count(), 50);
        assert!(histogram.quantile(0.1) > 1.0);
        let none = Histogram::new(std::iter::empty());
        assert_eq!((none.count(), none.quantile(0.5)), (0, 0.0));
        assert_eq!(none.document()["p50"], Value::Null);
    }
}
