//! The floors of a run: measured by the first worker, on its own frames, after each repeat of the scenario.

use std::time::Duration;

use dpdk::Eal;
use hugepages::region::Family as RegionFamily;
use packet::{Link, Pool};

use super::flows::{FlowSet, Tabled};
use super::gateway::HASH_SEEDS;
use super::options::{Plan, Scenario};
use super::worker::Worker;
use crate::Error;
use crate::bench::random::Random;
use crate::bench::round;
use crate::floors::hash::{self, HashFloor};
use crate::floors::nat::FixedNat;
use crate::floors::one_line::OneLineNat;
use crate::floors::staged::StagedNat;
use crate::floors::{reads, testpmd};
use crate::pages::TableMemory;
use crate::stats::median;

/// Rounds of each floor in a repeat.
const ROUNDS: usize = 9;

/// Rounds before them, which do not count.
const WARM_UP: usize = 3;

/// Lookups and reads of each repeat.
const READS: usize = 1 << 20;

/// Repeats in which testpmd is run: it takes seconds to start.
const TESTPMD_REPEATS: usize = 3;

/// What they came to, nanoseconds: of each a figure a repeat.
pub(super) type Figures = Vec<(&'static str, Vec<f64>)>;

/// The floors of a run.
pub(super) struct Floors<F: Tabled> {
    fixed: FixedNat<F>,
    staged: Option<StagedNat<F>>,
    one_line: Option<OneLineNat<F>>,
    hash: Option<HashFloor<F>>,
    testpmd: Option<Testpmd>,
    random: Random,
    figures: Figures,
}

/// How testpmd is to be run.
struct Testpmd {
    cpu: usize,
    frame_size: usize,
    huge_pages: bool,
    repeats: usize,
}

/// Bytes of DPDK's memory that the floors of this plan need.
pub(super) fn packet_memory(plan: &Plan) -> usize {
    let words = if plan.family == 4 { 2 } else { 5 };
    match plan.scenario {
        Scenario::Established if plan.floors => hash::memory(2 * plan.flows, words),
        _ => 0,
    }
}

impl<F: Tabled> Floors<F> {
    /// The floors for a scenario with these flows. `eal` for those that need DPDK, which are run on `cpu`.
    pub(super) fn new(
        plan: &Plan,
        flows: &FlowSet<F>,
        memory: &mut TableMemory,
        eal: Option<&Eal>,
        cpu: usize,
    ) -> Result<Self, Error> {
        // In a full table some tuples lie in places that these tables do not have.
        let pairs: Vec<(F::Key, F::Key)> = flows
            .numbers
            .iter()
            .zip(&flows.replies)
            .take(plan.capacity + plan.capacity / 2)
            .map(|(number, reply)| (flows.cluster.tuple::<F>((*number).into()), *reply))
            .collect();
        let (forward, reply) = pairs.first().copied().unwrap_or_default();
        let mut floors = Self {
            fixed: FixedNat::new(&forward, &F::reverse(&reply)),
            staged: None,
            one_line: None,
            hash: None,
            testpmd: eal.map(|_| Testpmd {
                cpu,
                frame_size: plan.frame_size,
                huge_pages: plan.on_huge_pages(),
                repeats: TESTPMD_REPEATS,
            }),
            random: Random::new(plan.seed, u64::MAX),
            figures: Vec::new(),
        };
        if plan.scenario != Scenario::Established {
            return Ok(floors);
        }
        let family = if F::LINES == 1 {
            RegionFamily::V4
        } else {
            RegionFamily::V6
        };
        let (buckets, entries) = memory.table(family, plan.capacity)?;
        let staged = StagedNat::new(buckets, entries, HASH_SEEDS);
        for (forward, reply) in &pairs {
            staged.insert(forward, &F::reverse(reply), 0x0200_0000_0201);
            staged.insert(reply, &F::reverse(forward), 0x0200_0000_0101);
        }
        floors.staged = Some(staged);
        let (_, entries) = memory.table(family, plan.capacity)?;
        let one_line = OneLineNat::new(entries, HASH_SEEDS);
        for (forward, reply) in &pairs {
            one_line.insert(forward, &F::reverse(reply), 0x0200_0000_0201);
            one_line.insert(reply, &F::reverse(forward), 0x0200_0000_0101);
        }
        floors.one_line = Some(one_line);
        if let Some(eal) = eal {
            let keys = pairs.iter().flat_map(|(forward, reply)| [*forward, *reply]);
            floors.hash = Some(HashFloor::new(eal, keys.collect())?);
        }
        Ok(floors)
    }

    /// What was measured.
    pub(super) fn figures(self) -> Figures {
        self.figures
    }

    /// Measures each once.
    pub(super) fn repeat<L, P>(&mut self, worker: &mut Worker<F, L, P>) -> Result<(), Error>
    where
        L: Link,
        P: Pool<Buffer = L::Buffer>,
    {
        let bare = rounds_of(worker, |worker| {
            round(
                &mut worker.seat.link,
                &mut worker.bursts,
                |_, burst, done| {
                    done.extend(burst.drain(..));
                },
            )
        })?;
        self.add("rx_tx", bare);
        let fixed = &self.fixed;
        let nat = rounds_of(worker, |worker| {
            round(
                &mut worker.seat.link,
                &mut worker.bursts,
                |_, burst, done| {
                    fixed.work(burst, done);
                },
            )
        })?;
        self.add("nat", nat);
        self.tables(worker)?;
        self.testpmd();
        Ok(())
    }

    /// Those with tables of the flows' size.
    fn tables<L, P>(&mut self, worker: &mut Worker<F, L, P>) -> Result<(), Error>
    where
        L: Link,
        P: Pool<Buffer = L::Buffer>,
    {
        if let Some(staged) = &mut self.staged {
            let nat = rounds_of(worker, |worker| {
                round(
                    &mut worker.seat.link,
                    &mut worker.bursts,
                    |_, burst, done| {
                        staged.work(burst, done);
                    },
                )
            })?;
            if staged.misses > 0 {
                return Err(Error::Run(format!(
                    "the floor staged_nat missed {} frames",
                    staged.misses
                )));
            }
            let batched = reads::batched(staged.lines(), READS, &mut self.random);
            let alone = reads::alone(staged.lines(), READS / 4, &mut self.random);
            self.add("staged_nat", nat);
            self.add("random_read", batched);
            self.add("random_read_alone", alone);
        }
        if let Some(table) = &mut self.one_line {
            let nat = rounds_of(worker, |worker| {
                round(
                    &mut worker.seat.link,
                    &mut worker.bursts,
                    |_, burst, done| {
                        table.work(burst, done);
                    },
                )
            })?;
            if table.misses > 0 {
                return Err(Error::Run(format!(
                    "the floor one_line_nat missed {} frames",
                    table.misses
                )));
            }
            self.add("one_line_nat", nat);
        }
        if let Some(hash) = &mut self.hash {
            let lookup = hash.measure(READS, &mut self.random)?;
            self.add("rte_hash_bulk", lookup);
        }
        Ok(())
    }

    /// DPDK's test program, on this worker's CPU while the worker waits for it.
    fn testpmd(&mut self) {
        let Some(plan) = self.testpmd.take_if(|plan| plan.repeats > 0) else {
            return;
        };
        for (name, mode) in [("testpmd_5tswap", "5tswap"), ("testpmd_csum", "csum")] {
            match testpmd::measure(mode, plan.cpu, plan.frame_size, plan.huge_pages) {
                Ok(nanos) => self.add(name, nanos),
                Err(why) => {
                    eprintln!("perf: SKIPPED floor {name}: {why}");
                    return;
                }
            }
        }
        self.testpmd = Some(Testpmd {
            repeats: plan.repeats - 1,
            ..plan
        });
    }

    fn add(&mut self, name: &'static str, nanos: f64) {
        match self.figures.iter_mut().find(|(known, _)| *known == name) {
            Some((_, figures)) => figures.push(nanos),
            None => self.figures.push((name, vec![nanos])),
        }
    }
}

/// Median nanoseconds a frame of some rounds.
fn rounds_of<F, L, P>(
    worker: &mut Worker<F, L, P>,
    mut timed: impl FnMut(&mut Worker<F, L, P>) -> Duration,
) -> Result<f64, Error>
where
    F: Tabled,
    L: Link,
    P: Pool<Buffer = L::Buffer>,
{
    let mut times = Vec::new();
    for number in 0..WARM_UP + ROUNDS {
        worker.prepare()?;
        worker.skip();
        let frames = worker.frames() as f64;
        let elapsed = timed(worker);
        if number >= WARM_UP {
            times.push(elapsed.as_nanos() as f64 / frames);
        }
    }
    Ok(median(&times))
}
