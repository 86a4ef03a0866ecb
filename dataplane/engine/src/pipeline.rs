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

use packet::fragment::Piece;
use packet::parse::{Network, ParseError, Parsed, SCTP, TCP, UDP, parse};
use packet::{Buffer, Burst, Pool, sctp};

use crate::counters::{Counters, LinkCounter, Total};
use crate::egress::{Egress, Output, is_vlan, set_ethernet};
use crate::family::{Family, V4, V6};
use crate::flow::state::{ACK, REPLIED, SYN, seen};
use crate::flow::{Hit, Hop, State};
use crate::fragments::Parked;
use crate::lane::{Found, Lane, Scratch, Starts, Tabled, UNUSUAL, Work};
use crate::neighbour::Word;
use crate::observe::{Observe, Waits};
use crate::openings::Openings;
use crate::publish::Subscriber;
use crate::reason::Reason;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::snat::SnatPorts;
use crate::topology::{LinkConfig, MssClamp};
use crate::towards::Towards;

/// Workers among which the upkeep of the tables is spread.
const MAX_WORKERS: usize = 16;

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
        let v4 = self.classify::<V4>(input, burst);
        let mut v6 = Found::default();
        if v4.others > 0 {
            v6 = self.classify::<V6>(input, burst);
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
            self.maintain_neighbours(now, pool);
        }
        self.part_with_gone(now, pool);
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
            self.counters.drop_many(Reason::TxFull, refused);
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

    /// Stage 2 for frames that are not plain, or not for this link.
    #[cold]
    #[inline(never)]
    fn classify_unusual(&mut self, input: usize, burst: &Burst<B>) {
        for (at, frame) in burst.iter().enumerate() {
            if self.scratch.lanes[at] == Lane::Unknown {
                let lane = self.lane(input, at, frame);
                self.scratch.lanes[at] = lane.unwrap_or_else(|reason| {
                    self.scratch.reasons[at] = reason;
                    Lane::Drop
                });
            }
        }
    }

    fn lane(&mut self, input: usize, at: usize, frame: &B) -> Result<Lane, Reason> {
        let bytes = frame.bytes();
        let scratch = &mut *self.scratch;
        let link = self
            .shared
            .topology
            .links
            .get(input)
            .ok_or(Reason::NotOurs)?;
        let parsed = match parse(bytes) {
            Ok(parsed) => parsed,
            Err(_) if !frame.is_contiguous() => return Err(Reason::MultiSegment),
            Err(ParseError::Fragment) => {
                let parsed = Piece::read(bytes)?.parsed;
                // What a group may be asked (neighbour discovery) never comes in fragments (RFC 6980).
                return match lane_of(bytes, frame, &parsed, link)? {
                    _ if bytes.first_chunk() != Some(&link.mac) => Err(Reason::NotForUs),
                    _ => Ok(Lane::Fragment),
                };
            }
            Err(error) => return Err(error.into()),
        };
        scratch.v4[at].parsed = parsed;
        let lane = lane_of(bytes, frame, &parsed, link)?;
        if lane == Lane::V4 {
            let work = &mut scratch.v4[at];
            work.key = V4::key(bytes, &parsed);
            work.place = self.shared.v4.place(&work.key);
            self.shared.v4.prefetch_bucket(work.place);
        }
        if lane == Lane::V6 {
            let work = &mut scratch.v6[at];
            work.parsed = parsed;
            work.key = V6::key(bytes, &parsed);
            work.place = self.shared.v6.place(&work.key);
            self.shared.v6.prefetch_bucket(work.place);
        }
        Ok(lane)
    }

    /// Stage 3 for frames that are not plain.
    #[cold]
    #[inline(never)]
    fn match_unusual(&mut self, count: usize) {
        let scratch = &mut *self.scratch;
        for at in 0..count {
            match scratch.lanes[at] {
                Lane::V4 => {
                    let work = &mut scratch.v4[at];
                    work.candidate = self.shared.v4.candidate(work.place);
                    self.shared.v4.prefetch_free(work.place);
                }
                Lane::V6 => {
                    let work = &mut scratch.v6[at];
                    work.candidate = self.shared.v6.candidate(work.place);
                    self.shared.v6.prefetch_free(work.place);
                }
                _ => {}
            }
        }
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

    /// Returns 1 for a hit.
    pub(crate) fn carry<F: Tabled, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        frame: B,
        work: &Work<F>,
        pool: &mut P,
        observer: &mut O,
    ) -> u64 {
        let table = F::table(&self.shared);
        let Some(hit) = table.find(&work.key, work.place) else {
            self.first(now, input, frame, work, pool, observer);
            return 0;
        };
        if O::WATCHES {
            observer.found(&F::tuple(&work.key), hit.hop.service());
        }
        if hit.hop.is_gone() {
            self.part(now, input, frame, work, &hit, pool, observer);
            return 0;
        }
        if starts_anew(work.parsed.tcp_flags)
            && let Some(flow) = table.view_of(hit.index)
            && flow.state == State::Closed
        {
            // A new connection on the tuple of one in TIME_WAIT: it may have another backend.
            self.forget(&flow);
            self.first(now, input, frame, work, pool, observer);
            return 0;
        }
        self.translate(now, input, frame, work, &hit, pool, observer);
        1
    }

    /// Rewrites a frame by its flow and sends it on.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // what a frame on its way is made of
    pub(crate) fn translate<F: Tabled, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        mut frame: B,
        work: &Work<F>,
        hit: &Hit<F>,
        pool: &mut P,
        observer: &mut O,
    ) {
        let parsed = &work.parsed;
        if parsed.ttl <= 1 {
            self.expire(now, input, frame, parsed, observer);
            return;
        }
        let (hop, word) = match self.way::<F>(now, hit) {
            Ok(way) => way,
            Err(reason) => return self.drop_frame(input, frame, reason, observer),
        };
        let Some(link) = self.shared.topology.links.get(usize::from(word.link())) else {
            return self.drop_frame(input, frame, Reason::NoRoute, observer);
        };
        self.egress.ways.keep(hop, word, link);
        if let Some(mtu) = self.forbidding_mtu(frame.bytes(), parsed, word) {
            self.too_big(now, input, frame, parsed, mtu, observer);
            return;
        }
        if parsed.protocol == SCTP && !is_sctp_valid(frame.bytes(), parsed) {
            return self.drop_frame(input, frame, Reason::BadChecksum, observer);
        }
        let len = frame.bytes().len();
        F::rewrite(frame.bytes_mut(), parsed, &hit.translation);
        if self.clamps && parsed.tcp_flags & SYN != 0 {
            let output = usize::from(word.link());
            self.clamp_mss(input, output, frame.bytes_mut(), parsed);
        }
        let flags = if parsed.protocol == TCP {
            seen(parsed.tcp_flags)
        } else {
            REPLIED
        };
        F::table(&self.shared).touch(hit.index, now.second, flags);
        self.counters.service_frames().count(hop.service(), len);
        observe_translation::<F, O>(&work.key, hit, observer);
        self.leave(
            now,
            input,
            frame,
            parsed,
            (hop.neighbour(), word),
            pool,
            observer,
        );
    }

    /// Next hop of a flow's frames, and its neighbour's word now.
    #[inline(always)]
    pub(crate) fn way<F: Tabled>(&mut self, now: Now, hit: &Hit<F>) -> Result<(Hop, Word), Reason> {
        let hop = hit.hop;
        let word = self.shared.neighbours.word(hop.neighbour());
        let is_known = word.generation() == hop.neighbour_generation()
            && hop.routes() == self.snapshots.get().route_generation;
        if is_known {
            Ok((hop, word))
        } else {
            self.reroute::<F>(now, hit)
        }
    }

    /// Puts a frame that is complete into a link's output, or drops it.
    #[inline(always)]
    pub(crate) fn put<O: Observe>(&mut self, link: usize, frame: B, observer: &mut O) {
        if O::WATCHES {
            observer.queued(link, frame.bytes());
        }
        if let Err(reason) = self.egress.push(link, frame) {
            self.counters.drop(reason);
            observer.dropped(reason);
        }
    }

    /// Puts a complete packet into the output of its next hop's link, or lets it wait.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // what a frame on its way is made of
    pub(crate) fn leave<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        mut frame: B,
        parsed: &Parsed,
        (neighbour, word): (u16, Word),
        pool: &mut P,
        observer: &mut O,
    ) {
        let Some(link) = self.shared.topology.links.get(usize::from(word.link())) else {
            return self.drop_frame(input, frame, Reason::NoRoute, observer);
        };
        observer.next_hop(neighbour);
        if parsed.end - parsed.l3 > link.mtu {
            let (way, mtu) = ((neighbour, word), link.mtu);
            return self.leave_cut(now, input, frame, parsed, way, mtu, pool, observer);
        }
        let Some(mac) = word.mac() else {
            return self.wait(now, input, frame, neighbour, word, pool, observer);
        };
        if !set_ethernet(&mut frame, mac, link) {
            return self.drop_frame(input, frame, Reason::NoBuffer, observer);
        }
        self.put(usize::from(word.link()), frame, observer);
    }

    /// Counts and frees a dropped frame.
    #[cold]
    pub(crate) fn drop_frame<O: Observe>(
        &mut self,
        input: usize,
        frame: B,
        reason: Reason,
        observer: &mut O,
    ) {
        drop(frame);
        self.counters.drop(reason);
        let counter = match reason {
            Reason::Truncated => LinkCounter::Truncated,
            Reason::UnfinishedChecksum => LinkCounter::UnfinishedChecksums,
            _ => LinkCounter::Dropped,
        };
        self.counters.add_link(input, counter, 1);
        observer.dropped(reason);
    }

    /// Finds a flow's next hop anew: routes or the neighbour's slot have changed since.
    #[cold]
    fn reroute<F: Tabled>(&mut self, now: Now, hit: &Hit<F>) -> Result<(Hop, Word), Reason> {
        if hit.hop.is_gone() {
            return Err(Reason::EndpointGone);
        }
        let (addresses, _) = F::parts(&hit.translation);
        let (_, destination) = F::ends(&addresses);
        let (hop, word) = self.next_hop::<F>(now, destination, hit.hop.service())?;
        F::table(&self.shared).set_hop(hit.index, hit.hop, hop);
        Ok((hop, word))
    }

    #[cold]
    #[allow(clippy::too_many_arguments)] // what a frame on its way is made of
    fn wait<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        frame: B,
        neighbour: u16,
        word: Word,
        pool: &mut P,
        observer: &mut O,
    ) {
        match self
            .egress
            .park(frame, neighbour, word, now.second, &self.counters)
        {
            Ok(()) => {
                observer.waits(Waits::Neighbour);
                if let Some(solicitation) = self.shared.neighbours.solicit(neighbour, now.second) {
                    let topology = &self.shared.topology;
                    self.egress
                        .solicit(&solicitation, topology, &self.counters, pool);
                }
            }
            Err(reason) => {
                self.counters.drop(reason);
                self.counters.add_link(input, LinkCounter::Dropped, 1);
                observer.dropped(reason);
            }
        }
    }

    #[cold]
    fn unpark<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        pool: &mut P,
        observer: &mut O,
    ) {
        let Shared {
            topology,
            neighbours,
            ..
        } = &*self.shared;
        let known = (&**topology, neighbours);
        self.egress
            .unpark(now.second, known, &self.counters, pool, observer);
    }

    /// One worker asks for all; once a second.
    #[cold]
    fn maintain_neighbours<P: Pool<Buffer = B>>(&mut self, now: Now, pool: &mut P) {
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
                egress.solicit(&solicitation, &shared.topology, counters, pool);
            });
    }
}

/// Tells what frames with the tuple `key` become by a flow's entry.
#[inline(always)]
pub(crate) fn observe_translation<F: Family, O: Observe>(
    key: &F::Key,
    hit: &Hit<F>,
    observer: &mut O,
) {
    if O::WATCHES {
        let (_, _, protocol) = F::split(key);
        let (addresses, ports) = F::parts(&hit.translation);
        let to = F::join(addresses, ports, protocol);
        observer.translated(&F::tuple(key), &F::tuple(&to));
    }
}

/// A SYN that opens a connection.
#[inline(always)]
const fn starts_anew(tcp_flags: u8) -> bool {
    tcp_flags & (SYN | ACK) == SYN
}

/// The lane of a frame that could be parsed.
#[inline(always)]
fn lane_of<B: Buffer>(
    bytes: &[u8],
    frame: &B,
    parsed: &Parsed,
    link: &LinkConfig,
) -> Result<Lane, Reason> {
    if bytes.first_chunk() != Some(&link.mac) {
        return group_lane(bytes, parsed, link);
    }
    if !is_vlan(parsed.vlan, link) {
        return Err(Reason::WrongVlan);
    }
    if !frame.is_contiguous() {
        return Err(Reason::MultiSegment);
    }
    Ok(match (parsed.network, parsed.protocol) {
        (Network::V4, TCP | UDP | SCTP) => Lane::V4,
        (Network::V6, TCP | UDP | SCTP) => Lane::V6,
        _ => Lane::Local,
    })
}

/// Frames to a group are for us only as ARP or neighbour discovery; all other destinations are
/// other machines'.
#[cold]
fn group_lane(bytes: &[u8], parsed: &Parsed, link: &LinkConfig) -> Result<Lane, Reason> {
    let is_group = bytes.first().is_some_and(|first| first & 1 == 1);
    let may_ask = parsed.network == Network::Arp
        || parsed.network == Network::V6 && parsed.protocol == packet::parse::ICMPV6;
    match (is_group, may_ask) {
        (false, _) => Err(Reason::OtherMac),
        (true, true) if is_vlan(parsed.vlan, link) => Ok(Lane::Local),
        (true, true) => Err(Reason::WrongVlan),
        (true, false) => Err(Reason::NotForUs),
    }
}

/// The CRC is computed anew after the rewrite: a corrupted packet must not leave with a right one.
#[cold]
fn is_sctp_valid(bytes: &[u8], parsed: &Parsed) -> bool {
    bytes
        .get(parsed.l4()..parsed.end())
        .is_some_and(sctp::is_valid)
}
