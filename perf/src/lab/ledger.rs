//! What a gateway counted, read from its region while it works.

use std::collections::BTreeMap;
use std::path::Path;

use engine::counters::{Counters, Total};
use engine::reason::Reason;
use hugepages::{LinkInfo, Region};
use serde::Serialize;

use crate::Error;

/// A running gateway's counters.
#[derive(Debug)]
pub struct Ledger {
    region: Region,
}

/// What a gateway counted in a period, over all workers, in frames.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GatewayCounts {
    /// Received.
    pub received: u64,
    /// Started by the gateway: ARP requests, neighbour solicitations.
    pub originated: u64,
    /// Sent.
    pub sent: u64,
    /// Waiting for a next hop: put aside less taken out again.
    pub waiting: i64,
    /// Dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Lost by the links' devices before the gateway saw them.
    pub missed: u64,
    /// Flows made.
    pub flows_created: u64,
    /// Received minus what became of it: 0 unless the gateway lost count.
    pub unaccounted: i64,
}

impl Ledger {
    /// Of the gateway whose region is the file `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if there is no such region or it is of another version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let region = Region::observe(path)
            .map_err(|error| Error::Run(format!("--gateway-region: {error}")))?;
        Ok(Self { region })
    }

    /// Everything since the region was made.
    #[must_use]
    pub fn counts(&self) -> GatewayCounts {
        let workers = self.region.geometry().workers;
        let all: Vec<Counters> = (0..workers)
            .map(|worker| Counters::of(&self.region, worker))
            .collect();
        let total = |total| -> u64 { all.iter().map(|one| one.total(total)).sum() };
        let drops = Reason::ALL.iter().map(|reason| {
            let count: u64 = all.iter().map(|one| one.drops(*reason)).sum();
            (reason.name(), count)
        });
        let links = 0..self.region.geometry().links;
        let missed = links
            .filter_map(|link| LinkInfo::read(&self.region.link(link)))
            .map(|info| info.missed)
            .sum();
        let difference = |one: u64, other: u64| one.wrapping_sub(other).cast_signed();
        GatewayCounts {
            received: total(Total::Received),
            originated: total(Total::Originated),
            sent: total(Total::Sent),
            waiting: difference(total(Total::Parked), total(Total::Unparked)),
            drops: drops.collect(),
            missed,
            flows_created: total(Total::FlowsCreated),
            unaccounted: 0,
        }
    }
}

impl GatewayCounts {
    /// What was counted between `before` and this, drops of 0 left out.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let drops = self.drops.iter().map(|(name, count)| {
            let earlier = before.drops.get(name).copied().unwrap_or(0);
            (*name, count - earlier)
        });
        let drops: BTreeMap<_, _> = drops.filter(|(_, count)| *count > 0).collect();
        let mut counts = Self {
            received: self.received - before.received,
            originated: self.originated - before.originated,
            sent: self.sent - before.sent,
            waiting: self.waiting - before.waiting,
            missed: self.missed - before.missed,
            flows_created: self.flows_created - before.flows_created,
            unaccounted: 0,
            drops,
        };
        let went = counts.sent + counts.drops.values().sum::<u64>();
        let came = counts.received + counts.originated;
        counts.unaccounted = came.wrapping_sub(went).cast_signed() - counts.waiting;
        counts
    }

    /// Dropped frames of all reasons.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_come_out_is_told() {
        let drops = |count| BTreeMap::from([("tx_full", count), ("no_flow", 4)]);
        let before = GatewayCounts {
            received: 100,
            sent: 90,
            drops: drops(6),
            ..GatewayCounts::default()
        };
        let after = GatewayCounts {
            received: 1100,
            originated: 2,
            sent: 1080,
            waiting: 1,
            drops: drops(10),
            ..GatewayCounts::default()
        };
        let counts = after.since(&before);
        assert_eq!(counts.drops, BTreeMap::from([("tx_full", 4)]));
        assert_eq!((counts.received, counts.dropped()), (1000, 4));
        assert_eq!(counts.unaccounted, 1002 - 990 - 4 - 1);
    }
}
