//! Histograms out of metrics in the OpenMetrics text format.

use portgate_controlplane::observe::Histogram;

/// The histogram of this name, without labels of its own; `None` if there is none.
pub(super) fn histogram(text: &str, name: &str) -> Option<Histogram> {
    let start = format!("{name}_bucket{{le=\"");
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(&start)?.split_once("\"}")?;
        let bound = match bound {
            "+Inf" => f64::INFINITY,
            number => number.parse().ok()?,
        };
        // Behind the count there may be an exemplar.
        let count: f64 = count.split_whitespace().next()?.parse().ok()?;
        Some((bound, count as u64))
    };
    let found: Vec<_> = text.lines().filter_map(bucket).collect();
    if found.is_empty() {
        return None;
    }
    // Each bucket counts all that is below its bound.
    let mut last = (0.0, 0);
    let buckets = found.into_iter().map(move |(bound, count)| {
        let (from, below) = std::mem::replace(&mut last, (bound, count));
        (from, bound, count.saturating_sub(below))
    });
    Some(Histogram::new(buckets))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE x_seconds histogram\nx_seconds_sum 3.5\nx_seconds_count 4\n\
        x_seconds_bucket{le=\"0.5\"} 1\nx_seconds_bucket{le=\"1.0\"} 3 # {id=\"a\"} 0.7\n\
        x_seconds_bucket{le=\"+Inf\"} 4\ny_seconds_bucket{le=\"1.0\"} 9\n# EOF\n";

    #[test]
    fn buckets_count_what_is_theirs_alone() {
        let found = histogram(TEXT, "x_seconds").unwrap();
        assert_eq!(found.count(), 4);
        assert_eq!(found.quantile(0.25), 0.5);
        assert_eq!(found.quantile(0.5), 0.75);
        assert_eq!(found.quantile(1.0), 1.0);
        assert!(histogram(TEXT, "z_seconds").is_none());
    }
}
