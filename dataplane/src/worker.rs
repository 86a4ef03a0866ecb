//! The loop of a worker: receive, process, send, from every link in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpdk::{LocalPool, Mbuf};
use engine::{Now, Pipeline};
use hugepages::region::monotonic_nanos;
use packet::{Buffer, Burst, Link};

use crate::handover::Side;

/// Turns after which rare things are looked at: the clock, the stop flag, upkeep under load.
const RARELY: u32 = 256;

/// Empty turns after which a worker that may sleep does.
const IDLE_TURNS: u32 = 64;

/// Buckets of upkeep in an idle turn, and in a rare turn under load.
const UPKEEP_BUCKETS: usize = 8;

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
}

impl Worker {
    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
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
                if turn.is_multiple_of(RARELY) {
                    now = clock();
                }
                self.pipeline.upkeep(now, UPKEEP_BUCKETS, &mut self.pool);
                self.send();
            }
            if idle > IDLE_TURNS && !self.idle_sleep.is_zero() {
                std::thread::sleep(self.idle_sleep);
                now = clock();
            }
        }
    }

    fn turn(&mut self, now: Now) -> usize {
        let mut received = 0;
        for at in 0..self.sides.len() {
            let side = &mut self.sides[at];
            let mut burst = Burst::<Mbuf>::new();
            if let Some(queue) = &mut side.queue {
                queue.rx_burst(&mut burst);
            }
            let refused = side.send_for_others();
            let link = side.link;
            if refused > 0 {
                self.pipeline.unsent(refused);
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
            let offered: u64 = output.iter().map(|frame| frame.bytes().len() as u64).sum();
            let mut sent = 0;
            for _ in 0..TX_TRIES {
                sent += side.send(output);
                if output.is_empty() {
                    break;
                }
                std::hint::spin_loop();
            }
            // The device has no room: to wait would only fill the receive queue behind it.
            let left: u64 = output.iter().map(|frame| frame.bytes().len() as u64).sum();
            let refused = output.len() as u64;
            output.clear();
            self.pipeline
                .sent(side.link, sent as u64, offered - left, refused);
        }
    }
}

fn clock() -> Now {
    Now {
        second: (monotonic_nanos() / 1_000_000_000) as u32,
    }
}
