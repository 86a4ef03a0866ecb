//! The counters of all workers, to read.

use std::cmp::Ordering;
use std::net::SocketAddr;

use engine::counters::{Counters, LinkCounter, ServiceCounter, Total};
use engine::endpoints::{CountedEndpoint, EndpointSlots};
use engine::reason::Reason;
use hugepages::Region;
use hugepages::object::Backend;

/// The counters of a region: one block for each worker, and the last one for the main core.
#[derive(Debug)]
pub struct AllCounters {
    blocks: Vec<Counters>,
    /// Endpoints that have counters of their own, by service and address.
    endpoints: Vec<CountedEndpoint>,
    endpoint_slots: (usize, usize),
}

impl AllCounters {
    /// The counters of this region.
    #[must_use]
    pub fn of(region: &Region) -> Self {
        let block = |at| Counters::of(region, at);
        let slots = EndpointSlots::of(region);
        let mut endpoints: Vec<_> = slots.all().collect();
        endpoints.sort_unstable_by_key(|one| (one.service, one.backend));
        Self {
            blocks: (0..region.geometry().workers).map(block).collect(),
            endpoints,
            endpoint_slots: slots.given(),
        }
    }

    /// Endpoints that have counters of their own, and that may have: [`EndpointSlots::given`].
    #[must_use]
    pub fn endpoint_slots(&self) -> (usize, usize) {
        self.endpoint_slots
    }

    /// Those of the workers.
    #[must_use]
    pub fn workers(&self) -> &[Counters] {
        let count = self.blocks.len().saturating_sub(1);
        &self.blocks[..count]
    }

    /// Those of the workers and of the main core.
    #[must_use]
    pub fn blocks(&self) -> &[Counters] {
        &self.blocks
    }

    /// The same with names: a worker's number, or `main`.
    pub fn named(&self) -> impl Iterator<Item = (String, &Counters)> {
        let main = self.workers().len();
        self.blocks.iter().enumerate().map(move |(at, block)| {
            let name = if at == main {
                "main".to_owned()
            } else {
                at.to_string()
            };
            (name, block)
        })
    }

    /// A service's counter over all workers, with what all its endpoints have counted.
    #[must_use]
    pub fn service(&self, slot: u32, counter: ServiceCounter) -> u64 {
        let own = self.slot(slot, counter);
        let all = self.find(|one| one.service.cmp(&slot));
        all.iter()
            .map(|one| self.slot(one.slot, counter))
            .fold(own, u64::wrapping_add)
    }

    /// One of [`ServiceCounter::OF_ENDPOINTS`] of a service's endpoint, over all workers; `None` = its service counts for it,
    /// because no more endpoints may have counters.
    #[must_use]
    pub fn endpoint(
        &self,
        slot: u32,
        endpoint: SocketAddr,
        counter: ServiceCounter,
    ) -> Option<u64> {
        let wanted = Backend {
            address: endpoint.ip(),
            port: endpoint.port(),
        };
        let found = self.find(|one| (one.service, one.backend).cmp(&(slot, wanted)));
        let (given, most) = self.endpoint_slots;
        if found.is_empty() && given >= most {
            return None;
        }
        // One may be there twice; without flows so far it is not there.
        let each = found.iter().map(|one| self.slot(one.slot, counter));
        Some(each.fold(0, u64::wrapping_add))
    }

    fn slot(&self, slot: u32, counter: ServiceCounter) -> u64 {
        sum(&self.blocks, |block| block.service(slot, counter))
    }

    /// The endpoints that this finds equal, by their order.
    fn find(&self, order: impl Fn(&CountedEndpoint) -> Ordering) -> &[CountedEndpoint] {
        let start = self.endpoints.partition_point(|one| order(one).is_lt());
        let rest = &self.endpoints[start..];
        &rest[..rest.partition_point(|one| order(one).is_eq())]
    }

    /// A link's counter over all workers.
    #[must_use]
    pub fn link(&self, link: usize, counter: LinkCounter) -> u64 {
        sum(&self.blocks, |block| block.link(link, counter))
    }

    /// Frames dropped on a link for a reason, over all workers.
    #[must_use]
    pub fn link_drops(&self, link: usize, reason: Reason) -> u64 {
        sum(&self.blocks, |block| block.link_drops(link, reason))
    }
}

/// A total over these blocks.
#[must_use]
pub fn total(blocks: &[Counters], total: Total) -> u64 {
    sum(blocks, |block| block.total(total))
}

/// Frames dropped for a reason, over these blocks.
#[must_use]
pub fn drops(blocks: &[Counters], reason: Reason) -> u64 {
    sum(blocks, |block| block.drops(reason))
}

fn sum(blocks: &[Counters], count: impl Fn(&Counters) -> u64) -> u64 {
    blocks.iter().map(count).fold(0, u64::wrapping_add)
}
