//! The loop of a worker: receive, process, send, from every link in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dpdk::{LocalPool, Mbuf};
use engine::{Now, Pipeline};
use hugepages::region::monotonic_nanos;
use packet::{Burst, Link};

use crate::handover::{Side, bytes_of};

/// Turns after which rare things are looked at: the clock, the stop flag, upkeep under load.
const RARELY: u32 = 256;

/// Empty turns after which a worker that may sleep does.
const IDLE_TURNS: u32 = 64;

/// Buckets of upkeep in an idle turn.
const IDLE_BUCKETS: usize = 8;

/// Buckets of upkeep in a rare turn under load: a pass over a million flows takes a second or so.
const LOADED_BUCKETS: usize = 64;

/// Times that a full device is offered the rest of an output again.
const TX_TRIES: u32 = 8;

/// A worker before it starts.
pub(crate) struct Worker {
    pub(crate) pipeline: Pipeline<Mbuf>,
    pub(crate) pool: LocalPool,
    pub(crate) sides: Vec<Side>,
    /// Sleep of an idle turn; zero = never.
    pub(crate) idle_sleep: Duration,
    pub(crate) stop: Arc<AtomicBool>,
    /// For the time of its first turn, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) started: Arc<AtomicU64>,
}

/// What a worker leaves.
pub(crate) struct Ended {
    /// Its links.
    pub(crate) sides: Vec<Side>,
    /// The time of its last turn, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) at: u64,
}

impl Worker {
    /// Runs until told to stop.
    pub(crate) fn run(mut self) -> Ended {
        // Relaxed: the number stands alone.
        self.started.store(monotonic_nanos(), Ordering::Relaxed);
        let mut now = clock();
        let (mut turn, mut idle) = (0u32, 0u32);
        // Relaxed: the flag stands alone; a turn more or less does not matter.
        while !self.stop.load(Ordering::Relaxed) {
            let received = self.turn(now);
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
                }
                self.pipeline.upkeep(now, buckets, &mut self.pool);
                self.send();
            }
            if idle > IDLE_TURNS && !self.idle_sleep.is_zero() {
                std::thread::sleep(self.idle_sleep);
                now = clock();
            }
        }
        let at = monotonic_nanos();
        self.finish();
        let sides = self.sides;
        Ended { sides, at }
    }

    fn turn(&mut self, now: Now) -> usize {
        let mut received = 0;
        for at in 0..self.sides.len() {
            let side = &mut self.sides[at];
            let mut burst = Burst::<Mbuf>::new();
            if let Some(queue) = &mut side.queue {
                queue.rx_burst(&mut burst);
            }
            let link = side.link;
            let others = side.send_for_others();
            if others.taken > 0 {
                received += others.taken as usize;
                self.pipeline.taken_over(others.taken);
                self.pipeline
                    .sent(link, others.sent, others.bytes, others.refused);
            }
            if !burst.is_empty() {
                received += burst.len();
                self.pipeline
                    .process(now, link, &mut burst, &mut self.pool, &mut ());
                self.send();
            }
        }
        received
    }

    /// Empties the outputs into the links.
    fn send(&mut self) {
        for side in &mut self.sides {
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
        for side in &mut self.sides {
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
