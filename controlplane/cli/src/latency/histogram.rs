//! How often something took how long.

use serde_json::{Value, json};

/// What is shown of a histogram: the name and the part of all that took no longer.
pub(super) const QUANTILES: [(&str, f64); 8] = [
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
#[derive(Debug, Clone)]
pub(super) struct Histogram {
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
    /// From the bounds of each bucket, in seconds, and its count; in the order of the bounds.
    pub(super) fn new(buckets: impl Iterator<Item = (f64, f64, u64)>) -> Self {
        let bucket = |(from, to, count)| Bucket { from, to, count };
        Self {
            buckets: buckets.map(bucket).collect(),
        }
    }

    /// All that was counted.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// Leaves out what had been counted before.
    pub(super) fn subtract(&mut self, before: &Self) {
        for (bucket, before) in self.buckets.iter_mut().zip(&before.buckets) {
            bucket.count = bucket.count.saturating_sub(before.count);
        }
    }

    /// The time in seconds that this part of all did not exceed; within a bucket as if its counts were spread
    /// evenly. 0 if nothing was counted.
    pub(super) fn quantile(&self, part: f64) -> f64 {
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

    /// For programs.
    pub(super) fn document(&self) -> Value {
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
        histogram.subtract(&Histogram::new([(0.0, 1.0, 50)].into_iter()));
        assert_eq!(histogram.count(), 50);
        assert!(histogram.quantile(0.1) > 1.0);
        let none = Histogram::new(std::iter::empty());
        assert_eq!((none.count(), none.quantile(0.5)), (0, 0.0));
        assert_eq!(none.document()["p50"], Value::Null);
    }
}
