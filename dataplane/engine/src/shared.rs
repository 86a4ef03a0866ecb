//! What all workers share: tables, links and options. Everything that changes in it is atomic.

use std::sync::Arc;

use hugepages::object::Backend;
use hugepages::sync::Ordering;
use hugepages::{Slab, TagLine};

use crate::affinity::Affinity;
use crate::endpoints::EndpointSlots;
use crate::family::{Family, SPREAD, V4, V6};
use crate::flow::{FlowTable, FlowView, Timeouts};
use crate::fragments::Fragments;
use crate::limits::Limits;
use crate::neighbour::Neighbours;
use crate::orders::Orders;
use crate::rates::Rates;
use crate::topology::Topology;

/// Shared by every worker of a data plane.
#[derive(Debug)]
pub struct Shared {
    /// Flows over IPv4.
    pub v4: FlowTable<V4>,
    /// Flows over IPv6.
    pub v6: FlowTable<V6>,
    /// Next hops.
    pub neighbours: Neighbours,
    /// Links and static routes.
    pub topology: Arc<Topology>,
    /// Endpoints of clients of services with ClientIP affinity.
    pub affinity: Affinity,
    /// Where endpoints are counted.
    pub endpoints: EndpointSlots,
    /// Open flows by backend.
    pub open_flows: OpenFlows,
    /// Datagrams that travel in fragments.
    pub fragments: Fragments,
    /// New flows a second.
    pub rates: Rates,
    /// Flows to be reset.
    pub orders: Orders,
    /// Choices from the settings.
    pub options: Options,
}

impl Shared {
    /// Tables on the heap, for tests and for programs without a region. Nothing is counted by endpoint.
    #[must_use]
    pub fn heap(flows: usize, topology: Topology, options: Options) -> Self {
        let seeds = [0x5851_f42d_4c95_7f2d, 0x1405_7b7e_f767_814f];
        Self {
            v4: FlowTable::heap(flows, seeds),
            v6: FlowTable::heap(flows, seeds),
            neighbours: Neighbours::new(Slab::heap(1024)),
            topology: Arc::new(topology),
            affinity: Affinity::new(Slab::heap(1024)),
            endpoints: EndpointSlots::default(),
            open_flows: OpenFlows::new(options.choice),
            fragments: Fragments::default(),
            rates: Rates::new(&options.limits, seeds[0]),
            orders: Orders::default(),
            options,
        }
    }
}

/// How flows are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How a backend is chosen.
    pub choice: Choice,
    /// Seed of Maglev's tables and of the hash that indexes them.
    pub maglev_seed: u64,
    /// Ports that NodePorts come from, first and last: never used for masquerading.
    pub nodeport_range: (u16, u16),
    /// When flows are forgotten.
    pub timeouts: Timeouts,
    /// How many new flows are taken.
    pub limits: Limits,
    /// Endpoints that are given counters of their own.
    pub endpoint_counters: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            choice: Choice::Maglev,
            maglev_seed: 0,
            nodeport_range: (30_000, 32_767),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            endpoint_counters: 1 << 12,
        }
    }
}

/// How a backend is chosen for a new flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// By the tuple's hash, consistently.
    Maglev,
    /// Uniformly at random.
    Random,
    /// The one of two random backends that has fewer open flows.
    LeastConnections,
}

/// Lines of sixteen counts.
const COUNT_LINES: usize = if cfg!(loom) { 1 } else { 4096 };

/// Counts of open flows, by a hash of the backend. Two backends in 65,536 that share a count are both
/// taken for busier than they are, which evens out by itself.
#[derive(Debug, Clone)]
pub struct OpenFlows {
    /// Only where backends are chosen by it: a locked add is a twentieth of what a new flow costs.
    counts: Option<Slab<TagLine>>,
}

impl OpenFlows {
    /// Counts, if this choice needs them.
    #[must_use]
    pub fn new(choice: Choice) -> Self {
        Self {
            counts: (choice == Choice::LeastConnections).then(|| Slab::heap(COUNT_LINES)),
        }
    }

    /// A flow to this backend begins.
    #[inline]
    pub fn open(&self, backend: &Backend) {
        if let Some(count) = self.count(backend) {
            // Relaxed: a count stands alone. A locked add, but only once a flow.
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A flow to this backend ends.
    pub fn close(&self, backend: &Backend) {
        if let Some(count) = self.count(backend) {
            // Never below zero: a count lost in a restart must not look like four billion flows.
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        }
    }

    /// A listed flow is open (counted after a restart).
    pub fn open_flow<F: Family>(&self, flow: &FlowView<F>) {
        self.open(&backend_of(flow));
    }

    /// A listed flow ends.
    pub fn close_flow<F: Family>(&self, flow: &FlowView<F>) {
        self.close(&backend_of(flow));
    }

    /// Open flows to this backend; 0 where nobody counts.
    #[must_use]
    pub fn get(&self, backend: &Backend) -> u32 {
        self.count(backend)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    #[inline]
    fn count(&self, backend: &Backend) -> Option<&hugepages::sync::AtomicU32> {
        let counts = self.counts.as_ref()?;
        let bits = match backend.address {
            std::net::IpAddr::V4(v4) => u64::from(v4.to_bits()),
            std::net::IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ (v6.to_bits() as u64),
        };
        let hash = (bits ^ u64::from(backend.port) << 48).wrapping_mul(SPREAD);
        let at = (hash >> 32) as usize % (counts.len() * 16);
        Some(&counts[at / 16].0[at % 16])
    }
}

/// The backend that a listed flow goes to.
#[must_use]
pub fn backend_of<F: Family>(flow: &FlowView<F>) -> Backend {
    let tuple = F::tuple(&flow.translated);
    Backend {
        address: tuple.destination,
        port: tuple.destination_port,
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    /// Mutations that this model was seen to catch: `open` or `close` by a load and a store.
    #[test]
    fn loom_counts_of_open_flows_add_up() {
        loom::model(|| {
            let flows = OpenFlows::new(Choice::LeastConnections);
            let backend = Backend {
                address: std::net::Ipv4Addr::new(10, 0, 0, 1).into(),
                port: 80,
            };
            let there = flows.clone();
            let other = loom::thread::spawn(move || {
                there.open(&backend);
                there.close(&backend);
            });
            flows.open(&backend);
            other.join().unwrap();
            assert_eq!(flows.get(&backend), 1);
            flows.close(&backend);
            flows.close(&backend);
            assert_eq!(flows.get(&backend), 0, "never below zero");
        });
    }
}
