//! Which occurrences are worth an Event of their own.
//!
//! The figures are those of client-go: the first occurrence is told at once; while it goes on
//! happening, a series is told of every half hour; after six minutes of silence the next one is a
//! first one again; and no object gets more than 25 Events in a row, with one more every five minutes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Occurrence, Regarding};

/// Between two Events of a series.
const REFRESH: Duration = Duration::from_secs(30 * 60);

/// Silence that ends a series.
const FINISH: Duration = Duration::from_secs(6 * 60);

/// Events that an object may have in a row, and what it takes to earn another one.
const BUDGET: (u32, Duration) = (25, Duration::from_secs(5 * 60));

/// Objects and series that are remembered; what comes on top of them waits until others are over.
pub(super) const MOST: usize = 4_096;

/// What makes two occurrences the same.
type Key = (Regarding, &'static str, &'static str);

/// Remembers what has been told.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    series: HashMap<Key, Series>,
    budgets: HashMap<Regarding, Budget>,
}

#[derive(Debug)]
struct Series {
    count: u32,
    seen: Instant,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Budget {
    left: u32,
    since: Instant,
}

impl Correlator {
    /// Takes note of an occurrence at `now`. Returns how often it has happened in its series if that
    /// is to be told; whoever does so says it with [`Self::told`].
    pub(super) fn occurred(&mut self, occurrence: &Occurrence, now: Instant) -> Option<u32> {
        self.forget(now);
        let key = key(occurrence);
        if !self.series.contains_key(&key) && self.series.len() >= MOST {
            return None;
        }
        let series = self.series.entry(key).or_insert(Series {
            count: 0,
            seen: now,
            told: None,
        });
        series.count = series.count.saturating_add(1);
        series.seen = now;
        let due = |told| now.saturating_duration_since(told) >= REFRESH;
        let (count, wanted) = (series.count, series.told.is_none_or(due));
        (wanted && self.has_budget(&occurrence.regarding, now)).then_some(count)
    }

    /// The Event has been written.
    pub(super) fn told(&mut self, occurrence: &Occurrence, now: Instant) {
        if let Some(series) = self.series.get_mut(&key(occurrence)) {
            series.told = Some(now);
        }
        if let Some(budget) = self.budgets.get_mut(&occurrence.regarding) {
            budget.left = budget.left.saturating_sub(1);
        }
    }

    fn has_budget(&mut self, regarding: &Regarding, now: Instant) -> bool {
        if !self.budgets.contains_key(regarding) {
            if self.budgets.len() >= MOST {
                return false;
            }
            let full = Budget {
                left: BUDGET.0,
                since: now,
            };
            self.budgets.insert(regarding.clone(), full);
        }
        self.budgets
            .get_mut(regarding)
            .is_some_and(|budget| budget.refill(now) > 0)
    }

    /// Forgets series that are over and budgets that are full again. Cheap while there are few, and
    /// there are many only when much is wrong.
    fn forget(&mut self, now: Instant) {
        let lasts = |since| now.saturating_duration_since(since) < FINISH;
        self.series.retain(|_, series| lasts(series.seen));
        self.budgets
            .retain(|_, budget| budget.refill(now) < BUDGET.0);
    }
}

impl Budget {
    fn refill(&mut self, now: Instant) -> u32 {
        while self.left < BUDGET.0 && now.saturating_duration_since(self.since) >= BUDGET.1 {
            self.left += 1;
            self.since += BUDGET.1;
        }
        if self.left == BUDGET.0 {
            self.since = now;
        }
        self.left
    }
}

fn key(occurrence: &Occurrence) -> Key {
    let Occurrence {
        regarding,
        reason,
        action,
        ..
    } = occurrence;
    (regarding.clone(), reason, action)
}
