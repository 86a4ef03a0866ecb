//! Ending UDP flows whose endpoint does not serve any more (rules R01–R12 of the Service semantics).
//!
//! A pass over the tables on the main core, after a change that took an endpoint from a UDP service, when no worker uses
//! an older snapshot. TCP and SCTP flows are never touched. A pass over a table for millions of flows takes longer than an
//! update may wait, so it is made in parts, between which the main core takes updates; one that asks for
//! another pass begins it where the last one stands, and it goes once round from there.

use std::ops::Range;

use crate::family::Family;
use crate::flow::FlowTable;
use crate::install::Installed;
use crate::shared::{Shared, backend_of};

/// How far a pass has got.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sweep {
    /// Next bucket, those of both families counted through.
    next: usize,
    /// Buckets still to be looked at.
    left: usize,
}

impl Sweep {
    /// Begins a pass over all flows, also in the middle of another.
    pub fn begin(&mut self, shared: &Shared) {
        self.left = shared.v4.bucket_count() + shared.v6.bucket_count();
    }

    /// Whether a pass is under way.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// Removes the stale UDP flows of the next `buckets` buckets; returns how many.
    pub fn advance(&mut self, shared: &Shared, installed: &Installed, buckets: usize) -> u64 {
        let (v4, v6) = (shared.v4.bucket_count(), shared.v6.bucket_count());
        let mut removed = 0;
        let mut budget = buckets.min(self.left);
        self.left -= budget;
        while budget > 0 {
            // A part ends where a table does.
            let end = if self.next < v4 { v4 } else { v4 + v6 };
            let part = self.next..end.min(self.next + budget);
            budget -= part.len();
            if self.next < v4 {
                removed += sweep_table(shared, installed, &shared.v4, part.clone());
            } else {
                let part = part.start - v4..part.end - v4;
                removed += sweep_table(shared, installed, &shared.v6, part);
            }
            self.next = part.end % (v4 + v6);
        }
        removed
    }
}

/// Removes every stale UDP flow, in one go; returns how many.
#[must_use]
pub fn sweep(shared: &Shared, installed: &Installed) -> u64 {
    let mut sweep = Sweep::default();
    sweep.begin(shared);
    sweep.advance(shared, installed, usize::MAX)
}

fn sweep_table<F: Family>(
    shared: &Shared,
    installed: &Installed,
    table: &FlowTable<F>,
    buckets: Range<usize>,
) -> u64 {
    let mut removed = 0;
    for flow in table.flows_in(buckets) {
        let (_, _, protocol) = F::split(&flow.forward);
        if protocol == packet::parse::UDP
            && installed.is_stale(shared.endpoints.service(flow.slot), &backend_of(&flow))
            && table.remove(&flow)
        {
            shared.open_flows.close_flow(&flow);
            removed += 1;
        }
    }
    removed
}
