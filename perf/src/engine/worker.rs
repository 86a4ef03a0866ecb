//! One worker in a scenario: prepares frames, has them timed, checks what became of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::counters::Total;
use engine::{Now, Pipeline, Reason, Shared};
use hdrhistogram::Histogram;
use packet::tcp::{ACK, SYN};
use packet::{Buffer, Burst, Link, Pool};

use super::cluster::{LINK_MACS, NODE_MAC, NODES, OUTSIDE, ROUTER_MAC};
use super::flows::{FlowSet, Tabled};
use super::gateway::introduce;
use super::options::{Direction, Flood, Plan, Scenario};
use crate::Error;
use crate::bench::random::Random;
use crate::bench::{Seat, Stamp, round};
use crate::record::Fates;

/// Bursts between two looks at the tables' upkeep, which is timed with the rest.
const UPKEEP_EVERY: usize = 256;

/// Buckets looked at then: as in the data plane's worker.
const UPKEEP_BUCKETS: usize = 8;

/// Frames written ahead of the one whose flow was asked for: hides the flow list's memory latency.
const AHEAD: usize = 16;

/// A worker.
#[derive(Debug)]
pub struct Worker<F: Tabled, L: Link, P> {
    plan: Plan,
    number: usize,
    shared: Arc<Shared>,
    pipeline: Pipeline<L::Buffer>,
    flows: Arc<FlowSet<F>>,
    /// Its link and pool.
    pub seat: Seat<L, P>,
    /// Its frames, between rounds.
    pub bursts: Vec<Burst<L::Buffer>>,
    stamps: Stamps,
    random: Random,
    /// Flows begun by this worker.
    begun: u64,
    /// Time measured so far: the clock that flows see, so that what happens once a second happens as often
    /// among so many frames as it does in a gateway under this load.
    measured: Duration,
    last_second: u32,
}

#[derive(Debug)]
struct Stamps {
    syn: Stamp,
    forward: Stamp,
    reply: Stamp,
}

/// What a frame of a round is to be.
enum Frame<F: Tabled> {
    Syn(F::Key),
    Forward(F::Key),
    Reply(F::Key),
}

impl<F, L, P> Worker<F, L, P>
where
    F: Tabled,
    L: Link,
    P: Pool<Buffer = L::Buffer>,
{
    /// Worker `number` over these flows.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for an impossible frame size.
    pub fn new(
        plan: &Plan,
        number: usize,
        shared: Arc<Shared>,
        pipeline: Pipeline<L::Buffer>,
        flows: Arc<FlowSet<F>>,
        seat: Seat<L, P>,
    ) -> Result<Self, Error> {
        let [outside, nodes] = LINK_MACS;
        let size = plan.frame_size;
        Ok(Self {
            number,
            shared,
            pipeline,
            flows,
            seat,
            bursts: (0..plan.mbufs / plan.burst).map(|_| Burst::new()).collect(),
            stamps: Stamps {
                syn: Stamp::tcp::<F>(SYN, size, ROUTER_MAC, outside)?,
                forward: Stamp::tcp::<F>(ACK, size, ROUTER_MAC, outside)?,
                reply: Stamp::tcp::<F>(ACK, size, NODE_MAC, nodes)?,
            },
            random: Random::new(plan.seed, number as u64),
            begun: 0,
            measured: Duration::ZERO,
            last_second: 0,
            plan: plan.clone(),
        })
    }

    /// The flows.
    #[must_use]
    pub fn flows(&self) -> &FlowSet<F> {
        &self.flows
    }

    /// Writes the next round's frames.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if the pool has too few buffers.
    pub fn prepare(&mut self) -> Result<(), Error> {
        let mut bursts = std::mem::take(&mut self.bursts);
        if !self.seat.fill(&mut bursts, self.plan.burst) {
            return Err(Error::Run(format!(
                "the pool has fewer than {} buffers",
                self.plan.mbufs
            )));
        }
        let second = self.second();
        if second != self.last_second {
            introduce(&self.shared, &self.flows.cluster, second);
            self.last_second = second;
        }
        // A ring of flow numbers, so that each is asked for some frames before it is needed.
        let mut ahead = [0; AHEAD];
        for slot in &mut ahead {
            *slot = self.next_flow();
        }
        for (at, frame) in bursts.iter_mut().flatten().enumerate() {
            let flow = std::mem::replace(&mut ahead[at % AHEAD], self.next_flow());
            match self.frame(at / self.plan.burst, flow) {
                Frame::Syn(key) => self.stamps.syn.write::<F, _>(frame, &key),
                Frame::Forward(key) => self.stamps.forward.write::<F, _>(frame, &key),
                Frame::Reply(key) => self.stamps.reply.write::<F, _>(frame, &key),
            }
        }
        self.bursts = bursts;
        Ok(())
    }

    /// Times one round over what was prepared; returns nanoseconds and fates.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if frames did not end as the scenario says they do.
    pub fn run(&mut self) -> Result<(f64, Fates), Error> {
        self.timed::<false>(&mut Vec::new())
    }

    /// [`Worker::run`], with a look at the clock around each burst: from having received it until its last frame is
    /// handed to the device, in nanoseconds.
    ///
    /// # Errors
    ///
    /// As [`Worker::run`].
    pub fn run_each(&mut self, each: &mut Histogram<u64>) -> Result<(f64, Fates), Error> {
        let mut nanos = Vec::with_capacity(self.bursts.len());
        let result = self.timed::<true>(&mut nanos)?;
        nanos
            .into_iter()
            .for_each(|nanos| each.saturating_record(nanos));
        Ok(result)
    }

    /// A round in which `sort` first takes what it likes out of each received burst, which came by the link that it is told;
    /// returns nanoseconds. What becomes of the rest is not checked.
    pub fn run_sorted(
        &mut self,
        mut sort: impl FnMut(usize, &Pipeline<L::Buffer>, &mut Burst<L::Buffer>),
    ) -> f64 {
        let now = self.now();
        let direction = self.plan.direction;
        let pipeline = &mut self.pipeline;
        let pool = &mut self.seat.pool;
        let elapsed = round(
            &mut self.seat.link,
            &mut self.bursts,
            |number, burst, done| {
                let input = direction.link(number);
                sort(input, pipeline, burst);
                if !burst.is_empty() {
                    process_burst(pipeline, now, input, burst, pool);
                    flush(pipeline, done);
                }
                if number % UPKEEP_EVERY == 0 {
                    pipeline.upkeep(now, UPKEEP_BUCKETS, pool, &mut ());
                }
            },
        );
        self.measured += elapsed;
        elapsed.as_nanos() as f64
    }

    /// The time that flows see in the next round.
    #[must_use]
    pub const fn now(&self) -> Now {
        Now {
            second: self.last_second,
        }
    }

    fn timed<const EACH: bool>(&mut self, each: &mut Vec<u64>) -> Result<(f64, Fates), Error> {
        let before = self.fates();
        let count = self.plan.mbufs as u64;
        let now = Now {
            second: self.last_second,
        };
        let mixed = self.plan.scenario == Scenario::Established;
        let direction = self.plan.direction;
        let pipeline = &mut self.pipeline;
        let pool = &mut self.seat.pool;
        let elapsed = round(
            &mut self.seat.link,
            &mut self.bursts,
            |number, burst, done| {
                let input = if mixed {
                    direction.link(number)
                } else {
                    OUTSIDE
                };
                let start = EACH.then(Instant::now);
                process_burst(pipeline, now, input, burst, pool);
                if number % UPKEEP_EVERY == 0 {
                    pipeline.upkeep(now, UPKEEP_BUCKETS, pool, &mut ());
                }
                flush(pipeline, done);
                if let Some(start) = start {
                    each.push(start.elapsed().as_nanos() as u64);
                }
            },
        );
        if !self.plan.still {
            self.measured += elapsed;
        }
        let mut fates = self.fates();
        fates.hits -= before.hits;
        fates.created -= before.created;
        fates.refused -= before.refused;
        fates.dropped -= before.dropped;
        fates.frames = count;
        self.check(fates)?;
        Ok((elapsed.as_nanos() as f64, fates))
    }

    /// Makes the table what it was before the round.
    pub fn restore(&mut self) {
        if self.plan.scenario != Scenario::New {
            return;
        }
        let table = F::table(&self.shared);
        // One more was drawn ahead for each place in the ring; those were not begun.
        let last = self.begun - AHEAD as u64;
        let first = last - self.plan.mbufs as u64;
        for begun in first..last {
            let key = self.flows.cluster.tuple::<F>(self.number_of(begun));
            let place = table.place(&key);
            let flow = table
                .find(&key, place)
                .and_then(|hit| table.view(hit.index));
            if let Some(flow) = flow
                && table.remove(&flow)
            {
                self.shared.open_flows.close_flow(&flow);
            }
        }
        self.begun = last;
    }

    /// Forgets that frames were prepared: they are used for something else.
    pub fn skip(&mut self) {
        if self.plan.scenario == Scenario::New {
            self.begun -= (self.plan.mbufs + AHEAD) as u64;
        }
    }

    /// Frames of a round.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.plan.mbufs
    }

    fn second(&self) -> u32 {
        1 + self.measured.as_secs() as u32
    }

    /// Number of the flow that this worker begins as its `begun`th.
    fn number_of(&self, begun: u64) -> u64 {
        self.flows.next + begun * self.plan.workers as u64 + self.number as u64
    }

    fn next_flow(&mut self) -> u64 {
        if self.plan.scenario == Scenario::Established {
            let flow = self.random.below(self.flows.len());
            intrinsics::prefetch(&self.flows.replies[flow]);
            intrinsics::prefetch(&self.flows.numbers[flow]);
            flow as u64
        } else {
            self.begun += 1;
            self.number_of(self.begun - 1)
        }
    }

    fn frame(&self, burst: usize, flow: u64) -> Frame<F> {
        let cluster = &self.flows.cluster;
        match (self.plan.scenario, self.plan.flood) {
            (Scenario::Established, _) if self.plan.direction.link(burst) == NODES => {
                Frame::Reply(self.flows.replies[flow as usize])
            }
            (Scenario::Established, _) => {
                let number = self.flows.numbers[flow as usize];
                Frame::Forward(cluster.tuple::<F>(number.into()))
            }
            (Scenario::Flood, Flood::NoEndpoint) => Frame::Syn(cluster.hopeless::<F>(flow)),
            (Scenario::New, _) | (Scenario::Flood, Flood::TableFull) => {
                Frame::Syn(cluster.tuple::<F>(flow))
            }
        }
    }

    fn fates(&self) -> Fates {
        let counters = self.pipeline.counters();
        Fates {
            frames: counters.total(Total::Received),
            hits: counters.total(Total::Hits),
            created: counters.total(Total::FlowsCreated),
            refused: counters.total(Total::Refused),
            dropped: Reason::ALL.iter().map(|why| counters.drops(*why)).sum(),
        }
    }

    fn check(&self, fates: Fates) -> Result<(), Error> {
        let (what, count, least) = match (self.plan.scenario, self.plan.flood) {
            (Scenario::Established, _) => ("translated by their flows", fates.hits, 1.0),
            // Two full buckets are rare, but there are.
            (Scenario::New, _) => ("made flows", fates.created, 0.999),
            (Scenario::Flood, Flood::NoEndpoint) => ("refused", fates.refused, 1.0),
            // A slot may be left here and there.
            (Scenario::Flood, Flood::TableFull) => ("dropped", fates.dropped, 0.95),
        };
        if count as f64 >= fates.frames as f64 * least {
            return Ok(());
        }
        let counters = self.pipeline.counters();
        let drops: Vec<String> = Reason::ALL
            .iter()
            .map(|why| (why.name(), counters.drops(*why)))
            .filter(|(_, drops)| *drops > 0)
            .map(|(name, drops)| format!("{name} {drops}"))
            .collect();
        Err(Error::Run(format!(
            "of {} frames only {count} were {what}; drops so far: {}",
            fates.frames,
            drops.join(", ")
        )))
    }
}

impl Direction {
    /// The link that burst number `burst` comes from.
    #[must_use]
    pub const fn link(self, burst: usize) -> usize {
        match self {
            Self::Forward => OUTSIDE,
            Self::Reply => NODES,
            Self::Both if burst.is_multiple_of(2) => OUTSIDE,
            Self::Both => NODES,
        }
    }
}

/// The pipeline, called from one place that profilers can find by its name.
#[inline(never)]
fn process_burst<B: Buffer, P: Pool<Buffer = B>>(
    pipeline: &mut Pipeline<B>,
    now: Now,
    input: usize,
    burst: &mut Burst<B>,
    pool: &mut P,
) {
    pipeline.process(now, input, burst, pool, &mut ());
}

/// What a worker does with outputs, but for the sending, which [`round`] does.
#[inline(always)]
pub(super) fn flush<B: Buffer>(pipeline: &mut Pipeline<B>, done: &mut Burst<B>) {
    for link in [OUTSIDE, NODES] {
        let bytes = pipeline.take_bytes(link);
        let Some(output) = pipeline.output(link) else {
            continue;
        };
        let frames = output.len() as u64;
        if frames > 0 {
            assert!(intrinsics::move_all(output, done), "a burst gives a burst");
            pipeline.sent(link, frames, bytes, 0);
        }
    }
}
