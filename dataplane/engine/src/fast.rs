//! The fast lane: plain frames of established flows whose next hop is as it was.
//!
//! Each stage is one loop over the burst for one family, small enough for its variables to stay in
//! registers. A frame that turns out to be unusual in any way is marked and left alone; [`crate::pipeline`]
//! handles it when it puts the frames into outputs, so that the order of a flow's frames stays.

use packet::{Buffer, Burst};

use crate::counters::{Counters, LinkCounter, Total};
use crate::egress::Way;
use crate::family::Family;
use crate::flow::FlowTable;
use crate::flow::state::{ACK, FIN, REPLIED, RST};
use crate::lane::{Lane, Quick, Tabled, UNUSUAL};
use crate::neighbour::Neighbours;
use crate::observe::Observe;
use crate::pipeline::{Now, Pipeline};

impl<B: Buffer> Pipeline<B> {
    /// Stage 2 for frames that are not known yet (all, at first): finds the plain ones of family `F` and
    /// returns their number.
    #[inline(always)]
    pub(crate) fn classify<F: Tabled>(&mut self, input: usize, burst: &Burst<B>) -> usize {
        let is_first = F::PLAIN == Lane::Plain4;
        // The MAC address of a frame that may be plain here, moved up; that of no frame if there is none.
        let mac = match self.shared.topology.links.get(input) {
            Some(link) if link.vlan.is_none() => {
                let [a, b, c, d, e, f] = link.mac;
                u64::from_le_bytes([0, 0, a, b, c, d, e, f])
            }
            _ => 1,
        };
        let table = F::table(&self.shared);
        let (lanes, _, quick) = F::plain(&mut self.scratch);
        let (mut found, mut received) = (0, 0);
        for ((frame, lane), quick) in burst.iter().zip(lanes).zip(quick) {
            if !is_first && *lane != Lane::Unknown {
                continue;
            }
            let bytes = frame.bytes();
            received += bytes.len() as u64;
            *lane = Lane::Unknown;
            let start = bytes
                .first_chunk()
                .map_or(0, |start| u64::from_le_bytes(*start));
            if start << 16 != mac || !frame.is_contiguous() {
                continue;
            }
            if let Some(key) = F::plain_key(bytes) {
                let place = table.place(&key);
                table.prefetch_bucket(place);
                quick.key = key;
                (quick.index, quick.tag) = place.parts();
                *lane = F::PLAIN;
                found += 1;
            }
        }
        if is_first {
            let count = burst.len() as u64;
            self.counters.add(Total::Received, count);
            self.counters.add(Total::Bursts, 1);
            self.counters.add_link(input, LinkCounter::RxFrames, count);
            self.counters
                .add_link(input, LinkCounter::RxBytes, received);
        }
        found
    }

    /// Stages 3 and 4 for plain frames of family `F`: translates those of established flows, notes where
    /// each leaves and returns their number.
    #[inline(always)]
    pub(crate) fn carry_plain<F: Tabled, O: Observe>(
        &mut self,
        now: Now,
        burst: &mut Burst<B>,
        observer: &mut O,
    ) -> u64 {
        let is_first = F::PLAIN == Lane::Plain4;
        let shared = &*self.shared;
        let table = F::table(shared);
        let (lanes, links, quick) = F::plain(&mut self.scratch);
        for (lane, quick) in lanes.iter().zip(&mut *quick).take(burst.len()) {
            if *lane == F::PLAIN {
                quick.index = table.candidate_in(quick.index, quick.tag);
            }
        }
        // Once more: a request whose page is not in the TLB only brings the page (measured at a million
        // flows: 13 ns a frame; without the first request as bad as without this one).
        for quick in quick.iter().take(burst.len()) {
            table.prefetch_entry(quick.index);
        }
        let meets = Meets {
            table,
            neighbours: &shared.neighbours,
            counters: &self.counters,
            ways: &self.egress.ways,
            second: now.second,
            routes: u32::from(self.snapshots.get().route_generation) << 8,
        };
        let mut hits = 0;
        let states = lanes.iter().zip(links).zip(quick);
        for (frame, ((lane, link), quick)) in burst.iter_mut().zip(states) {
            if *lane == F::PLAIN {
                *link = meets.translate(quick, frame.bytes_mut(), observer);
                hits += u64::from(*link != UNUSUAL);
            } else if is_first {
                *link = UNUSUAL;
            }
        }
        hits
    }
}

/// What a frame meets in stage 4.
struct Meets<'a, F: Family> {
    table: &'a FlowTable<F>,
    neighbours: &'a Neighbours,
    counters: &'a Counters,
    ways: &'a [Way; 16],
    second: u32,
    /// Generation of the routes, as [`crate::flow::Hop::generations`] has it.
    routes: u32,
}

impl<F: Family> Meets<'_, F> {
    /// Translates a frame and returns its link; or leaves it alone and returns [`UNUSUAL`].
    #[inline(always)]
    fn translate<O: Observe>(&self, quick: &Quick<F>, bytes: &mut [u8], observer: &mut O) -> u8 {
        let Some(hit) = self.table.read(quick.index, &quick.key) else {
            return UNUSUAL;
        };
        let hop = hit.hop;
        let word = self.neighbours.word(hop.neighbour());
        let Some(mac) = word.mac_word() else {
            return UNUSUAL;
        };
        // The link has four bits.
        let way = &self.ways[usize::from(word.link()) % 16];
        let is_known = hop.generations() == self.routes | u32::from(word.generation());
        if !is_known || bytes.len() > way.longest as usize {
            return UNUSUAL;
        }
        let flags = F::rewrite_plain(bytes, &hit.translation);
        // Plain segments have no SYN, so that `seen` has nothing to decide.
        let flags = flags.map_or(REPLIED, |flags| flags & (FIN | RST | ACK));
        way.set_addresses(bytes, mac);
        self.table.touch(hit.index, self.second, flags);
        self.counters.add_service_frame(hop.service(), bytes.len());
        if O::WATCHES {
            let (addresses, ports) = F::store(&hit.translation);
            let (_, _, protocol) = F::split(&quick.key);
            let to = F::join(addresses, (ports >> 32) as u32, protocol);
            observer.translated(&F::tuple(&quick.key), &F::tuple(&to), false);
        }
        word.link()
    }
}
