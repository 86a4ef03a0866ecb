//! TCP flows whose endpoint is gone, of services that want them reset (`portgate.dev/on-endpoint-gone`): what a
//! worker does with them.
//!
//! [`crate::departures`] marks the flows on the main core, and [`crate::orders`] brings them here. Nothing is kept of
//! a flow's sequence numbers, so established frames pay nothing for all this. The mark lies in the hops of both
//! entries ([`crate::flow::Hop::gone`]), where it makes the fast lane leave the frame alone. From then on the
//! gateway is to each side what a host without the connection is: it answers a segment with the reset that
//! RFC 9293 section 3.10.7.1 asks for, whose number is the segment's own acknowledgement, hence exact. An
//! idle side is made to send one: a segment outside its window must be answered by an acknowledgement (section
//! 3.10.7.4), so each side gets such a segment at once. One answer tells what both sides expect: its
//! acknowledgement is the number for its sender, its sequence number that for the other side.

use packet::parse::parse;
use packet::segment::{Segment, sequence};
use packet::tcp::{self, ACK, RST, SYN};
use packet::tuple::Tuple;
use packet::{Buffer, Pool};

use crate::counters::Total;
use crate::family::{V4, V6};
use crate::flow::{Direction, Hit};
use crate::lane::{Tabled, Work};
use crate::observe::{Observe, Own};
use crate::orders::Order;
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;

/// Flows whose sides a worker asks at a time: both frames may leave by one link, whose output holds
/// [`crate::egress::OUTPUT`].
const FLOWS_A_TURN: usize = 24;

impl<B: Buffer> Pipeline<B> {
    /// Handles a frame of a flow whose endpoint is gone: its sender and, once, the other side get a reset.
    #[cold]
    #[allow(clippy::too_many_arguments)] // what a frame on its way is made of
    pub(crate) fn part<F: Tabled, P: Pool<Buffer = B>, O: Observe>(
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
        let table = F::table(&self.shared);
        let flags = parsed.tcp_flags;
        let peer = table.peer(hit.index);
        if flags & (SYN | ACK) == SYN
            && peer.direction == Direction::Forward
            && let Some(flow) = table.view(hit.index)
        {
            // A new connection: it gets an endpoint that is there.
            self.forget(&flow);
            self.first(now, input, frame, work, pool, observer);
            return;
        }
        if flags & RST != 0 {
            // This side has ended it itself.
            table.touch(hit.index, now.second, RST);
            return self.drop_frame(input, frame, Reason::EndpointGone, observer);
        }
        let bytes = frame.bytes().get(parsed.l4()..parsed.end());
        let seq = bytes.and_then(sequence).unwrap_or(0);
        let (l3, l4, end) = (parsed.l3(), parsed.l4(), parsed.end());
        if tcp::refuse(&mut frame, l3, l4, end).is_err() {
            // Not a segment to believe, a wrong checksum for one.
            return self.drop_frame(input, frame, Reason::EndpointGone, observer);
        }
        table.touch(hit.index, now.second, RST);
        let was_told = table.activity(peer.index).1 & RST != 0;
        let slot = self.shared.endpoints.service(hit.hop.slot());
        self.counters.add(Total::Refused, 1);
        self.counters.reset(slot);
        self.answer(input, frame, observer);
        // Exact if nothing is under way between the sides. If not, the other side answers with what it
        // expects, or is answered when it sends.
        if !was_told && flags & ACK != 0 {
            let other = translated::<F>(hit, parsed.protocol);
            let segment = segment(&other, RST, seq, 0);
            self.counters.reset(slot);
            self.originate::<F, P, O>(now, &segment, slot, pool, observer);
        }
    }

    /// Asks the sides of flows that were marked for a segment.
    pub(crate) fn part_with_gone<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        pool: &mut P,
        observer: &mut O,
    ) {
        for _ in 0..FLOWS_A_TURN {
            let Some(order) = self.shared.orders.take() else {
                return;
            };
            if order.v6 {
                self.ask_sides::<V6, P, O>(now, &order, pool, observer);
            } else {
                self.ask_sides::<V4, P, O>(now, &order, pool, observer);
            }
        }
    }

    #[cold]
    fn ask_sides<F: Tabled, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        order: &Order,
        pool: &mut P,
        observer: &mut O,
    ) {
        let table = F::table(&self.shared);
        let Some((forward, life)) = table.content(order.index) else {
            return;
        };
        let reply = forward.peer.index;
        if life != order.life || !forward.hop.is_gone() {
            return;
        }
        let (_, _, protocol) = F::split(&forward.key);
        let (addresses, ports) = F::parts(&forward.translation);
        let sides = [
            // What the client gets comes from the service, what the pod gets from the client as it knows it.
            (order.index, F::tuple(&F::reverse(&forward.key))),
            (reply, F::tuple(&F::join(addresses, ports, protocol))),
        ];
        let slot = self.shared.endpoints.service(forward.hop.slot());
        for (entry, tuple) in sides {
            let is_told = F::table(&self.shared).activity(entry).1 & RST != 0;
            if !is_told {
                // Numbers that are outside any window but by chance, and harmless then: nothing is in it.
                let random = self.next_random();
                let asking = segment(&tuple, ACK, (random >> 32) as u32, random as u32);
                self.originate::<F, P, O>(now, &asking, slot, pool, observer);
            }
        }
    }

    /// Sends a segment of the gateway's own.
    #[cold]
    fn originate<F: Tabled, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        segment: &Segment,
        slot: u32,
        pool: &mut P,
        observer: &mut O,
    ) {
        // Without a buffer, route or neighbour the next try comes soon.
        let Some(mut frame) = pool.alloc() else {
            return;
        };
        let to = F::number(segment.destination.ip());
        let found = to.map(|to| self.next_hop::<F>(now, to, slot));
        let Some(Ok((hop, word))) = found else {
            return;
        };
        if !segment.write(&mut frame) {
            return;
        }
        let Ok(parsed) = parse(frame.bytes()) else {
            return;
        };
        self.counters.add(Total::Originated, 1);
        let link = usize::from(word.link());
        let way = (hop.neighbour(), word);
        if O::WATCHES {
            let what = if segment.flags & RST != 0 {
                Own::Reset
            } else {
                Own::Probe
            };
            observer.own_begins(link, what, frame.bytes());
            observer.next_hop(hop.neighbour());
        }
        self.leave(now, link, frame, &parsed, way, pool, observer);
        observer.own_ends();
    }
}

/// What frames of the entry become.
fn translated<F: Tabled>(hit: &Hit<F>, protocol: u8) -> Tuple {
    let (addresses, ports) = F::parts(&hit.translation);
    F::tuple(&F::join(addresses, ports, protocol))
}

fn segment(tuple: &Tuple, flags: u8, seq: u32, ack: u32) -> Segment {
    Segment {
        source: tuple.from(),
        destination: tuple.to(),
        flags,
        seq,
        ack,
    }
}
