//! The loop of a worker: receive, process, send, from every link in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dpdk::{LocalPool, Mbuf};
use engine::counters::Total;
use engine::fan_out::Pressures;
use engine::{Now, Pipeline};
use hugepages::region::monotonic_nanos;
use packet::{Buffer, Burst, Link};

use crate::handover::{Seat, bytes_of};
use crate::recall::Recall;
use crate::trace::{Tap, WorkerTracer};

/// Turns after which rare things are looked at: the clock, the stop flag, upkeep under load.
pub(crate) const RARELY: u32 = 256;

/// Empty turns after which a worker that may sleep does.
const IDLE_TURNS: u32 = 64;

/// Buckets of upkeep in an idle turn.
const IDLE_BUCKETS: usize = 8;

/// Buckets of upkeep in a rare turn under load: a pass over a million flows takes a second or so.
const LOADED_BUCKETS: usize = 64;

/// Of how many bursts one is timed: reading the clock twice costs as much as a few frames.
pub(crate) const TIMED: u32 = 64;

/// Times that a full device is offered the rest of an output again.
const TX_TRIES: u32 = 8;

/// A worker before it starts.
pub(crate) struct Worker {
    pub(crate) pipeline: Pipeline<Mbuf>,
    pub(crate) pool: LocalPool,
    pub(crate) number: usize,
    pub(crate) seat: Seat,
    /// Which workers cannot keep up.
    pub(crate) pressures: Pressures,
    /// Whether frames were dealt to it since the last look.
    pub(crate) is_fed: bool,
    pub(crate) tap: Tap,
    /// What the main core wants back of them.
    pub(crate) recall: Arc<Recall>,
    /// A bit for each link whose queue it has lent to it.
    pub(crate) lent: u32,
    /// Bursts until one is timed.
    pub(crate) until_timed: u32,
    /// Sleep of an idle turn; zero = never.
    pub(crate) idle_sleep: Duration,
    pub(crate) stop: Arc<AtomicBool>,
    /// For the time of its first turn, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) started: Arc<AtomicU64>,
}

/// What a worker leaves.
pub(crate) struct Ended {
    /// Its links, and where frames were dealt to it.
    pub(crate) seat: Seat,
    /// The time of its last turn, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) at: u64,
}

impl Worker {
    /// Runs until told to stop.
    pub(crate) fn run(self) -> Ended {
        // Two programs: where every worker has queues of its own, nothing is to ask whether frames are dealt.
        if self.deals() {
            self.run_as::<true>()
        } else {
            self.run_as::<false>()
        }
    }

    fn run_as<const DEALS: bool>(mut self) -> Ended {
        // Relaxed: the number stands alone.
        self.started.store(monotonic_nanos(), Ordering::Relaxed);
        let mut now = clock();
        let (mut turn, mut idle) = (0u32, 0u32);
        // Relaxed: the flag stands alone; a turn more or less does not matter.
        while !self.stop.load(Ordering::Relaxed) {
            let received = self.turn::<DEALS>(now);
            turn = turn.wrapping_add(1);
            idle = if received == 0 {
                idle.saturating_add(1)
            } else {
                0
            };
            if received == 0 || turn.is_multiple_of(RARELY) {
                let buckets = if received == 0 {
                    IDLE_BUCKETS
                } else {
                    LOADED_BUCKETS
                };
                if turn.is_multiple_of(RARELY) {
                    now = clock();
                    self.recall
                        .obey(self.number, &mut self.seat.sides, &mut self.lent);
                    if DEALS {
                        self.look_at_shares();
                    }
                }
                if !(self.tap.is_on() && self.upkeep_traced(now, buckets)) {
                    self.pipeline.upkeep(now, buckets, &mut self.pool, &mut ());
                    self.send();
                }
            }
            if idle > IDLE_TURNS && !self.idle_sleep.is_zero() {
                std::thread::sleep(self.idle_sleep);
                now = clock();
                // Many turns take long now.
                self.recall
                    .obey(self.number, &mut self.seat.sides, &mut self.lent);
            }
        }
        let at = monotonic_nanos();
        if DEALS {
            while self.take_in(now) > 0 {}
        }
        self.finish();
        let seat = self.seat;
        Ended { seat, at }
    }

    fn turn<const DEALS: bool>(&mut self, now: Now) -> usize {
        let mut received = 0;
        if DEALS {
            received += self.take_in(now);
        }
        for at in 0..self.seat.sides.len() {
            let side = &mut self.seat.sides[at];
            let mut burst = Burst::<Mbuf>::new();
            if let Some(queue) = &mut side.queue {
                queue.rx_burst(&mut burst);
            }
            let link = side.link;
            received += self.send_for_others(at);
            if !burst.is_empty() {
                received += burst.len();
                let begun = self.is_timed().then(monotonic_nanos);
                if DEALS {
                    // First, while nothing of this burst is under way to anybody.
                    self.change_shares(at);
                    self.deal(at, &mut burst, begun);
                }
                // Where all are dealt out there is nothing to carry, and no way from rx to tx to time.
                let is_carried = !DEALS || !burst.is_empty();
                if is_carried {
                    self.carry_burst::<false>(now, link, &mut burst);
                }
                if let Some(begun) = begun {
                    self.note_work(begun, is_carried);
                }
            }
        }
        received
    }

    /// Whether the time of this burst is taken.
    #[inline(always)]
    pub(crate) fn is_timed(&mut self) -> bool {
        self.until_timed = self.until_timed.wrapping_sub(1);
        let is_timed = self.until_timed == 0;
        if is_timed {
            self.until_timed = TIMED;
        }
        is_timed
    }

    /// Takes a burst through the pipeline and sends what comes of it; `DEALT`: another worker received it.
    #[inline(always)]
    pub(crate) fn carry_burst<const DEALT: bool>(
        &mut self,
        now: Now,
        link: usize,
        burst: &mut Burst<Mbuf>,
    ) {
        if self.tap.is_on() && self.process_traced::<DEALT>(now, link, burst) {
            return;
        }
        let (pipeline, pool) = (&mut self.pipeline, &mut self.pool);
        if DEALT {
            pipeline.process_dealt(now, link, burst, pool, &mut ());
        } else {
            pipeline.process(now, link, burst, pool, &mut ());
        }
        self.send();
    }

    /// Sends what others have handed over for the link of a side; how many frames that were.
    #[inline(always)]
    fn send_for_others(&mut self, at: usize) -> usize {
        let side = &mut self.seat.sides[at];
        let link = side.link;
        let tap = &mut self.tap;
        let others = side.send_for_others(|refused| {
            if tap.is_on() {
                tap.tell_refused(link, refused);
            }
        });
        if others.taken > 0 {
            self.pipeline.taken_over(others.taken);
            self.pipeline
                .sent(link, others.sent, others.bytes, others.refused);
        }
        others.taken as usize
    }

    /// Counts the work that a burst was since it was `begun`, for all those that are not timed as well; with `is_way`, as
    /// its way from rx to tx, too.
    #[cold]
    pub(crate) fn note_work(&mut self, begun: u64, is_way: bool) {
        let taken = monotonic_nanos().saturating_sub(begun);
        let counters = self.pipeline.counters();
        counters.add(Total::WorkNanos, taken.saturating_mul(TIMED.into()));
        if is_way {
            counters.note_time(taken);
        }
    }

    /// Carries a burst while somebody traces: the frames that are asked for go alone, in their places among the
    /// others. False, and nothing done, if it is to pass without a look.
    #[cold]
    #[inline(never)]
    fn process_traced<const DEALT: bool>(
        &mut self,
        now: Now,
        link: usize,
        burst: &mut Burst<Mbuf>,
    ) -> bool {
        let Some(mut tracer) = self.tap.take(burst.len()) else {
            return false;
        };
        let mut next = Burst::<Mbuf>::new();
        for frame in burst.drain(..) {
            let bytes = frame.bytes();
            if tracer.wants(link, bytes) {
                self.carry::<DEALT>(now, link, &mut next, &mut tracer);
                tracer.begin(link, bytes);
                next.push(frame);
                self.carry::<DEALT>(now, link, &mut next, &mut tracer);
            } else {
                next.push(frame);
            }
        }
        self.carry::<DEALT>(now, link, &mut next, &mut tracer);
        self.tap.give_back(tracer);
        true
    }

    /// Carries frames under the eyes of a tracer, and sends what came of them.
    fn carry<const DEALT: bool>(
        &mut self,
        now: Now,
        link: usize,
        burst: &mut Burst<Mbuf>,
        tracer: &mut WorkerTracer,
    ) {
        if burst.is_empty() {
            return;
        }
        let (pipeline, pool) = (&mut self.pipeline, &mut self.pool);
        if DEALT {
            pipeline.process_dealt(now, link, burst, pool, tracer);
        } else {
            pipeline.process(now, link, burst, pool, tracer);
        }
        self.send_traced(tracer);
    }

    #[cold]
    #[inline(never)]
    fn upkeep_traced(&mut self, now: Now, buckets: usize) -> bool {
        let Some(mut tracer) = self.tap.take(0) else {
            return false;
        };
        self.pipeline
            .upkeep(now, buckets, &mut self.pool, &mut *tracer);
        self.send_traced(&mut tracer);
        self.tap.give_back(tracer);
        true
    }

    fn send_traced(&mut self, tracer: &mut WorkerTracer) {
        tracer.end();
        for side in self.seat.sides.iter().filter(|side| !side.sends()) {
            tracer.handed_over(side.link);
        }
        self.send_with(|link, frame| tracer.refused(link, frame.bytes()));
        tracer.tell();
    }

    /// Empties the outputs into the links.
    fn send(&mut self) {
        self.send_with(|_, _| ());
    }

    /// The same, and shows the frames that a link has no room for.
    #[inline(always)]
    fn send_with(&mut self, mut refuse: impl FnMut(usize, &Mbuf)) {
        for side in &mut self.seat.sides {
            let Some(output) = self.pipeline.output(side.link) else {
                continue;
            };
            if output.is_empty() {
                continue;
            }
            let mut taken = 0;
            for _ in 0..TX_TRIES {
                taken += side.send(output) as u64;
                if output.is_empty() {
                    break;
                }
                std::hint::spin_loop();
            }
            // The device has no room: to wait would only fill the receive queue behind it.
            let left = bytes_of(output);
            let refused = output.len() as u64;
            output.iter().for_each(|frame| refuse(side.link, frame));
            output.clear();
            let offered = self.pipeline.take_bytes(side.link);
            if side.sends() {
                self.pipeline
                    .sent(side.link, taken, offered - left, refused);
            } else {
                self.pipeline.handed_over(taken);
                self.pipeline.sent(side.link, 0, 0, refused);
            }
        }
    }

    /// Accounts for what is still in hand.
    fn finish(&mut self) {
        self.pipeline.finish();
        for side in &mut self.seat.sides {
            let left = side.drop_handed_over();
            self.pipeline.taken_over(left);
            self.pipeline.sent(side.link, 0, 0, left);
        }
    }
}

fn clock() -> Now {
    Now {
        second: (monotonic_nanos() / 1_000_000_000) as u32,
    }
}
