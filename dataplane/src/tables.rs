//! The tables of a region, made fit for workers: what a start does to what it finds.

use std::sync::Arc;

use engine::Shared;
use engine::affinity::Affinity;
use engine::endpoints::EndpointSlots;
use engine::flow::FlowTable;
use engine::fragments::Fragments;
use engine::neighbour::Neighbours;
use engine::orders::Orders;
use engine::rates::Rates;
use engine::shared::{OpenFlows, Options};
use engine::topology::Topology;
use hugepages::{Family, Origin, Region};

/// The tables of `region`. Of one that was taken over, what a killed process left half done is cleared away,
/// and, unless the links are the same as before, the next hops are forgotten.
#[must_use]
pub fn take(
    region: &Region,
    origin: &Origin,
    same_links: bool,
    topology: Topology,
    options: Options,
) -> Shared {
    let seeds = region.seeds();
    let table = |family| (region.flow_buckets(family), region.flow_entries(family));
    let (buckets, entries) = table(Family::V4);
    let v4 = FlowTable::new(buckets, entries, seeds);
    let (buckets, entries) = table(Family::V6);
    let v6 = FlowTable::new(buckets, entries, seeds);
    let neighbours = Neighbours::new(region.neighbours());
    let affinity = Affinity::new(region.affinity());
    let open_flows = OpenFlows::new(options.choice);
    if *origin == Origin::TakenOver {
        let live = v4.recover() + v6.recover();
        v4.flows().for_each(|flow| open_flows.open_flow(&flow));
        v6.flows().for_each(|flow| open_flows.open_flow(&flow));
        affinity.recover();
        neighbours.recover();
        tracing::info!(flows = live / 2, "flows taken over");
        if !same_links {
            tracing::info!("other links than before: next hops are resolved anew");
            neighbours.clear();
        }
    }
    Shared {
        v4,
        v6,
        neighbours,
        affinity,
        endpoints: EndpointSlots::of(region).up_to(options.endpoint_counters),
        topology: Arc::new(topology),
        open_flows,
        fragments: Fragments::default(),
        rates: Rates::new(&options.limits, seeds[0]),
        orders: Orders::default(),
        options,
    }
}
