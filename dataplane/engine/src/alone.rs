//! Plain frames that the fast lane has left alone: the first ones of flows, and those whose flow's next hop is
//! not as it was.
//!
//! What is plain needs no parser and lies at constant offsets. This is what a flood of SYNs costs, so the usual
//! first frame goes through here in one go; whatever is not usual about it goes the general way
//! ([`crate::first`]).

use packet::parse::TCP;
use packet::{Buffer, Pool};

use crate::first::End;
use crate::flow::{Hit, Place};
use crate::lane::{Tabled, Work};
use crate::observe::Observe;
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;

impl<B: Buffer> Pipeline<B> {
    /// Carries plain frame number `at` of the burst; returns 1 if its flow was there.
    #[inline(never)]
    pub(crate) fn carry_alone<F: Tabled, P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        at: usize,
        frame: B,
        pool: &mut P,
        observer: &mut O,
    ) -> u64 {
        let quick = F::frames(&mut self.scratch).quick[at];
        let place = Place::around(quick.index, quick.tag);
        let key = quick.key.unmarked().key();
        if F::table(&self.shared).may_hold(place) {
            let work = work_of::<F, B>(&frame, key, place);
            return self.carry(now, input, frame, &work, pool, observer);
        }
        let (_, _, protocol) = F::split(&key);
        let flags = (protocol == TCP).then(|| F::right_segment(frame.bytes()));
        let Some(flags) = flags.flatten() else {
            let work = work_of::<F, B>(&frame, key, place);
            self.first(now, input, frame, &work, pool, observer);
            return 0;
        };
        match self.establish::<F, O>(now, &key, flags, observer) {
            Ok(hit) => {
                if let Some(frame) = self.send_plain(frame, &hit, observer) {
                    let work = work_of::<F, B>(&frame, key, place);
                    self.translate(now, input, frame, &work, &hit, pool, observer);
                }
            }
            Err(End::Drop(reason @ Reason::NotServed)) => {
                self.except(now, input, frame, reason, observer);
            }
            Err(End::Drop(reason)) => self.drop_frame(input, frame, reason, observer),
            Err(End::Reject(reason)) => {
                let (parsed, tuple) = (F::plain_parsed(frame.bytes()), F::tuple(&key));
                self.reject(now, input, frame, &parsed, &tuple, reason, observer);
            }
        }
        0
    }

    /// Translates and sends the first frame of a flow if its next hop is one that this worker knows; else
    /// gives it back.
    #[inline(always)]
    fn send_plain<F: Tabled, O: Observe>(
        &mut self,
        mut frame: B,
        hit: &Hit<F>,
        observer: &mut O,
    ) -> Option<B> {
        let ways = self.egress.ways.now();
        let Some(way) = ways.get(hit.hop) else {
            return Some(frame);
        };
        let bytes = frame.bytes_mut();
        // Those who watch see more of the general way, where segment sizes are clamped, too.
        if O::WATCHES || self.clamps || bytes.len() > way.longest as usize {
            return Some(frame);
        }
        F::rewrite_plain(bytes, &hit.translation);
        way.set_addresses(bytes);
        let (link, len) = (usize::from(way.link), bytes.len());
        self.counters.service_frames().count(hit.hop.slot(), len);
        self.put(link, frame, observer);
        None
    }
}

/// A plain frame as the general way takes it.
#[cold]
fn work_of<F: Tabled, B: Buffer>(frame: &B, key: F::Key, place: Place) -> Work<F> {
    Work {
        parsed: F::plain_parsed(frame.bytes()),
        key,
        place,
        candidate: 0,
    }
}
