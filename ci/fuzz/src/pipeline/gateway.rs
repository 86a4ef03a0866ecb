//! A gateway with two workers over one set of tables, and what must hold after each step.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use engine::counters::{Counters, Total};
use engine::endpoints::EndpointSlots;
use engine::family::Family;
use engine::flow::FlowTable;
use engine::fragments::Fragments;
use engine::install::Installed;
use engine::neighbour::Neighbours;
use engine::orders::Orders;
use engine::publish::Publisher;
use engine::rates::Rates;
use engine::shared::{Choice, OpenFlows, Options};
use engine::snapshot::Snapshot;
use engine::{Now, Pipeline, Reason, Shared};
use hugepages::Slab;
use packet::{Buffer, Burst};

use super::frame::{Frame, FramePool};
use super::world;
use crate::checksum::{self, Found};

/// Workers.
pub const WORKERS: usize = 2;

/// Flows that each table is made for: few, so that it is full now and then.
const FLOWS: usize = 24;

/// Slots of services' counters: endpoints run out of theirs now and then.
const SERVICE_SLOTS: usize = 8;

/// Lines of the table of neighbours.
const NEIGHBOURS: usize = 32;

/// The clock at the beginning, in seconds.
const START: u32 = 100_000;

/// Seconds after which nothing waits any more, and neighbours need not be asked again yet.
const QUIET: u32 = 10;

/// Seconds after which neighbours are made known again.
const INTRODUCE: u32 = 25;

/// Tables, workers and what is known of them from outside.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    snapshots: Vec<Snapshot>,
    installed: Installed,
    publisher: Publisher<Snapshot>,
    /// Which of the snapshots is published.
    variant: usize,
    workers: Vec<Pipeline<Frame>>,
    neighbours: Vec<(u8, IpAddr)>,
    /// When they were made known, and the count of their changes then.
    introduced: (u32, u64),
    /// Where workers get buffers from.
    pub pool: FramePool,
    /// The clock.
    pub second: u32,
    /// Whether the links have no room.
    pub is_choked: bool,
    /// What left last, by link.
    pub last: [Vec<u8>; 3],
    given: [u64; WORKERS],
    /// Flows that were there when the workers began.
    inherited: u64,
    /// Flows that were not removed by workers.
    swept: u64,
    /// Frames with a wrong transport checksum, since the last [`Gateway::settle`].
    wrong_in: u64,
    wrong_out: u64,
}

impl Gateway {
    /// A new one, with its neighbours known.
    #[must_use]
    pub fn new() -> Self {
        let options = Options {
            choice: Choice::LeastConnections,
            ..Options::default()
        };
        let mut shared = Shared::heap(FLOWS, world::topology(), options);
        shared.neighbours = Neighbours::new(Slab::heap(NEIGHBOURS));
        shared.endpoints = EndpointSlots::heap(SERVICE_SLOTS);
        let shared = Arc::new(shared);
        let (snapshots, installed) = world::snapshots(&shared.topology);
        let publisher = Publisher::new(snapshots[0].clone());
        let neighbours = world::NEIGHBOURS.map(|(link, address)| (link, world::ip(address)));
        let mut gateway = Self {
            shared,
            snapshots,
            installed,
            publisher,
            variant: 0,
            workers: Vec::new(),
            neighbours: neighbours.to_vec(),
            introduced: (0, 0),
            pool: FramePool { left: usize::MAX },
            second: START,
            is_choked: false,
            last: Default::default(),
            given: [0; WORKERS],
            inherited: 0,
            swept: 0,
            wrong_in: 0,
            wrong_out: 0,
        };
        gateway.employ();
        gateway.introduce();
        gateway
    }

    fn employ(&mut self) {
        let workers = (0..WORKERS).map(|worker| {
            let seed = 0x1234_5678_9abc_def1 + worker as u64;
            let (shared, counters) = (self.shared.clone(), Counters::heap(SERVICE_SLOTS));
            Pipeline::new(shared, self.publisher.subscribe(), counters, worker, seed)
        });
        self.workers = workers.collect();
    }

    /// Another process takes the tables over, at another time of its clock.
    pub fn restart(&mut self, second: u32) {
        for worker in 0..WORKERS {
            self.workers[worker].finish();
            self.look(worker);
        }
        self.recover();
        let old = &self.shared;
        let open_flows = OpenFlows::new(old.options.choice);
        old.v4.flows().for_each(|flow| open_flows.open_flow(&flow));
        old.v6.flows().for_each(|flow| open_flows.open_flow(&flow));
        self.shared = Arc::new(Shared {
            v4: old.v4.clone(),
            v6: old.v6.clone(),
            neighbours: old.neighbours.clone(),
            topology: old.topology.clone(),
            affinity: old.affinity.clone(),
            endpoints: old.endpoints.clone(),
            open_flows,
            fragments: Fragments::default(),
            rates: Rates::new(&old.options.limits, 1),
            orders: Orders::default(),
            options: old.options,
        });
        self.employ();
        (self.second, self.introduced) = (second, (0, 0));
        (self.given, self.swept) = ([0; WORKERS], 0);
        self.inherited = self.live();
    }

    /// Puts frames into a worker as one burst, and looks at what comes out.
    pub fn put(&mut self, worker: usize, link: usize, frames: &mut Burst<Frame>) {
        self.given[worker] += frames.len() as u64;
        for frame in frames.iter() {
            let (_, transport) = checksum::judge(frame.bytes());
            self.wrong_in += u64::from(transport == Found::Wrong);
        }
        let now = self.now();
        self.workers[worker].process(now, link, frames, &mut self.pool, &mut ());
        assert!(frames.is_empty(), "a burst is taken whole");
        self.look(worker);
    }

    /// A worker's upkeep of some of the tables.
    pub fn upkeep(&mut self, worker: usize, buckets: usize) {
        let now = self.now();
        self.workers[worker].upkeep(now, buckets, &mut self.pool, &mut ());
        self.look(worker);
    }

    /// Publishes the state with this number, below [`world::VARIANTS`].
    pub fn publish(&mut self, variant: usize) {
        if variant != self.variant {
            self.variant = variant;
            self.publisher.publish(self.snapshots[variant].clone());
        }
    }

    /// Removes the UDP flows whose endpoint is not in the state installed last: of some, and never too many.
    pub fn sweep(&mut self) {
        self.swept += engine::sweep::sweep(&self.shared, &self.installed);
    }

    /// A neighbour has this last byte of its MAC address from now on.
    pub fn learn(&self, neighbour: usize, last: u8) {
        let (link, address) = self.neighbours[neighbour % self.neighbours.len()];
        let mac = [2, 0, 0, 0, link + 1, last];
        self.shared
            .neighbours
            .learn(link, address, mac, self.second);
    }

    /// Forgets every neighbour, as a restart does.
    pub fn forget_neighbours(&self) {
        self.shared.neighbours.clear();
    }

    fn recover(&self) {
        let live = 2 * self.live() as usize;
        let recovered = self.shared.v4.recover() + self.shared.v6.recover();
        assert_eq!(recovered, live, "nothing is half-written");
        self.shared.affinity.recover();
        self.shared.neighbours.recover();
    }

    /// Checks the tables and goes back, as far as that is cheap, to the state of the beginning.
    pub fn settle(&mut self) {
        self.check_flows();
        let latest = self.second + 3 * QUIET;
        self.second += QUIET;
        self.pool.left = usize::MAX;
        self.is_choked = false;
        self.publish(0);
        for worker in 0..WORKERS {
            self.upkeep(worker, 1);
        }
        let all = self
            .shared
            .v4
            .bucket_count()
            .max(self.shared.v6.bucket_count());
        // Fragments that were woken may have to wait for a next hop yet.
        while self.workers.iter().any(|worker| waiting(worker) > 0) && self.second < latest {
            self.second += QUIET;
            for worker in 0..WORKERS {
                self.upkeep(worker, all);
            }
        }
        (self.wrong_in, self.wrong_out) = (0, 0);
        for worker in &self.workers {
            assert_eq!(waiting(worker), 0, "nothing waits for ever");
        }
        self.swept += clear(&self.shared.v4, &self.shared) + clear(&self.shared.v6, &self.shared);
        assert_eq!(self.live(), 0, "a removed flow is gone");
        self.introduce();
    }

    fn now(&self) -> Now {
        Now {
            second: self.second,
        }
    }

    fn introduce(&mut self) {
        let (second, changes) = self.introduced;
        if changes == self.shared.neighbours.changes() && self.second - second < INTRODUCE {
            return;
        }
        for (at, (link, address)) in self.neighbours.iter().enumerate() {
            let neighbours = &self.shared.neighbours;
            let known = neighbours.index(*link, *address, self.second);
            assert!(known.is_some(), "the table has room for a few");
            let mac = [2, 0, 0, 0, link + 1, at as u8];
            neighbours.learn(*link, *address, mac, self.second);
        }
        self.introduced = (self.second, self.shared.neighbours.changes());
    }

    fn look(&mut self, worker: usize) {
        for link in 0..world::LINK_MACS.len() {
            let Some(output) = self.workers[worker].output(link) else {
                continue;
            };
            if output.is_empty() {
                continue;
            }
            let (mut bytes, count) = (0, output.len() as u64);
            for frame in output.drain(..) {
                let frame = frame.bytes();
                bytes += frame.len() as u64;
                self.wrong_out += check_frame(link, frame);
                self.last[link].clear();
                self.last[link].extend_from_slice(frame);
            }
            let (sent, refused) = if self.is_choked {
                (0, count)
            } else {
                (count, 0)
            };
            self.workers[worker].sent(link, sent, bytes, refused);
        }
        assert!(
            self.wrong_out <= self.wrong_in,
            "a frame leaves with a wrong checksum, and none came with one: {:02x?}",
            self.last
        );
        self.check_balance(worker);
    }

    fn check_balance(&self, worker: usize) {
        let counters = self.workers[worker].counters();
        let total = |total| counters.total(total);
        let drops: u64 = Reason::ALL
            .iter()
            .map(|reason| counters.drops(*reason))
            .sum();
        assert_eq!(total(Total::Received), self.given[worker], "received");
        assert_eq!(
            total(Total::Received) + total(Total::Originated),
            total(Total::Sent) + drops + waiting(&self.workers[worker]),
            "received + originated = sent + drops + waiting"
        );
    }

    fn check_flows(&self) {
        check_table(&self.shared.v4);
        check_table(&self.shared.v6);
        let total = |total| -> u64 {
            let counters = self.workers.iter().map(Pipeline::counters);
            counters.map(|counters| counters.total(total)).sum()
        };
        let (created, removed) = (total(Total::FlowsCreated), total(Total::FlowsRemoved));
        let came = self.inherited + created;
        assert_eq!(came, removed + self.swept + self.live(), "flows");
    }

    fn live(&self) -> u64 {
        (self.shared.v4.flows().count() + self.shared.v6.flows().count()) as u64
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self::new()
    }
}

fn waiting(worker: &Pipeline<Frame>) -> u64 {
    let counters = worker.counters();
    counters.total(Total::Parked) - counters.total(Total::Unparked)
}

/// Returns 1 for a wrong transport checksum.
fn check_frame(link: usize, frame: &[u8]) -> u64 {
    assert!(frame.len() >= 14, "a frame has an Ethernet header");
    let own = world::LINK_MACS[link];
    assert_eq!(frame[6..12], own, "it comes from us: {frame:02x?}");
    let tag = (frame[12..14] == [0x81, 0]).then(|| u16::from_be_bytes([frame[14], frame[15]]));
    assert_eq!(
        tag.map(|tag| tag & 0xfff).filter(|id| *id != 0),
        world::VLANS[link],
        "the link's VLAN"
    );
    let header = if tag.is_some() { 18 } else { 14 };
    let packet = match frame[header - 2..header] {
        [0x08, 0x00] => usize::from(u16::from_be_bytes([frame[header + 2], frame[header + 3]])),
        [0x86, 0xdd] => {
            40 + usize::from(u16::from_be_bytes([frame[header + 4], frame[header + 5]]))
        }
        _ => 0,
    };
    assert!(
        packet <= usize::from(world::MTUS[link]),
        "a packet of {packet} bytes leaves by link {link}"
    );
    assert!(frame.len() >= header + packet, "a whole packet");
    let (network, transport) = checksum::judge(frame);
    assert_ne!(network, Found::Wrong, "IPv4 header checksum");
    u64::from(transport == Found::Wrong)
}

/// No two flows share a reply tuple, and what a reply becomes is what the client sent to.
pub fn check_table<F: Family>(table: &FlowTable<F>) {
    let mut replies = HashSet::new();
    for flow in table.flows() {
        let reply = F::reverse(&flow.translated);
        assert!(
            replies.insert(F::tuple(&reply)),
            "two flows share a reply tuple"
        );
        let place = table.place(&reply);
        let hit = table.find(&reply, place).expect("a flow has a reply entry");
        let (addresses, ports) = F::parts(&hit.translation);
        let (_, _, protocol) = F::split(&reply);
        let becomes = F::join(addresses, ports, protocol);
        assert_eq!(
            F::tuple(&becomes),
            F::tuple(&F::reverse(&flow.forward)),
            "the reply of a translation is its inverse"
        );
    }
}

fn clear<F: Family>(table: &FlowTable<F>, shared: &Shared) -> u64 {
    let mut removed = 0;
    for flow in table.flows() {
        removed += u64::from(table.remove(&flow));
        shared.open_flows.close_flow(&flow);
    }
    removed
}
