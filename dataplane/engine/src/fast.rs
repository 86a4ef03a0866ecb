//! The fast lane: plain frames of established flows whose next hop is as it was.
//!
//! Each stage is one loop over the burst for one family, in a function of its own so that its variables stay
//! in registers. A frame that turns out to be unusual in any way is left alone; [`crate::pipeline`]
//! handles it when it puts the frames into outputs, so that the order of a flow's frames stays.

use packet::plain::Start;
use packet::{BURST, Buffer, Burst};

use crate::carry::observe_translation;
use crate::counters::{ServiceFrames, Total};
use crate::family::{Family, Turned};
use crate::flow::state::{ACK, FIN, REPLIED, RST};
use crate::flow::{Entries, FlowTable, Place};
use crate::lane::{Found, Frames, Lane, Quick, Tabled, UNUSUAL};
use crate::observe::Observe;
use crate::pipeline::{Now, Pipeline};
use crate::ways::WaysNow;

impl<B: Buffer> Pipeline<B> {
    /// Stage 2 for frames that are not known yet (all, at first): finds the plain ones of family `F`.
    #[inline(always)]
    pub(crate) fn classify<F: Tabled, const DEALT: bool>(
        &mut self,
        input: usize,
        burst: &Burst<B>,
    ) -> Found {
        let start = F::start(&self.starts, input);
        let table = F::table(&self.shared);
        let Frames {
            lanes,
            links,
            quick,
        } = F::frames(&mut self.scratch);
        let is_first = F::PLAIN == Lane::Plain4;
        if is_first {
            *lanes = [Lane::Plain4; BURST];
            *links = [UNUSUAL; BURST];
        }
        let found = find_plain(table, start, burst, lanes, quick);
        if is_first {
            let received = self.scratch.bytes;
            let count = burst.len() as u64;
            self.counters.add(Total::Bursts, 1);
            if DEALT {
                // Received, and counted for the link, by the worker that dealt them.
                self.counters.add(Total::TakenOver, count);
                self.counters.add(Total::TakenIn, count);
            } else {
                self.received(input, count, received);
            }
        }
        found
    }

    /// Stages 3 and 4 for plain frames of family `F`: translates those of established flows and notes where
    /// each leaves.
    #[inline(always)]
    pub(crate) fn carry_plain<F: Tabled, O: Observe>(
        &mut self,
        now: Now,
        has_syn: bool,
        burst: &mut Burst<B>,
        observer: &mut O,
    ) {
        let shared = &*self.shared;
        let Frames { links, quick, .. } = F::frames(&mut self.scratch);
        let table = F::table(shared);
        if let Some(quick) = quick.get_mut(..burst.len()) {
            if has_syn {
                ask_for_room(table, quick);
            }
            find_entries(table, quick);
        }
        let meets = Meets {
            entries: table.entries(),
            services: self.counters.service_frames(),
            ways: self.egress.ways.now(),
            second: now.second,
        };
        translate_plain(meets, burst, links, quick, observer);
    }
}

/// Stage 2: finds plain frames. What is not plain becomes a [`Quick`] that nothing is found for.
#[inline(never)]
fn find_plain<F: Tabled, B: Buffer>(
    table: &FlowTable<F>,
    start: &Start,
    burst: &[B],
    lanes: &mut [Lane; BURST],
    quick: &mut [Quick<F>; BURST],
) -> Found {
    let mut others = 0;
    let mut has_syn = false;
    for ((frame, lane), quick) in burst.iter().zip(lanes).zip(quick) {
        let bytes = frame.bytes();
        match F::plain(bytes, start) {
            Some(plain) if frame.is_contiguous() => {
                let key = Turned::new(&plain.key);
                let place = table.place_of(&key);
                table.prefetch_bucket(place);
                quick.key = key;
                (quick.index, quick.tag) = place.parts();
                if plain.has_syn {
                    // Marked here and there only, so that nothing is kept for it across the hash.
                    quick.key = quick.key.marked();
                    has_syn = true;
                }
                if F::PLAIN != Lane::Plain4 {
                    *lane = F::PLAIN;
                }
            }
            _ => {
                others += 1;
                *quick = Quick::default();
                if F::PLAIN == Lane::Plain4 {
                    // Taken for plain so far.
                    *lane = Lane::Unknown;
                }
            }
        }
    }
    Found {
        plain: burst.len() - others,
        has_syn,
        others,
    }
}

/// Stage 3 for frames with a SYN: asks for what a new flow will need.
#[inline(never)]
fn ask_for_room<F: Family>(table: &FlowTable<F>, quick: &[Quick<F>]) {
    for quick in quick {
        if quick.key.is_marked() {
            table.prefetch_free(Place::new(quick.index, quick.tag));
        }
    }
}

/// Stage 3: from buckets to entries.
#[inline(never)]
fn find_entries<F: Family>(table: &FlowTable<F>, quick: &mut [Quick<F>]) {
    for quick in &mut *quick {
        quick.index = table.candidate_in(quick.index, quick.tag);
    }
    if table.is_wide() {
        // Once more: a request whose page is not in the TLB only brings the page (measured at a million
        // flows: 13 ns a frame; without the first request as bad as without this one).
        for quick in &*quick {
            table.prefetch_entry(quick.index);
        }
    }
}

/// Stage 4: translates what can be, and notes the links.
#[inline(never)]
fn translate_plain<F: Family, B: Buffer, O: Observe>(
    meets: Meets<'_, F>,
    burst: &mut [B],
    links: &mut [u8; BURST],
    quick: &[Quick<F>; BURST],
    observer: &mut O,
) {
    for ((frame, link), quick) in burst.iter_mut().zip(links).zip(quick) {
        if let Some(leaves_by) = meets.translate(quick, frame.bytes_mut(), observer) {
            *link = leaves_by;
        }
    }
}

/// What a frame meets in stage 4.
#[derive(Clone, Copy)]
struct Meets<'a, F: Family> {
    entries: Entries<'a, F>,
    services: ServiceFrames<'a>,
    ways: WaysNow<'a>,
    second: u32,
}

impl<F: Family> Meets<'_, F> {
    /// Translates a frame and returns its link; or leaves it alone.
    #[inline(always)]
    fn translate<O: Observe>(
        self,
        quick: &Quick<F>,
        bytes: &mut [u8],
        observer: &mut O,
    ) -> Option<u8> {
        let hit = self.entries.read(quick.index, &quick.key)?;
        let way = self.ways.get(hit.hop)?;
        if bytes.len() > way.longest as usize {
            return None;
        }
        let flags = F::rewrite_plain(bytes, &hit.translation);
        // What is found has no SYN, so that `seen` has nothing to decide.
        let flags = flags.map_or(REPLIED, |flags| flags & (FIN | RST | ACK));
        way.set_addresses(bytes);
        self.entries.touch(hit.index, self.second, flags);
        self.services.count(hit.hop.slot(), bytes.len());
        if O::WATCHES {
            let key = quick.key.key();
            observer.found(&F::tuple(&key), hit.hop.slot());
            observe_translation::<F, O>(&key, &hit, observer);
            observer.next_hop(hit.hop.neighbour());
        }
        Some(way.link)
    }
}
