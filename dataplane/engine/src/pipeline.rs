//! A burst's way through a worker: the stages, in order.
//!
//! 1. ask for the frames' first lines
//! 2. parse, find each frame's lane, hash its tuple, ask for its bucket's line
//! 3. compare tags, ask for the entry's lines
//! 4. read the entry, rewrite, put into the egress link's output
//!
//! Work of one stage for all frames comes before the next stage of any, so that up to 32 memory
//! accesses overlap. Frames that hit no flow leave the fast lane in stage 4 ([`crate::first`]);
//! frames for the gateway itself leave it in stage 2 ([`crate::local`]).

use std::sync::Arc;

use packet::{Buffer, Burst, Pool};

use crate::counters::{Counters, LinkCounter, Total};
use crate::egress::{Egress, Output};
use crate::family::{V4, V6};
use crate::fragments::Parked;
use crate::lane::{Found, Lane, Scratch, Starts, UNUSUAL};
use crate::observe::Observe;
use crate::openings::Openings;
use crate::publish::Subscriber;
use crate::reason::Reason;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::snat::SnatPorts;
use crate::topology::MssClamp;
use crate::towards::Towards;

/// Workers among which the upkeep of the tables is spread.
pub(crate) const MAX_WORKERS: usize = 16;

/// The time of a burst, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Seconds of the monotonic clock; the flow table's unit.
    pub second: u32,
}

/// One worker's packet path.
#[derive(Debug)]
pub struct Pipeline<B: Buffer> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) snapshots: Subscriber<Snapshot>,
    pub(crate) counters: Counters,
    pub(crate) egress: Egress<B>,
    pub(crate) random: u64,
    pub(crate) snat_ports: SnatPorts,
    pub(crate) towards: Towards,
    /// Second, and ICMP errors sent in it.
    pub(crate) reports: (u32, u32),
    /// New flows refused one after the other because the table is full.
    pub(crate) futile: u32,
    pub(crate) openings: Openings,
    /// Whether any link clamps segment sizes.
    pub(crate) clamps: bool,
    pub(crate) parked: Parked<B>,
    pub(crate) scratch: Box<Scratch>,
    pub(crate) starts: Vec<Starts>,
    upkeep: Upkeep,
}

/// Which of several workers this is, and where its share of the tables' upkeep stands.
#[derive(Debug)]
struct Upkeep {
    v4: usize,
    v6: usize,
    neighbours: usize,
    last_second: u32,
    worker: usize,
}

impl<B: Buffer> Pipeline<B> {
    /// The path of worker number `worker`. `seed` makes its random choices differ from others'.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        snapshots: Subscriber<Snapshot>,
        counters: Counters,
        worker: usize,
        seed: u64,
    ) -> Self {
        let snat_ports = SnatPorts::new(shared.options.nodeport_range);
        let links = &shared.topology.links;
        let egress = Egress::new(links);
        let starts = links.iter().map(Starts::new).collect();
        let clamps = links.iter().any(|link| link.mss_clamp != MssClamp::Off);
        let openings = Openings::new(&shared, counters.service_slots());
        let (v4_buckets, v6_buckets) = (shared.v4.bucket_count(), shared.v6.bucket_count());
        Self {
            shared,
            snapshots,
            counters,
            egress,
            random: seed | 1,
            snat_ports,
            towards: Towards::default(),
            reports: (0, 0),
            futile: 0,
            openings,
            clamps,
            parked: Parked::new(worker),
            scratch: Box::default(),
            starts,
            upkeep: Upkeep {
                // Each worker begins elsewhere: side by side they would do one's work twice.
                v4: v4_buckets * worker / MAX_WORKERS,
                v6: v6_buckets * worker / MAX_WORKERS,
                neighbours: 0,
                last_second: 0,
                worker,
            },
        }
    }

    /// Takes a burst that was received on link `input` through all stages. Afterwards `burst` is empty
    /// and what is to be sent lies in [`Pipeline::outputs`].
    pub fn process<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        burst: &mut Burst<B>,
        pool: &mut P,
        observer: &mut O,
    ) {
        self.take_through::<P, O, false>(now, input, burst, pool, observer);
    }

    /// [`Pipeline::process`] for frames that another worker has received on link `input` and dealt to this one.
    pub fn process_dealt<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        burst: &mut Burst<B>,
        pool: &mut P,
        observer: &mut O,
    ) {
        self.take_through::<P, O, true>(now, input, burst, pool, observer);
    }

    #[inline(always)]
    fn take_through<P: Pool<Buffer = B>, O: Observe, const DEALT: bool>(
        &mut self,
        now: Now,
        input: usize,
        burst: &mut Burst<B>,
        pool: &mut P,
        observer: &mut O,
    ) {
        self.snapshots.refresh();
        let routes = self.snapshots.get().route_generation;
        self.egress.ways.refresh(&self.shared.neighbours, routes);
        let mut received = 0;
        for frame in burst.iter() {
            let bytes = frame.bytes();
            intrinsics::prefetch(bytes);
            received += bytes.len() as u64;
        }
        self.scratch.bytes = received;
        let v4 = self.classify::<V4, DEALT>(input, burst);
        let mut v6 = Found::default();
        if v4.others > 0 {
            v6 = self.classify::<V6, DEALT>(input, burst);
            // What is not IPv6's is IPv4's, found before, or still unknown.
            if v6.others > v4.plain {
                self.classify_unusual(input, burst);
            }
        }
        if v4.plain + v6.plain < burst.len() {
            self.match_unusual(burst.len());
        }
        if O::WATCHES {
            for lane in &self.scratch.lanes[..burst.len()] {
                observer.parsed(lane.name());
            }
        }
        if v4.plain > 0 {
            self.carry_plain::<V4, O>(now, v4.has_syn, burst, observer);
        }
        if v6.plain > 0 {
            self.carry_plain::<V6, O>(now, v6.has_syn, burst, observer);
        }
        let hits = self.put_out(now, input, burst, pool, observer);
        self.counters.add(Total::Hits, hits);
        if self.egress.has_parked() {
            self.unpark(now, pool, observer);
        }
        if self.parked.has_any() {
            self.look_at_parked(now, pool, observer);
        }
    }

    /// What an idle worker does: a little of the tables' upkeep. To be called now and then under load
    /// too, or nothing is ever forgotten.
    pub fn upkeep<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        buckets: usize,
        pool: &mut P,
        observer: &mut O,
    ) {
        // An idle worker must not keep an old snapshot: the main core waits for it to go.
        self.snapshots.refresh();
        let Self {
            shared,
            counters,
            upkeep,
            ..
        } = self;
        let timeouts = &shared.options.timeouts;
        let open = &shared.open_flows;
        let mut gone = 0;
        shared
            .v4
            .age(&mut upkeep.v4, buckets, now.second, timeouts, |flow| {
                open.close_flow(flow);
                gone += 1;
            });
        shared
            .v6
            .age(&mut upkeep.v6, buckets, now.second, timeouts, |flow| {
                open.close_flow(flow);
                gone += 1;
            });
        counters.add(Total::FlowsRemoved, gone);
        if upkeep.last_second != now.second {
            upkeep.last_second = now.second;
            self.maintain_neighbours(now, pool, observer);
        }
        self.part_with_gone(now, pool, observer);
        if self.egress.has_parked() {
            self.unpark(now, pool, observer);
        }
        if self.parked.has_any() {
            self.look_at_parked(now, pool, observer);
        }
    }

    /// Frames to be sent, by link. The caller empties them before the next burst, and reports
    /// what became of them by [`Pipeline::sent`].
    pub fn outputs(&mut self) -> impl Iterator<Item = (usize, &mut Output<B>)> {
        self.egress.outputs()
    }

    /// Frames to be sent by one link.
    pub fn output(&mut self, link: usize) -> Option<&mut Output<B>> {
        self.egress.output(link)
    }

    /// Bytes of the frames put into a link's output since this was last asked.
    pub fn take_bytes(&mut self, link: usize) -> u64 {
        self.egress.take_bytes(link)
    }

    /// Counts frames handed over to another worker, which sends them.
    pub fn handed_over(&self, frames: u64) {
        self.counters.add(Total::HandedOver, frames);
    }

    /// Counts frames taken over from another worker, to be sent.
    pub fn taken_over(&self, frames: u64) {
        self.counters.add(Total::TakenOver, frames);
    }

    /// Counts frames that were received on link `input` and go to another worker. To be called before that can have them: who
    /// is killed in between has then lost count of none that live on.
    #[inline]
    pub fn dealt_out(&self, input: usize, frames: u64, bytes: u64) {
        self.received(input, frames, bytes);
        self.counters.add(Total::HandedOver, frames);
        self.counters.add_link(input, LinkCounter::DealtOut, frames);
    }

    /// Counts frames that were received on link `input`, and for which the worker that they were dealt to had no room.
    #[cold]
    pub fn not_dealt_out(&self, input: usize, frames: u64, bytes: u64) {
        self.received(input, frames, bytes);
        self.counters.drop_on(input, Reason::WorkerFull, frames);
    }

    #[inline(always)]
    pub(crate) fn received(&self, input: usize, frames: u64, bytes: u64) {
        self.counters.add(Total::Received, frames);
        self.counters.add_link(input, LinkCounter::RxFrames, frames);
        self.counters.add_link(input, LinkCounter::RxBytes, bytes);
    }

    /// Drops what waits for a next hop: the worker ends.
    pub fn finish(&mut self) {
        self.egress.drop_parked(&self.counters);
        self.drop_parked_fragments();
    }

    /// Counts frames that link `link` took, and those it had no room for.
    pub fn sent(&self, link: usize, frames: u64, bytes: u64, refused: u64) {
        self.counters.add(Total::Sent, frames);
        self.counters.add_link(link, LinkCounter::TxFrames, frames);
        self.counters.add_link(link, LinkCounter::TxBytes, bytes);
        if refused > 0 {
            self.counters.drop_on(link, Reason::TxFull, refused);
        }
    }

    /// Generation of the snapshot by which the last burst was decided.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.snapshots.get().generation
    }

    /// This worker's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Stage 5: puts frames into the outputs of their links, the unusual ones on their ways.
    /// Returns the number of hits.
    #[inline(always)]
    fn put_out<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        burst: &mut Burst<B>,
        pool: &mut P,
        observer: &mut O,
    ) -> u64 {
        let count = burst.len();
        let links = &self.scratch.links[..count];
        let first = links.first().copied().unwrap_or(UNUSUAL);
        // Those who watch are told of each frame.
        if !O::WATCHES
            && links.iter().fold(0, |all, link| all | (link ^ first)) == 0
            && self
                .egress
                .push_all(usize::from(first), burst, self.scratch.bytes)
        {
            return count as u64;
        }
        let mut hits = 0;
        for (at, frame) in burst.drain(..).enumerate() {
            let link = self.scratch.links[at];
            if link == UNUSUAL {
                hits += self.carry_unusual(now, input, at, frame, pool, observer);
                continue;
            }
            hits += 1;
            self.put(usize::from(link), frame, observer);
        }
        hits
    }

    /// Stage 4 for a frame that is not plain, or whose flow is not established or not as it was.
    #[cold]
    #[inline(never)]
    fn carry_unusual<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        at: usize,
        frame: B,
        pool: &mut P,
        observer: &mut O,
    ) -> u64 {
        match self.scratch.lanes[at] {
            Lane::Plain4 => self.carry_alone::<V4, P, O>(now, input, at, frame, pool, observer),
            Lane::Plain6 => self.carry_alone::<V6, P, O>(now, input, at, frame, pool, observer),
            Lane::V4 => {
                let work = self.scratch.v4[at];
                self.carry(now, input, frame, &work, pool, observer)
            }
            Lane::V6 => {
                let work = self.scratch.v6[at];
                self.carry(now, input, frame, &work, pool, observer)
            }
            Lane::Local => {
                let parsed = self.scratch.v4[at].parsed;
                self.local(now, input, frame, &parsed, pool, observer);
                0
            }
            Lane::Fragment => {
                self.fragment(now, input, frame, pool, observer);
                0
            }
            Lane::Drop | Lane::Unknown => {
                let reason = self.scratch.reasons[at];
                self.drop_frame(input, frame, reason, observer);
                0
            }
        }
    }

    /// One worker asks for all; once a second.
    #[cold]
    fn maintain_neighbours<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        pool: &mut P,
        observer: &mut O,
    ) {
        if self.upkeep.worker != 0 {
            return;
        }
        let Self {
            shared,
            counters,
            egress,
            upkeep,
            ..
        } = self;
        let all = shared.neighbours.capacity();
        shared
            .neighbours
            .maintain(&mut upkeep.neighbours, all, now.second, |solicitation| {
                egress.solicit(&solicitation, &shared.topology, counters, pool, observer);
            });
    }
}
