//! Both processes as far as they are without devices and threads, over one region in a file.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use engine::counters::{Counters, Total};
use engine::family::Family;
use engine::flow::FlowTable;
use engine::install::Installed;
use engine::shared::Options;
use engine::slots::ServiceSlots;
use engine::topology::{LinkConfig, MssClamp, Topology};
use engine::{Now, Pipeline, Reason, Shared};
use fuzz::checksum::{self, Found};
use hugepages::object::Prefix;
use hugepages::{Geometry, Origin, Region};
use packet::memory::{HeapBuffer, HeapPool, MemoryLink};
use packet::{Buffer, Burst, Link};
use portgate_controlplane::index::Index;
use portgate_controlplane::policy::Desired;
use portgate_controlplane::publish::{Publisher, RegionConnector};
use portgate_dataplane::tables;
use portgate_dataplane::update::Updater;

use crate::hosts::{GATEWAY_MACS, Host, NETWORKS};
use crate::network::Random;

const WORKERS: u16 = 2;

/// Flows that each table is made for: more than there are clients.
const FLOWS: u32 = 2048;

/// A control plane. What it knows of the cluster it is told anew after a restart.
pub(crate) struct Control {
    pub(crate) publisher: Publisher<RegionConnector>,
    pub(crate) index: Index,
    pub(crate) desired: Desired,
}

impl Control {
    pub(crate) fn start(path: &Path) -> Self {
        let settings = settings::load_str(
            r#"
            [gateway]
            addresses = ["203.0.113.10", "2001:db8:1::10"]
            cluster_cidrs = ["100.96.0.0/16", "fd00:100:96::/48"]
            service_cidrs = ["100.64.0.0/13"]
            "#,
        );
        Self {
            publisher: Publisher::new(RegionConnector::new(path)),
            index: Index::new(),
            desired: Desired::new(settings.expect("settings that are right").gateway),
        }
    }

    pub(crate) fn poll(&mut self, now: Instant) {
        if self.publisher.can_begin(now) {
            self.desired.refresh(&mut self.index);
        }
        self.publisher.poll(now, &mut self.desired);
        self.publisher.take_events();
    }
}

/// A data plane.
pub(crate) struct DataPlane {
    pub(crate) region: Arc<Region>,
    pub(crate) shared: Arc<Shared>,
    updater: Updater,
    workers: Vec<Pipeline<HeapBuffer>>,
    pool: HeapPool,
    links: Vec<MemoryLink>,
    /// Frames with a wrong checksum that came and went.
    wrong: (u64, u64),
}

impl DataPlane {
    /// Takes the region at `path` over, or makes it with these seeds, as the process does.
    pub(crate) fn start(path: &Path, seed: u64, hash_seeds: [u64; 2]) -> Self {
        let geometry = Geometry {
            command_records: 64,
            reply_records: 64,
            journal_records: 512,
            ..Geometry::new(WORKERS + 1, 2, FLOWS, FLOWS)
        };
        let (region, origin) =
            Region::create_seeded(path, &geometry, None, Some(hash_seeds)).expect("a region");
        assert!(
            matches!(origin, Origin::Fresh | Origin::TakenOver),
            "{origin}"
        );
        let region = Arc::new(region);
        let options = Options::default();
        let shared = Arc::new(tables::take(&region, &origin, true, topology(), options));
        let slots = ServiceSlots::new(region.service_keys());
        let installed = Installed::new(shared.topology.clone(), slots, 0);
        let counters = |worker| Counters::of(&region, worker);
        if origin == Origin::TakenOver {
            let all: Vec<_> = (0..=WORKERS).map(counters).collect();
            engine::settle::settle(&all);
        }
        let updater = Updater::new(region.clone(), installed, shared.clone(), counters(WORKERS))
            .expect("a region of our own");
        let workers = (0..WORKERS).map(|worker| {
            Pipeline::new(
                shared.clone(),
                updater.publisher().subscribe(),
                counters(worker),
                usize::from(worker),
                seed ^ u64::from(worker) << 32,
            )
        });
        Self {
            workers: workers.collect(),
            updater,
            shared,
            region,
            pool: HeapPool::default(),
            links: vec![MemoryLink::default(), MemoryLink::default()],
            wrong: (0, 0),
        }
    }

    pub(crate) fn receive(&mut self, link: usize, bytes: &[u8]) {
        let (_, transport) = checksum::judge(bytes);
        self.wrong.0 += u64::from(transport == Found::Wrong);
        let frame = HeapBuffer::from_bytes(bytes);
        self.links[link].incoming.push_back(frame);
    }

    /// A turn of the main core and of every worker; what is sent, by link.
    pub(crate) fn turn(&mut self, random: &mut Random, second: u32) -> Vec<(usize, Vec<u8>)> {
        if random.one_in(2) {
            self.updater.poll();
        }
        for worker in 0..self.workers.len() {
            for link in 0..self.links.len() {
                let mut burst = Burst::new();
                if random.one_in(2) {
                    self.links[link].rx_burst(&mut burst);
                }
                let (now, pool) = (Now { second }, &mut self.pool);
                if burst.is_empty() {
                    self.workers[worker].upkeep(now, 64, pool, &mut ());
                } else {
                    self.workers[worker].process(now, link, &mut burst, pool, &mut ());
                }
                self.transmit(worker);
            }
        }
        let mut sent = Vec::new();
        for (number, link) in self.links.iter_mut().enumerate() {
            for frame in link.outgoing.drain(..) {
                let (network, transport) = checksum::judge(frame.bytes());
                assert_ne!(network, Found::Wrong, "IPv4 header checksum");
                self.wrong.1 += u64::from(transport == Found::Wrong);
                sent.push((number, frame.bytes().to_vec()));
            }
        }
        assert!(
            self.wrong.1 <= self.wrong.0,
            "a frame leaves with a wrong checksum, and none came with one"
        );
        sent
    }

    fn transmit(&mut self, worker: usize) {
        for link in 0..self.links.len() {
            let Some(output) = self.workers[worker].output(link) else {
                continue;
            };
            let mut burst = Burst::new();
            let (mut count, mut bytes) = (0, 0);
            for frame in output.drain(..) {
                count += 1;
                bytes += frame.bytes().len() as u64;
                burst.push(frame);
                if burst.is_full() {
                    self.links[link].tx_burst(&mut burst);
                }
            }
            self.links[link].tx_burst(&mut burst);
            self.workers[worker].sent(link, count, bytes, 0);
        }
    }

    /// Every frame is accounted for, and every flow has one reply.
    pub(crate) fn check(&self) {
        for worker in &self.workers {
            let counters = worker.counters();
            let total = |total| counters.total(total);
            let drops: u64 = Reason::ALL
                .iter()
                .map(|reason| counters.drops(*reason))
                .sum();
            assert_eq!(
                total(Total::Received) + total(Total::Originated),
                total(Total::Sent) + drops + total(Total::Parked) - total(Total::Unparked),
                "received + originated = sent + drops + waiting"
            );
        }
        fuzz::pipeline::gateway::check_table(&self.shared.v4);
        fuzz::pipeline::gateway::check_table(&self.shared.v6);
    }

    /// Dies, perhaps between two stores: a tag claimed, an entry being filled, a flow of which one direction
    /// has been killed. Returns how many flows that can have cost.
    pub(crate) fn die(self, random: &mut Random) -> usize {
        if random.one_in(2) {
            return 0;
        }
        let mut places = places(&self.shared.v4, 0);
        places.extend(self::places(&self.shared.v6, 1));
        places.sort_unstable();
        let regions = [hugepages::Family::V4, hugepages::Family::V6].map(|family| {
            (
                self.region.flow_buckets(family),
                self.region.flow_entries(family),
            )
        });
        drop(self);
        // Relaxed: nobody else uses the region now.
        let order = hugepages::sync::Ordering::Relaxed;
        for (buckets, _) in &regions {
            // Claimed, and nothing written yet.
            let free = buckets.iter().flat_map(|line| &line.0);
            let free = free.filter(|tag| tag.load(order) == 0);
            for tag in free.take(random.below(4)) {
                tag.store(0x1234_5678, order);
            }
        }
        let count = random.below(6).min(places.len());
        for _ in 0..count {
            // The first word's two lowest bits are 0 when an entry is killed and 1 while it is filled.
            let (_, family, index) = places[random.below(places.len())];
            let meta = &regions[family].1[index as usize * (1 + family)].0[0];
            let state = random.below(2) as u64;
            meta.store(meta.load(order) & !3 | state, order);
        }
        count
    }

    /// Tuples of all flows: what clients send, and what that becomes.
    pub(crate) fn flows(&self) -> Vec<String> {
        list(&self.shared.v4).chain(list(&self.shared.v6)).collect()
    }
}

/// Both entries of every flow: what the flow is, family, index.
fn places<F: Family>(table: &FlowTable<F>, family: usize) -> Vec<(String, usize, u32)> {
    let mut places = Vec::new();
    for flow in table.flows() {
        let reply = F::reverse(&flow.translated);
        let hit = table.find(&reply, table.place(&reply));
        let what = format!("{:?}", F::tuple(&flow.forward));
        places.push((what.clone(), family, flow.index));
        places.extend(hit.map(|hit| (what + " reply", family, hit.index)));
    }
    places
}

fn list<F: Family>(table: &FlowTable<F>) -> impl Iterator<Item = String> + '_ {
    table.flows().map(|flow| {
        let (from, to) = (F::tuple(&flow.forward), F::tuple(&flow.translated));
        format!("{from:?} {to:?} {:?}", flow.state)
    })
}

fn topology() -> Topology {
    let links = NETWORKS.iter().enumerate().map(|(at, own)| LinkConfig {
        name: format!("link{at}"),
        mac: GATEWAY_MACS[at],
        vlan: None,
        mtu: 1500,
        mss_clamp: MssClamp::Off,
        addresses: own
            .iter()
            .map(|text| {
                let Prefix { address, length } = Host::prefix(text);
                (address, length)
            })
            .collect(),
    });
    Topology {
        links: links.collect(),
        routes: Vec::new(),
    }
}
