//! A worker's side of traces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk::Mbuf;
use engine::observe::Observe;
use engine::publish::Subscriber;
use engine::trace::Tracer;
use engine::{Reason, Shared};
use hugepages::region::monotonic_nanos;
use packet::Buffer;

use super::plan::{Plan, PlanSheets};

/// Part of a second's effort that may be saved up.
const SAVED: u64 = 10;

/// A worker's tracer.
pub(crate) type WorkerTracer = Tracer<PlanSheets>;

/// Where a worker learns whether to trace, and what.
#[derive(Debug)]
pub(crate) struct Tap {
    is_on: Arc<AtomicBool>,
    plans: Subscriber<Option<Arc<Plan>>>,
    shared: Arc<Shared>,
    worker: u16,
    tracer: Option<Box<WorkerTracer>>,
    effort: Effort,
}

impl Tap {
    pub(super) fn new(
        is_on: Arc<AtomicBool>,
        plans: Subscriber<Option<Arc<Plan>>>,
        shared: Arc<Shared>,
        worker: u16,
    ) -> Self {
        Self {
            is_on,
            plans,
            shared,
            worker,
            tracer: None,
            effort: Effort::default(),
        }
    }

    /// Whether anybody traces: all that a burst pays otherwise.
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        // Relaxed: a burst more or less does not matter, and the plan is handed over by the subscriber.
        self.is_on.load(Ordering::Relaxed)
    }

    /// The tracer for so many frames, to be given back; `None` if they are to pass without a look.
    #[cold]
    pub(crate) fn take(&mut self, frames: usize) -> Option<Box<WorkerTracer>> {
        if self.plans.refresh() {
            let new = |plan: &Arc<Plan>| {
                let sheets = PlanSheets(plan.clone());
                let (shared, request) = (self.shared.clone(), plan.request.clone());
                Box::new(Tracer::new(shared, request, sheets, self.worker))
            };
            self.tracer = self.plans.get().as_ref().map(new);
            self.effort = Effort::default();
        }
        let plan = self.plans.get().as_ref()?;
        let now = monotonic_nanos();
        let frames = frames as u64;
        if !self.effort.spend(frames, plan.request.effort.into(), now) {
            plan.unexamined.fetch_add(frames, Ordering::Relaxed);
            return None;
        }
        plan.examined.fetch_add(frames, Ordering::Relaxed);
        let mut tracer = self.tracer.take()?;
        tracer.set_time(now);
        Some(tracer)
    }

    /// Keeps up with what is to be traced, for whoever rarely has anything to tell.
    pub(crate) fn look(&mut self) {
        if let Some(tracer) = self.take(0) {
            self.give_back(tracer);
        }
    }

    /// Tells one frame.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell(&mut self, observe: impl FnOnce(&mut WorkerTracer)) {
        if let Some(mut tracer) = self.take(1) {
            observe(&mut tracer);
            tracer.tell();
            self.give_back(tracer);
        }
    }

    /// Tells frames that other workers handed over and link `link` had no room for.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell_refused(&mut self, link: usize, frames: &[Mbuf]) {
        if let Some(mut tracer) = self.take(frames.len()) {
            for frame in frames {
                tracer.refused(link, frame.bytes());
            }
            tracer.tell();
            self.give_back(tracer);
        }
    }

    /// Tells frames received on link `link` that are dropped before they come into the pipeline.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell_dropped(&mut self, link: usize, frames: &[Mbuf], reason: Reason) {
        if let Some(mut tracer) = self.take(frames.len()) {
            for frame in frames {
                let bytes = frame.bytes();
                if tracer.wants(link, bytes) && tracer.begin(link, bytes) {
                    tracer.dropped(reason);
                }
            }
            tracer.tell();
            self.give_back(tracer);
        }
    }

    pub(crate) fn give_back(&mut self, tracer: Box<WorkerTracer>) {
        self.tracer = Some(tracer);
    }
}

/// Looks that a worker may still take: a token bucket.
#[derive(Debug, Default)]
struct Effort {
    /// Billionths of a look.
    saved: u64,
    last: u64,
}

impl Effort {
    /// Takes so many looks out of a bucket that fills with `rate` looks a second.
    fn spend(&mut self, looks: u64, rate: u64, now: u64) -> bool {
        const ONE: u64 = 1_000_000_000;
        // A burst must fit in, however low the rate.
        let most = (rate * ONE / SAVED).max(packet::BURST as u64 * ONE);
        let elapsed = now.saturating_sub(self.last).min(ONE);
        self.last = now;
        self.saved = most.min(self.saved + elapsed * rate);
        let cost = looks * ONE;
        let is_enough = self.saved >= cost;
        if is_enough {
            self.saved -= cost;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_looked_at_than_the_effort_allows_and_it_is_spread_over_time() {
        let mut effort = Effort::default();
        let (rate, burst) = (1_000, 10);
        // Ten times as many frames as may be looked at, for two seconds.
        let looked: Vec<u64> = (0..2_000)
            .filter(|turn| effort.spend(burst, rate, (1 << 40) | (turn * 1_000_000)))
            .collect();
        let in_first = looked.iter().filter(|turn| **turn < 1_000).count() as u64;
        let in_second = looked.len() as u64 - in_first;
        assert!(
            (rate / burst..=rate / burst + 10).contains(&in_first),
            "{in_first}"
        );
        assert!(
            (rate / burst - 1..=rate / burst + 1).contains(&in_second),
            "{in_second}"
        );
        let gaps = looked[50..].windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max().unwrap() <= 11, "{looked:?}");
    }

    #[test]
    fn a_burst_is_looked_at_however_low_the_rate() {
        let mut effort = Effort::default();
        assert!(effort.spend(1, 1, 1 << 40));
        let later = |seconds: u64| (1 << 40) + seconds * 1_000_000_000;
        let full = (1..=40).filter(|second| effort.spend(32, 1, later(*second)));
        assert_eq!(full.count(), 1);
    }
}
