//! A gateway in process: tables, installed services, pipelines.

use std::sync::Arc;

use engine::counters::Counters;
use engine::endpoints::EndpointSlots;
use engine::family::{V4, V6};
use engine::flow::FlowTable;
use engine::install::Installed;
use engine::limits::Limits;
use engine::publish::Publisher;
use engine::shared::Options;
use engine::slots::ServiceSlots;
use engine::snapshot::Snapshot;
use engine::{Pipeline, Shared};
use hugepages::layout::ENDPOINTS_PER_SERVICE;
use hugepages::object::Object;
use hugepages::region::Family as RegionFamily;
use hugepages::{Digest, Message, Slab};
use packet::Buffer;

use super::cluster::Cluster;
use crate::Error;
use crate::pages::TableMemory;

/// Flows that the table of the family that is not measured is made for.
const UNUSED: usize = 16;

/// Seeds of the flow tables' hash.
pub const HASH_SEEDS: [u64; 2] = [0x5851_f42d_4c95_7f2d, 0x1405_7b7e_f767_814f];

/// Everything that its workers share.
#[derive(Debug)]
pub struct Gateway {
    /// Tables.
    pub shared: Arc<Shared>,
    publisher: Publisher<Snapshot>,
    slots: usize,
}

impl Gateway {
    /// A gateway to `cluster` whose flow table is made for `capacity` flows.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if memory is short or the engine refuses the services.
    pub fn new(
        cluster: &Cluster,
        capacity: usize,
        memory: &mut TableMemory,
    ) -> Result<Self, Error> {
        let sizes = match cluster.family {
            4 => [capacity, UNUSED],
            _ => [UNUSED, capacity],
        };
        let (buckets, entries) = memory.table(RegionFamily::V4, sizes[0])?;
        let v4 = FlowTable::new(buckets, entries, HASH_SEEDS);
        let (buckets, entries) = memory.table(RegionFamily::V6, sizes[1])?;
        let v6 = FlowTable::new(buckets, entries, HASH_SEEDS);
        Self::over(cluster, v4, v6)
    }

    /// A gateway to `cluster` with these flow tables.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if the engine refuses the services.
    pub fn over(cluster: &Cluster, v4: FlowTable<V4>, v6: FlowTable<V6>) -> Result<Self, Error> {
        // Flows are made by the thousand at once here, and are half-open in "new": the quotas that keep a flood
        // within bounds would end them.
        let options = Options {
            limits: Limits {
                half_open_percent: 100,
                half_open_per_service_percent: 100,
                ..Limits::default()
            },
            ..Options::default()
        };
        // Counters for all services and all their endpoints.
        let endpoints = cluster.services * cluster.endpoints;
        let slots = (cluster.services + 2).max(endpoints.div_ceil(ENDPOINTS_PER_SERVICE));
        let slots = slots.next_multiple_of(8);
        let shared = Arc::new(Shared {
            v4,
            v6,
            endpoints: EndpointSlots::heap(slots).up_to(options.endpoint_counters),
            ..Shared::heap(UNUSED, cluster.topology(), options)
        });
        let installed = install(cluster, &shared, slots, options.maglev_seed)?;
        let gateway = Self {
            shared,
            publisher: Publisher::new(installed.snapshot().clone()),
            slots,
        };
        gateway.introduce(cluster, 0);
        Ok(gateway)
    }

    /// A worker's path.
    #[must_use]
    pub fn pipeline<B: Buffer>(&self, worker: usize, seed: u64) -> Pipeline<B> {
        Pipeline::new(
            self.shared.clone(),
            self.publisher.subscribe(),
            Counters::heap(self.slots),
            worker,
            seed,
        )
    }

    /// Has every next hop answer ARP or neighbour discovery at this second.
    pub fn introduce(&self, cluster: &Cluster, second: u32) {
        introduce(&self.shared, cluster, second);
    }
}

/// See [`Gateway::introduce`].
pub fn introduce(shared: &Shared, cluster: &Cluster, second: u32) {
    for (link, address, mac) in cluster.neighbours() {
        let link = link as u8;
        // Room for 1,024, and there are 17.
        let _ = shared.neighbours.index(link, address, second);
        shared.neighbours.learn(link, address, mac, second);
    }
}

fn install(
    cluster: &Cluster,
    shared: &Shared,
    slots: usize,
    maglev_seed: u64,
) -> Result<Installed, Error> {
    let slots = ServiceSlots::new(Slab::heap(slots / 8));
    let mut installed = Installed::new(shared.topology.clone(), slots, maglev_seed);
    let mut objects = cluster.objects();
    objects.sort_by_key(Object::id);
    let (boot, generation) = (1, 1);
    let changes = objects.len() as u64;
    let digest = objects.iter().collect::<Digest>();
    let begin = Message::Begin {
        boot,
        generation,
        full: true,
    };
    let commit = Message::Commit {
        boot,
        generation,
        changes,
        digest,
    };
    let puts = objects.into_iter().map(Message::Put);
    for message in std::iter::once(begin).chain(puts).chain([commit]) {
        installed
            .handle(message)
            .map_err(|reason| Error::Run(format!("the services are refused: {reason:?}")))?;
    }
    Ok(installed)
}
