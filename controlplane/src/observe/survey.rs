//! The flow tables, counted: what no counter tells, because no worker keeps it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use engine::endpoints::EndpointSlots;
use engine::family::{V4, V6};
use engine::flow::{FlowTable, FlowView, State};
use hugepages::{Family, Region};

/// Every state of a flow, in the order of the counts.
pub const STATES: [State; 4] = [
    State::HalfOpen,
    State::Established,
    State::Closing,
    State::Closed,
];

/// What the flow tables held, counted in one walk. Flows that come or go meanwhile may or may not be counted.
#[derive(Debug, Default)]
pub struct Survey {
    /// IPv4 and IPv6.
    pub families: [FamilySurvey; 2],
    /// Flows of each service slot, by state as in [`STATES`].
    pub services: HashMap<u32, [u64; STATES.len()]>,
    /// Flows of each service slot to each endpoint.
    pub endpoints: HashMap<(u32, SocketAddr), u64>,
    /// Ports in use of each address that flows are masqueraded with.
    pub snat: BTreeMap<IpAddr, SnatUse>,
    /// How long counting took.
    pub took: Duration,
}

/// One table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FamilySurvey {
    /// Flows by state as in [`STATES`].
    pub flows: [u64; STATES.len()],
    /// Flows that the table is made for.
    pub made_for: u64,
    /// Seconds since the oldest flow was made; `None` in an empty table.
    pub oldest: Option<u32>,
    /// Seconds since the last frame of the flow that has been idle longest.
    pub longest_idle: Option<u32>,
}

/// Ports of one address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnatUse {
    /// Ports in use, one for each masqueraded flow.
    pub ports: u64,
    /// Those towards the endpoint (and protocol) with most: each endpoint has the whole range of ports.
    pub most: u64,
}

impl FamilySurvey {
    /// Flows of any state.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.flows.iter().sum()
    }
}

impl Survey {
    /// Counts the flows of this region. Reading is wait-free for both sides.
    #[must_use]
    pub fn of(region: &Region) -> Self {
        let begun = Instant::now();
        // The clock of the entries, as the data plane reads it.
        let now = (hugepages::region::monotonic_nanos() / 1_000_000_000) as u32;
        let parts = |family| {
            let seeds = region.seeds();
            (
                region.flow_buckets(family),
                region.flow_entries(family),
                seeds,
            )
        };
        let (buckets, entries, seeds) = parts(Family::V4);
        let v4 = FlowTable::<V4>::new(buckets, entries, seeds);
        let (buckets, entries, seeds) = parts(Family::V6);
        let v6 = FlowTable::<V6>::new(buckets, entries, seeds);
        let mut count = Count {
            slots: EndpointSlots::of(region),
            ..Count::default()
        };
        v4.flows().for_each(|flow| count.add(0, &flow, now));
        v6.flows().for_each(|flow| count.add(1, &flow, now));
        let geometry = region.geometry();
        let mut survey = count.finish();
        survey.families[0].made_for = geometry.flows.into();
        survey.families[1].made_for = geometry.flows_v6.into();
        survey.took = begun.elapsed();
        survey
    }

    /// Flows of a service slot, in any state.
    #[must_use]
    pub fn open(&self, slot: u32) -> u64 {
        self.services
            .get(&slot)
            .map_or(0, |flows| flows.iter().sum())
    }
}

/// A walk under way.
#[derive(Debug, Default)]
struct Count {
    survey: Survey,
    slots: EndpointSlots,
    /// Ports in use of an address towards an endpoint and protocol.
    snat: HashMap<(IpAddr, SocketAddr, u8), u64>,
}

impl Count {
    fn add<F: engine::family::Family>(&mut self, family: usize, flow: &FlowView<F>, now: u32) {
        let (from, to) = (F::tuple(&flow.forward), F::tuple(&flow.translated));
        let state = STATES.iter().position(|state| *state == flow.state);
        let state = state.unwrap_or_default();
        let survey = &mut self.survey;
        let table = &mut survey.families[family];
        table.flows[state] += 1;
        // A worker may have seen a frame since the clock was read.
        let since = |second| Some(now.saturating_sub(second));
        table.oldest = table.oldest.max(since(flow.made));
        table.longest_idle = table.longest_idle.max(since(flow.last_seen));
        let service = self.slots.service(flow.slot);
        survey.services.entry(service).or_default()[state] += 1;
        *survey.endpoints.entry((service, to.to())).or_default() += 1;
        if from.source != to.source {
            let port = (to.source, to.to(), to.protocol);
            *self.snat.entry(port).or_default() += 1;
        }
    }

    fn finish(mut self) -> Survey {
        for ((address, _, _), ports) in self.snat {
            let used = self.survey.snat.entry(address).or_default();
            used.ports += ports;
            used.most = used.most.max(ports);
        }
        self.survey
    }
}
