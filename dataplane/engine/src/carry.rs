//! A frame's way by its flow, one frame at a time: found, rewritten, given its next hop, put out; or dropped.

use packet::parse::{Parsed, SCTP, TCP};
use packet::{Buffer, Pool, sctp};

use crate::egress::set_ethernet;
use crate::family::Family;
use crate::flow::state::{ACK, REPLIED, SYN, seen};
use crate::flow::{Hit, Hop, State};
use crate::lane::{Tabled, Work};
use crate::neighbour::Word;
use crate::observe::{Observe, Waits};
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;
use crate::shared::Shared;

impl<B: Buffer> Pipeline<B> {
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
            observer.found(&F::tuple(&work.key), hit.hop.slot());
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
        self.counters.service_frames().count(hop.slot(), len);
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
            self.counters.drop_on(link, reason, 1);
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
            return self.wait(now, frame, neighbour, word, pool, observer);
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
        self.counters.drop_on(input, reason, 1);
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
        let (hop, word) = self.next_hop::<F>(now, destination, hit.hop.slot())?;
        F::table(&self.shared).set_hop(hit.index, hit.hop, hop);
        Ok((hop, word))
    }

    #[cold]
    #[allow(clippy::too_many_arguments)] // what a frame on its way is made of
    fn wait<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
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
                        .solicit(&solicitation, topology, &self.counters, pool, observer);
                }
            }
            Err(reason) => {
                self.counters.drop_on(usize::from(word.link()), reason, 1);
                observer.dropped(reason);
            }
        }
    }

    #[cold]
    pub(crate) fn unpark<P: Pool<Buffer = B>, O: Observe>(
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

/// The CRC is computed anew after the rewrite: a corrupted packet must not leave with a right one.
#[cold]
fn is_sctp_valid(bytes: &[u8], parsed: &Parsed) -> bool {
    bytes
        .get(parsed.l4()..parsed.end())
        .is_some_and(sctp::is_valid)
}
