//! Ending UDP flows whose endpoint does not serve any more (rules R01–R12 of the Service semantics).
//!
//! One pass over the tables on the main core, after a change that took an endpoint from a UDP
//! service, when no worker uses an older snapshot. TCP and SCTP flows are never touched.

use crate::family::Family;
use crate::flow::FlowTable;
use crate::install::Installed;
use crate::shared::{Shared, backend_of};

/// Removes every stale UDP flow; returns how many.
#[must_use]
pub fn sweep(shared: &Shared, installed: &Installed) -> u64 {
    sweep_table(shared, installed, &shared.v4) + sweep_table(shared, installed, &shared.v6)
}

fn sweep_table<F: Family>(shared: &Shared, installed: &Installed, table: &FlowTable<F>) -> u64 {
    let mut removed = 0;
    for flow in table.flows() {
        let (_, _, protocol) = F::split(&flow.forward);
        if protocol == packet::parse::UDP
            && installed.is_stale(flow.service, &backend_of(&flow))
            && table.remove(&flow)
        {
            shared.open_flows.close_flow(&flow);
            removed += 1;
        }
    }
    removed
}
