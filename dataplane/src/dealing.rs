//! A worker's part in dealing frames out: what it deals of a burst, what it takes in, and when shares change.

use dpdk::Mbuf;
use engine::Now;
use hugepages::region::monotonic_nanos;
use packet::Burst;

use crate::handover::bytes_of;
use crate::worker::{RARELY, Worker};

/// Of as many turns as lie between two looks, full bursts in so many say that a worker cannot keep up.
const BEHIND: u32 = RARELY / 4 * 3;

impl Worker {
    /// Whether frames are dealt by this worker, or to it.
    pub(crate) fn deals(&self) -> bool {
        let deals = self.seat.sides.iter().any(|side| side.dealer.is_some());
        deals || !self.seat.inlets.is_empty()
    }

    /// Deals a burst that was received by a side; leaves what this worker keeps.
    #[inline(always)]
    pub(crate) fn deal(&mut self, at: usize, burst: &mut Burst<Mbuf>, begun: Option<u64>) {
        let side = &mut self.seat.sides[at];
        side.full_bursts += u32::from(burst.is_full());
        let Some(dealer) = &mut side.dealer else {
            return;
        };
        if !dealer.is_dealing() {
            return;
        }
        let (link, pipeline, tap) = (side.link, &self.pipeline, &mut self.tap);
        dealer.deal(
            burst,
            begun,
            |frames, bytes| pipeline.dealt_out(link, frames, bytes),
            |frames| {
                if tap.is_on() {
                    tap.tell_dropped(link, frames, engine::Reason::WorkerFull);
                }
                pipeline.not_dealt_out(link, frames.len() as u64, bytes_of(frames));
                Mbuf::free_bulk(frames);
            },
        );
    }

    /// Carries a burst of each ring that others deal into; how many frames that were.
    pub(crate) fn take_in(&mut self, now: Now) -> usize {
        let mut taken = 0;
        // Set aside meanwhile: to carry a burst takes the whole worker.
        let mut inlets = std::mem::take(&mut self.seat.inlets);
        for inlet in &mut inlets {
            let link = inlet.link();
            let mut received = None;
            taken += inlet.take(
                |burst| {
                    let begun = self.is_timed().then(monotonic_nanos);
                    self.carry_burst::<true>(now, link, burst);
                    if let Some(begun) = begun {
                        self.note_work(begun, false);
                    }
                },
                |begun| received = Some(begun),
            );
            if let Some(begun) = received {
                let way = monotonic_nanos().saturating_sub(begun);
                self.pipeline.counters().note_time(way);
            }
        }
        self.seat.inlets = inlets;
        self.is_fed |= taken > 0;
        taken
    }

    /// Tells the others whether this worker keeps up, and looks whether what it deals out fits the load.
    #[cold]
    pub(crate) fn look_at_shares(&mut self) {
        let is_behind = |full_bursts: u32| full_bursts >= BEHIND;
        let mut sides = self.seat.sides.iter();
        let is_any_behind = sides.any(|side| is_behind(side.full_bursts));
        self.pressures.set(self.number, is_any_behind);
        let is_fed = std::mem::take(&mut self.is_fed);
        for side in &mut self.seat.sides {
            let full_bursts = std::mem::take(&mut side.full_bursts);
            if let Some(dealer) = &mut side.dealer {
                dealer.look(is_behind(full_bursts), is_fed);
            }
        }
    }

    /// Makes a change of shares that waits, if its moment has come.
    #[inline(always)]
    pub(crate) fn change_shares(&mut self, at: usize) {
        let dealer = self.seat.sides[at].dealer.as_deref();
        if dealer.is_some_and(engine::fan_out::Dealer::has_wish) {
            self.try_to_change_shares(at);
        }
    }

    #[cold]
    fn try_to_change_shares(&mut self, at: usize) {
        let Some(mut dealer) = self.seat.sides[at].dealer.take() else {
            return;
        };
        // First whether the taker is done, then whether what it has handed over is sent.
        dealer.change(|| {
            let mut sides = self.seat.sides.iter();
            sides.all(crate::handover::Side::is_all_sent)
        });
        self.seat.sides[at].dealer = Some(dealer);
    }
}
