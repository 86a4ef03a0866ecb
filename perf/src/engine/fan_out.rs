//! `perf fan-out`: one worker that receives everything, and another one to which it deals a part.
//!
//! In turns, in one run: receiving and sending alone, the one worker by itself, and both with more and more of the flows
//! dealt out. The one that takes sends by a queue of its own. Frames that were taken come back to the one that receives
//! between rounds, when no clock runs.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use dpdk::{LocalPool, Mbuf, Queue};
use engine::Pipeline;
use engine::counters::Total;
use engine::family::V4;
use engine::fan_out::{Dealer, Inlet, Mode, Pressures, ring};
use packet::{Burst, Link};
use serde::Serialize;

use super::measure::WARM_UP;
use super::options::{Options as EngineOptions, Plan};
use super::set_up;
use super::worker::{Worker, flush};
use crate::Error;
use crate::bench::crew::{Gate, Job, cpus_for, dpdk_seats, packet_memory};
use crate::bench::{Seat, round};
use crate::host::{Host, Load, LoadSince};
use crate::pages::{HugePages, Reserved, TableMemory, TablePages, ensure_transparent};
use crate::priority::Raised;
use crate::stats::{Summary, median};

/// Steps of the dealer's that are given away: of 32, in the order of the variants.
const STEPS: [usize; 7] = [4, 8, 12, 16, 20, 24, 32];

/// Frames that a ring has room for: all of a round, so that none is refused. Who is slower shows in the time.
const RING: usize = 4096;

/// Links of the scenario.
const LINKS: usize = 2;

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Flows in the table.
    #[arg(long, default_value_t = 65_536)]
    pub flows: usize,
    /// How often each variant is measured, in turns with the others.
    #[arg(long, default_value_t = 15)]
    pub repeat: usize,
    /// Rounds of 4,096 frames each time.
    #[arg(long, default_value_t = 100)]
    pub rounds: usize,
    /// Huge pages of 2 MiB to reserve for frames, a number or auto.
    #[arg(long, default_value = "0")]
    pub huge_pages: HugePages,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What came out.
#[derive(Debug, Serialize)]
struct Record {
    verb: &'static str,
    flows: usize,
    rounds: usize,
    /// Nanoseconds a packet of receiving and sending without anything between.
    bare: Summary,
    /// The same of one worker that does everything.
    alone: Summary,
    dealt: Vec<Dealt>,
    packet_huge_pages: bool,
    table_pages: &'static str,
    #[serde(flatten)]
    host: Host,
    #[serde(flatten)]
    load: Load,
}

/// With a part of the flows dealt out.
#[derive(Debug, Serialize)]
struct Dealt {
    /// Frames that went to the other worker, of all.
    part: f64,
    /// Nanoseconds between two packets of both together.
    both: Summary,
    /// Nanoseconds of the worker that receives, for each packet that it received.
    dealer: Summary,
    /// Nanoseconds of the other one, for each packet that it took.
    taker: Summary,
}

/// What one worker saw: for each variant and repeat the medians of its rounds.
#[derive(Debug, Default)]
struct Seen {
    /// Until both were done, and this worker's own time, nanoseconds a packet.
    whole: Vec<Vec<f64>>,
    own: Vec<Vec<f64>>,
    /// Frames received or taken in each variant.
    frames: Vec<u64>,
}

/// What both workers know of a round.
struct Between {
    gate: Gate,
    /// Frames dealt in it; [`u64::MAX`] until all are.
    dealt: AtomicU64,
    second: AtomicU32,
}

/// Measures and prints.
///
/// # Errors
///
/// [`Error`]; nothing is printed to stdout then.
pub fn run(options: &Options) -> Result<(), Error> {
    let plan = Plan::new(&EngineOptions {
        flows: options.flows,
        workers: 2,
        table_pages: TablePages::Transparent,
        ..EngineOptions::default()
    })?;
    ensure_transparent()?;
    let reserved = match options.huge_pages {
        HugePages::Count(0) => None,
        HugePages::Count(count) => Some(Reserved::until_signal(count)?),
        HugePages::Auto => {
            let memory = packet_memory(2, plan.mbufs, true, 0) as u64;
            Some(Reserved::until_signal(memory / 2 + 1)?)
        }
    };
    let cpus = cpus_for(2);
    if cpus[0] == cpus[1] {
        return Err(Error::Run("two CPUs are needed".to_owned()));
    }
    let _priority = Raised::now();
    let since = LoadSince::now();
    let [dealer, taker] = measure(options, &plan, &cpus, reserved.is_some())?;
    let record = record(options, &dealer, &taker, reserved.is_some(), since)?;
    print(&record, options.json)
}

fn measure(
    options: &Options,
    plan: &Plan,
    cpus: &[usize],
    huge_pages: bool,
) -> Result<[Seen; 2], Error> {
    let (crew, seats) = dpdk_seats(cpus, plan.mbufs, huge_pages, 0)?;
    let mut memory = TableMemory::new(plan.table_pages, PathBuf::new());
    let (gateway, flows) = set_up::<V4>(plan, &mut memory)?;
    let mut seats = seats.into_iter();
    let (Some(first), Some(second)) = (seats.next(), seats.next()) else {
        return Err(Error::Run("two workers are needed".to_owned()));
    };
    let (shared, pipeline) = (gateway.shared.clone(), gateway.pipeline(0, plan.seed));
    let worker = Worker::new(plan, 0, shared, pipeline, Arc::new(flows), first)?;
    let between = Arc::new(Between {
        gate: Gate::new(2),
        dealt: AtomicU64::new(u64::MAX),
        second: AtomicU32::new(0),
    });
    let (dealers, inlets) = STEPS.iter().map(|steps| lay_rings(*steps)).unzip();
    let taker = Taker {
        seat: second,
        pipeline: gateway.pipeline(1, plan.seed + 1),
        back: (0..plan.mbufs / packet::BURST * 2)
            .map(|_| Burst::new())
            .collect(),
    };
    let jobs: Vec<Job<Seen>> = vec![
        job(options, &between, move |options, between| {
            deal(options, between, worker, dealers)
        }),
        job(options, &between, move |options, between| {
            take(options, between, taker, inlets)
        }),
    ];
    let seen = crew.run(jobs)?;
    <[Seen; 2]>::try_from(seen).map_err(|_| Error::Run("two workers are needed".to_owned()))
}

fn job(
    options: &Options,
    between: &Arc<Between>,
    work: impl FnOnce(&Options, &Between) -> Result<Seen, Error> + Send + 'static,
) -> Job<Seen> {
    let (options, between) = (options.clone(), between.clone());
    Box::new(move || {
        let seen = work(&options, &between);
        if seen.is_err() {
            between.gate.give_up();
        }
        seen
    })
}

/// A dealer for each link that has given away so many steps, and where its frames come out.
fn lay_rings(steps: usize) -> (Vec<Dealer<Mbuf>>, Vec<Inlet<Mbuf>>) {
    let pressures = Pressures::new(2);
    let lay = |link| {
        let (outlet, inlet) = ring(link, 1, RING);
        let mut dealer = Dealer::new(Mode::Auto, vec![outlet], pressures.clone(), 0x5eed);
        for _ in 0..steps {
            dealer.look(true, false);
            dealer.change(|| true);
        }
        (dealer, inlet)
    };
    (0..LINKS).map(lay).unzip()
}

/// The rounds of the worker that receives.
fn deal(
    options: &Options,
    between: &Between,
    mut worker: Worker<V4, Queue, LocalPool>,
    mut dealers: Vec<Vec<Dealer<Mbuf>>>,
) -> Result<Seen, Error> {
    let variants = 2 + STEPS.len();
    let mut seen = Seen::new(variants);
    for _ in 0..options.repeat {
        for variant in 0..variants {
            let (mut whole, mut own) = (Vec::new(), Vec::new());
            for number in 0..WARM_UP + options.rounds {
                worker.prepare()?;
                between.dealt.store(u64::MAX, Ordering::Relaxed);
                between.second.store(worker.now().second, Ordering::Relaxed);
                pass(between)?;
                let begun = Instant::now();
                let mut dealt = 0;
                let nanos = match variant {
                    0 => bare(&mut worker),
                    1 => worker.run_sorted(|_, _, _| ()),
                    _ => {
                        let dealers = &mut dealers[variant - 2];
                        let dealt = &mut dealt;
                        worker.run_sorted(|link, pipeline, burst| {
                            let count = |frames, bytes| {
                                *dealt += frames;
                                pipeline.dealt_out(link, frames, bytes);
                            };
                            dealers[link].deal(burst, None, count, |_| ());
                        })
                    }
                };
                // Relaxed: the rings order the frames, the gate the rounds; this is a number alone.
                between.dealt.store(dealt, Ordering::Relaxed);
                pass(between)?;
                if number >= WARM_UP {
                    let frames = worker.frames() as f64;
                    whole.push(begun.elapsed().as_nanos() as f64 / frames);
                    own.push(nanos / frames);
                    seen.frames[variant] += worker.frames() as u64;
                }
                // The other one frees what it took.
                pass(between)?;
            }
            seen.whole[variant].push(median(&whole));
            seen.own[variant].push(median(&own));
        }
    }
    Ok(seen)
}

/// Receiving and sending with nothing between.
fn bare(worker: &mut Worker<V4, Queue, LocalPool>) -> f64 {
    let elapsed = round(
        &mut worker.seat.link,
        &mut worker.bursts,
        |_, burst, done| std::mem::swap(burst, done),
    );
    elapsed.as_nanos() as f64
}

struct Taker {
    seat: Seat<Queue, LocalPool>,
    pipeline: Pipeline<Mbuf>,
    /// What it has sent, until the round is over.
    back: Vec<Burst<Mbuf>>,
}

/// The rounds of the worker that takes.
fn take(
    options: &Options,
    between: &Between,
    mut taker: Taker,
    mut inlets: Vec<Vec<Inlet<Mbuf>>>,
) -> Result<Seen, Error> {
    let variants = 2 + STEPS.len();
    let mut seen = Seen::new(variants);
    for _ in 0..options.repeat {
        for variant in 0..variants {
            let mut own = Vec::new();
            for number in 0..WARM_UP + options.rounds {
                pass(between)?;
                let inlets = variant.checked_sub(2).map(|at| &mut inlets[at]);
                let (taken, busy) =
                    inlets.map_or((0, Duration::ZERO), |inlets| taker.round(inlets, between));
                pass(between)?;
                taker.back.iter_mut().for_each(Mbuf::free_bulk);
                if number >= WARM_UP && taken > 0 {
                    own.push(busy.as_nanos() as f64 / taken as f64);
                    seen.frames[variant] += taken;
                }
                pass(between)?;
            }
            seen.own[variant].push(median(&own));
        }
    }
    let hits = taker.pipeline.counters().total(Total::Hits);
    let taken = taker.pipeline.counters().total(Total::TakenIn);
    if hits != taken {
        return Err(Error::Run(format!(
            "{taken} frames were taken, {hits} hit a flow"
        )));
    }
    Ok(seen)
}

impl Taker {
    /// Takes all that is dealt in a round: how many frames, and the time that took.
    fn round(&mut self, inlets: &mut [Inlet<Mbuf>], between: &Between) -> (u64, Duration) {
        let now = engine::Now {
            second: between.second.load(Ordering::Relaxed),
        };
        let (mut taken, mut busy, mut at) = (0, Duration::ZERO, 0);
        while between.dealt.load(Ordering::Relaxed) != taken {
            for inlet in &mut *inlets {
                let link = inlet.link();
                let begun = Instant::now();
                let Self {
                    seat,
                    pipeline,
                    back,
                } = self;
                let count = inlet.take(
                    |burst| {
                        pipeline.process_dealt(now, link, burst, &mut seat.pool, &mut ());
                        let mut out = Burst::new();
                        flush(pipeline, &mut out);
                        seat.link.tx_burst(&mut out);
                        seat.link.rx_burst(&mut back[at]);
                    },
                    |_| (),
                );
                if count > 0 {
                    busy += begun.elapsed();
                    taken += count as u64;
                    at += 1;
                    // Short bursts need more places than there are for long ones.
                    if at == back.len() {
                        back.push(Burst::new());
                    }
                }
            }
        }
        (taken, busy)
    }
}

impl Seen {
    fn new(variants: usize) -> Self {
        Self {
            whole: vec![Vec::new(); variants],
            own: vec![Vec::new(); variants],
            frames: vec![0; variants],
        }
    }
}

fn pass(between: &Between) -> Result<(), Error> {
    let is_on = between.gate.pass();
    is_on
        .then_some(())
        .ok_or_else(|| Error::Run("another worker failed".to_owned()))
}

fn record(
    options: &Options,
    dealer: &Seen,
    taker: &Seen,
    packet_huge_pages: bool,
    since: LoadSince,
) -> Result<Record, Error> {
    let summary = |values: &[f64]| {
        Summary::of(values).ok_or_else(|| Error::Usage("--repeat is at least 1".to_owned()))
    };
    let dealt = (2..2 + STEPS.len()).map(|variant| {
        Ok(Dealt {
            part: taker.frames[variant] as f64 / dealer.frames[variant] as f64,
            both: summary(&dealer.whole[variant])?,
            dealer: summary(&dealer.own[variant])?,
            taker: summary(&taker.own[variant])?,
        })
    });
    Ok(Record {
        verb: "fan-out",
        flows: options.flows,
        rounds: options.rounds,
        bare: summary(&dealer.own[0])?,
        alone: summary(&dealer.own[1])?,
        dealt: dealt.collect::<Result<_, Error>>()?,
        packet_huge_pages,
        table_pages: TablePages::Transparent.name(),
        host: Host::here(),
        load: since.load(),
    })
}

fn print(record: &Record, json: bool) -> Result<(), Error> {
    let text = if json {
        serde_json::to_string(record).map_err(|error| Error::Run(error.to_string()))? + "\n"
    } else {
        let line = |dealt: &Dealt| {
            format!(
                "{:5.1} % dealt out   {:6.2} ns between two packets; {:6.2} ns of the dealer's a packet received, {:6.2} \
                 of the taker's a packet taken\n",
                dealt.part * 100.0,
                dealt.both.median,
                dealt.dealer.median,
                dealt.taker.median
            )
        };
        format!(
            "{} flows\nbare rx and tx      {:6.2} ns a packet\none worker alone    {:6.2} ns a packet\n{}",
            record.flows,
            record.bare.median,
            record.alone.median,
            record.dealt.iter().map(line).collect::<String>()
        )
    };
    // A closed pipe is the reader's wish.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
