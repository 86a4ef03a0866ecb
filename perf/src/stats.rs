//! Minimum, median, maximum.

use serde::{Deserialize, Serialize};

/// What a number of measurements of the same thing came to, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// Least: what the machine can do undisturbed.
    pub min: f64,
    /// Half were less.
    pub median: f64,
    /// Most.
    pub max: f64,
}

impl Summary {
    /// `None` of nothing.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            count: sorted.len(),
            min: *sorted.first()?,
            median: *sorted.get(sorted.len() / 2)?,
            max: *sorted.last()?,
        })
    }
}

impl Summary {
    /// What both came to together; the median of two is that of the one with the more measurements.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let larger = if other.count > self.count {
            other
        } else {
            self
        };
        Self {
            count: self.count + other.count,
            min: self.min.min(other.min),
            median: larger.median,
            max: self.max.max(other.max),
        }
    }
}

/// The median; 0 of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    Summary::of(values).map_or(0.0, |summary| summary.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_measurements_does_not_matter() {
        let summary = Summary::of(&[5.0, 1.0, 9.0, 7.0, 3.0]).unwrap();
        assert_eq!(
            (summary.min, summary.median, summary.max, summary.count),
            (1.0, 5.0, 9.0, 5)
        );
        assert_eq!(Summary::of(&[]), None);
    }
}
