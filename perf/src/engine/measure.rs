//! Repeats of rounds, by all workers together, in turns with the floors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use packet::{Link, Pool};

use super::floors::{Figures, Floors};
use super::flows::{FlowSet, Tabled};
use super::gateway::Gateway;
use super::options::Plan;
use super::worker::Worker;
use crate::Error;
use crate::bench::crew::{Job, cpus_for};
use crate::bench::{Crew, Gate, Seat};
use crate::pages::TableMemory;
use crate::record::Fates;
use crate::record::traffic::Latency;
use crate::stats::median;

/// Rounds before any that counts: they fill caches and train the branch predictor.
pub(super) const WARM_UP: usize = 3;

/// Bursts of each repeat that are timed one by one, in rounds of their own. They count for nothing else: reading the clock
/// costs as much as a frame.
const EACH: usize = 4096;

/// Results, nanoseconds.
#[derive(Debug)]
pub(super) struct Measured {
    /// Flows that were in the table.
    pub(super) flows: usize,
    /// Of each repeat the median of its rounds.
    pub(super) repeats: Vec<f64>,
    /// The same for each floor.
    pub(super) floors: Figures,
    /// Instructions a packet.
    pub(super) instructions: Option<f64>,
    /// Of each burst the nanoseconds from having been received until being handed to the device.
    pub(super) rx_to_tx: Histogram<u64>,
    /// Of all frames timed.
    pub(super) fates: Fates,
}

/// What one worker saw.
struct Seen {
    /// For each repeat the rounds' nanoseconds.
    repeats: Vec<Vec<f64>>,
    floors: Figures,
    rx_to_tx: Histogram<u64>,
    fates: Fates,
}

/// Measures a scenario on a gateway with these flows.
pub(super) fn measure<F, L, P>(
    plan: &Plan,
    gateway: &Gateway,
    flows: FlowSet<F>,
    crew: &Crew,
    seats: Vec<Seat<L, P>>,
    memory: &mut TableMemory,
) -> Result<Measured, Error>
where
    F: Tabled,
    L: Link + Send + 'static,
    L::Buffer: Send + 'static,
    P: Pool<Buffer = L::Buffer> + Send + 'static,
{
    let flows = Arc::new(flows);
    let gate = Arc::new(Gate::new(plan.workers));
    let mut floors = None;
    if plan.floors {
        floors = Some(Floors::new(
            plan,
            &flows,
            memory,
            crew.eal(),
            cpus_for(1)[0],
        )?);
    }
    let mut jobs: Vec<Job<Seen>> = Vec::new();
    for (number, seat) in seats.into_iter().enumerate() {
        let shared = gateway.shared.clone();
        let pipeline = gateway.pipeline(number, plan.seed + number as u64);
        let worker = Worker::new(plan, number, shared, pipeline, flows.clone(), seat)?;
        let (plan, gate, floors) = (plan.clone(), gate.clone(), floors.take());
        jobs.push(Box::new(move || {
            let seen = repeat(&plan, worker, &gate, floors);
            if seen.is_err() {
                gate.give_up();
            }
            seen
        }));
    }
    let seen = crew.run(jobs)?;
    let mut measured = Measured::new(flows.len());
    let frames = (plan.mbufs * plan.workers) as f64;
    for repeat in 0..plan.repeat {
        let workers: Vec<&Vec<f64>> = seen.iter().map(|seen| &seen.repeats[repeat]).collect();
        let rounds = workers.iter().map(|rounds| rounds.len()).min().unwrap_or(0);
        // A round of all workers lasts as long as its slowest.
        let rounds = (0..rounds).map(|round| {
            workers
                .iter()
                .map(|rounds| rounds[round])
                .fold(0.0, f64::max)
                / frames
        });
        measured.repeats.push(median(&rounds.collect::<Vec<_>>()));
    }
    for seen in seen {
        measured.fates.add(seen.fates);
        measured.floors.extend(seen.floors);
        // Both have the same bounds.
        let _ = measured.rx_to_tx.add(seen.rx_to_tx);
    }
    Ok(measured)
}

fn repeat<F, L, P>(
    plan: &Plan,
    mut worker: Worker<F, L, P>,
    gate: &Gate,
    mut floors: Option<Floors<F>>,
) -> Result<Seen, Error>
where
    F: Tabled,
    L: Link,
    P: Pool<Buffer = L::Buffer>,
{
    let stopped = || Error::Run("another worker failed".to_owned());
    let mut seen = Seen {
        repeats: Vec::new(),
        floors: Vec::new(),
        rx_to_tx: Latency::histogram(),
        fates: Fates::default(),
    };
    let turn = |worker: &mut Worker<F, L, P>, each: Option<&mut Histogram<u64>>| {
        worker.prepare()?;
        gate.pass().then_some(()).ok_or_else(stopped)?;
        let result = match each {
            Some(each) => worker.run_each(each)?,
            None => worker.run()?,
        };
        gate.pass().then_some(()).ok_or_else(stopped)?;
        worker.restore();
        Ok::<_, Error>(result)
    };
    let rounds = rounds(plan);
    for _ in 0..plan.repeat {
        for _ in 0..WARM_UP {
            turn(&mut worker, None)?;
        }
        let mut times = Vec::new();
        let start = Instant::now();
        while rounds.go_on(times.len(), start.elapsed()) {
            let (nanos, fates) = turn(&mut worker, None)?;
            times.push(nanos);
            seen.fates.add(fates);
        }
        seen.repeats.push(times);
        // None where instructions are counted: they would be counted as well.
        let each = if plan.still { 0 } else { EACH };
        for _ in 0..each.div_ceil(plan.mbufs / plan.burst) {
            turn(&mut worker, Some(&mut seen.rx_to_tx))?;
        }
        if let Some(floors) = &mut floors {
            floors.repeat(&mut worker)?;
        }
    }
    if let Some(floors) = floors {
        seen.floors = floors.figures();
    }
    Ok(seen)
}

/// How long a repeat lasts.
struct Rounds {
    count: Option<usize>,
    time: Duration,
}

fn rounds(plan: &Plan) -> Rounds {
    let of_packets = |packets: u64| {
        (packets as usize)
            .div_ceil(plan.mbufs * plan.workers)
            .max(1)
    };
    // Workers must agree without asking each other: about a millisecond a round.
    let agreed = (plan.workers > 1).then(|| ((plan.seconds * 200.0) as usize).max(3));
    Rounds {
        count: plan.packets.map(of_packets).or(agreed),
        time: Duration::from_secs_f64(plan.seconds),
    }
}

impl Rounds {
    fn go_on(&self, done: usize, elapsed: Duration) -> bool {
        match self.count {
            Some(count) => done < count,
            None => done < 3 || elapsed < self.time,
        }
    }
}
