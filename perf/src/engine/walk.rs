//! `perf walk`: what a worker loses while `portgate flows` walks through its flow table.
//!
//! The table lies in a region, and the real command maps it from another CPU, one walk after the other. The worker carries
//! frames of established flows all the time; seconds with walks and seconds without take turns, and each pair gives
//! one ratio, so that whatever else disturbs the machine for longer than that disturbs both halves.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use engine::family::{V4, V6};
use engine::flow::FlowTable;
use hugepages::region::Family;
use hugepages::{Geometry, Region};
use packet::memory::{HeapBuffer, HeapPool};
use serde::Serialize;

use super::cluster::Cluster;
use super::flows::FlowSet;
use super::gateway::Gateway;
use super::options::{Options as EngineOptions, Plan};
use super::worker::Worker;
use crate::Error;
use crate::bench::crew::{cpus_for, pin};
use crate::bench::link::{LoopLink, memory_seat};
use crate::host::{Host, Load, LoadSince};
use crate::stats::{Summary, median};

/// Blocks of counters: one worker's and the main core's.
const BLOCKS: u16 = 2;

/// Flows that the table of the other family is made for.
const UNUSED: u32 = 1024;

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Flows in the table.
    #[arg(long, default_value_t = 1_000_000)]
    pub flows: usize,
    /// Pairs of one time with walks and one without.
    #[arg(long, default_value_t = 30)]
    pub pairs: usize,
    /// Seconds of each half.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// The operator's command; default: beside this program.
    #[arg(long, value_name = "FILE")]
    pub portgate: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What came out.
#[derive(Debug, Serialize)]
struct Record {
    verb: &'static str,
    flows: usize,
    pairs: usize,
    seconds: f64,
    /// Nanoseconds a packet.
    without: Summary,
    with: Summary,
    /// Percent of its rate that the worker loses, pair by pair.
    loss_percent: Summary,
    /// The worst thousandth of rounds of 4,096 packets, nanoseconds a packet.
    slowest_without: f64,
    slowest_with: f64,
    /// Whole walks under way meanwhile, and how long one took.
    walks: usize,
    walk_seconds: f64,
    #[serde(flatten)]
    host: Host,
    #[serde(flatten)]
    load: Load,
}

type Rounds = Worker<V4, LoopLink<HeapBuffer>, HeapPool>;

/// Measures and prints.
///
/// # Errors
///
/// [`Error`]; nothing is printed to stdout then.
pub fn run(options: &Options) -> Result<(), Error> {
    let program = program(options)?;
    let folder = tempfile::Builder::new()
        .prefix("portgate-walk-")
        .tempdir_in("/dev/shm")
        .map_err(failed)?;
    let path = folder.path().join("region");
    let config = folder.path().join("portgate.toml");
    fs::write(&config, format!("[region]\npath = {path:?}\n")).map_err(failed)?;
    let geometry = Geometry::new(BLOCKS, 2, options.flows as u32, UNUSED);
    let (region, _) = Region::create(&path, &geometry).map_err(failed)?;
    let region = Arc::new(region);

    let [worker_cpu, walker_cpu] = [0, 1].map(|at| cpus_for(2)[at]);
    if worker_cpu == walker_cpu {
        return Err(Error::Run("two CPUs are needed".to_owned()));
    }
    pin(worker_cpu);
    let mut worker = worker(options, &region)?;
    let over = Arc::new(AtomicBool::new(false));
    let alive = beat(region, over.clone());
    let since = LoadSince::now();
    let measured = measure(
        options,
        &mut worker,
        &Walker {
            program,
            config,
            cpu: walker_cpu,
        },
    );
    // Relaxed: the flag stands alone.
    over.store(true, Ordering::Relaxed);
    let _ = alive.join();
    let mut record = measured?;
    record.load = since.load();
    print(&record, options.json)
}

fn program(options: &Options) -> Result<PathBuf, Error> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("portgate"));
    let program = options.portgate.clone().or_else(beside).unwrap_or_default();
    if program.is_file() {
        return Ok(program);
    }
    Err(Error::Usage(format!(
        "--portgate {}: there is no such program; build it (ci/run.sh build) or name it",
        program.display()
    )))
}

/// A worker over a table full of established flows in the region.
fn worker(options: &Options, region: &Region) -> Result<Rounds, Error> {
    let parts = |family| (region.flow_buckets(family), region.flow_entries(family));
    let (buckets, entries) = parts(Family::V4);
    let v4 = FlowTable::<V4>::new(buckets, entries, region.seeds());
    let (buckets, entries) = parts(Family::V6);
    let v6 = FlowTable::<V6>::new(buckets, entries, region.seeds());
    let plan = Plan::new(&EngineOptions {
        flows: options.flows,
        ..EngineOptions::default()
    })?;
    let cluster = Cluster {
        family: plan.family,
        services: plan.services,
        endpoints: plan.endpoints,
    };
    let gateway = Gateway::over(&cluster, v4, v6)?;
    let opener = gateway.pipeline::<HeapBuffer>(1, plan.seed);
    let flows = FlowSet::establish(cluster, opener, plan.flows, |_| ())?;
    let pipeline = gateway.pipeline(0, plan.seed);
    let shared = gateway.shared.clone();
    Worker::new(&plan, 0, shared, pipeline, Arc::new(flows), memory_seat())
}

/// Says that a data plane lives, as its main core does.
fn beat(region: Arc<Region>, over: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            region.beat();
            thread::sleep(Duration::from_millis(100));
        }
    })
}

fn measure(options: &Options, worker: &mut Rounds, walker: &Walker) -> Result<Record, Error> {
    let listed = walker.count()?;
    if listed < options.flows {
        return Err(Error::Run(format!(
            "{listed} of {} flows are listed",
            options.flows
        )));
    }
    let time = Duration::from_secs_f64(options.seconds);
    let (mut halves, mut walks) = ([Vec::new(), Vec::new()], Vec::new());
    let mut all = [Vec::new(), Vec::new()];
    rounds(worker, time)?;
    for pair in 0..options.pairs {
        // Which half comes first changes, so that no drift favours one.
        for walking in if pair % 2 == 0 {
            [false, true]
        } else {
            [true, false]
        } {
            let times = if walking {
                walker.beside(&mut walks, || rounds(worker, time))?
            } else {
                rounds(worker, time)
            }?;
            halves[usize::from(walking)].push(median(&times));
            all[usize::from(walking)].extend(times);
        }
    }
    let losses = halves[0].iter().zip(&halves[1]);
    let losses: Vec<f64> = losses
        .map(|(without, with)| 100.0 * (1.0 - without / with))
        .collect();
    let summary = |values: &[f64]| {
        Summary::of(values).ok_or_else(|| Error::Usage("--pairs is at least 1".to_owned()))
    };
    Ok(Record {
        verb: "walk",
        flows: options.flows,
        pairs: options.pairs,
        seconds: options.seconds,
        without: summary(&halves[0])?,
        with: summary(&halves[1])?,
        loss_percent: summary(&losses)?,
        slowest_without: slowest(&mut all[0]),
        slowest_with: slowest(&mut all[1]),
        walks: walks.len(),
        walk_seconds: median(&walks),
        host: Host::here(),
        load: LoadSince::now().load(),
    })
}

/// Nanoseconds a packet of each round within this time.
fn rounds(worker: &mut Rounds, time: Duration) -> Result<Vec<f64>, Error> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || start.elapsed() < time {
        worker.prepare()?;
        let (nanos, fates) = worker.run()?;
        worker.restore();
        if fates.hits != fates.frames {
            return Err(Error::Run(format!("not all frames hit a flow: {fates:?}")));
        }
        times.push(nanos / worker.frames() as f64);
    }
    Ok(times)
}

/// What one of a thousand exceeds.
fn slowest(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 999 / 1000).copied().unwrap_or(0.0)
}

/// The operator's command on another CPU.
struct Walker {
    program: PathBuf,
    config: PathBuf,
    cpu: usize,
}

impl Walker {
    /// How many flows it lists.
    fn count(&self) -> Result<usize, Error> {
        let mut child = start(&self.program, &self.config, Stdio::piped())?;
        let lines = child
            .stdout
            .take()
            .map(|out| BufReader::new(out).lines().count());
        child.wait().map_err(failed)?;
        Ok(lines.unwrap_or(0))
    }

    /// Does `work` while one walk follows the other; notes how long whole ones took.
    fn beside<T>(&self, took: &mut Vec<f64>, work: impl FnOnce() -> T) -> Result<T, Error> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let walks = scope.spawn(|| -> Result<Vec<f64>, Error> {
                // What is started from here inherits the CPU.
                pin(self.cpu);
                let mut took = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let mut child = start(&self.program, &self.config, Stdio::null())?;
                    if ended(&mut child, &over)? {
                        took.push(begun.elapsed().as_secs_f64());
                    }
                }
                Ok(took)
            });
            let done = work();
            over.store(true, Ordering::Relaxed);
            let walks = walks.join();
            let walks = walks.unwrap_or_else(|_| Err(Error::Run("a walker panicked".to_owned())));
            took.extend(walks?);
            Ok(done)
        })
    }
}

fn start(program: &Path, config: &Path, out: Stdio) -> Result<Child, Error> {
    let mut command = Command::new(program);
    command.args(["flows", "--json", "--config"]).arg(config);
    command.stdin(Stdio::null()).stdout(out);
    command
        .spawn()
        .map_err(|error| Error::Run(format!("{} cannot be run: {error}", program.display())))
}

/// Waits for the end of a walk, true if it came by itself, or ends it when all is over.
fn ended(child: &mut Child, over: &AtomicBool) -> Result<bool, Error> {
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return match status.success() {
                true => Ok(true),
                false => Err(Error::Run(format!("portgate flows: {status}"))),
            };
        }
        if over.load(Ordering::Relaxed) {
            let _ = child.kill();
            child.wait().map_err(failed)?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Run(error.to_string())
}

fn print(record: &Record, json: bool) -> Result<(), Error> {
    let text = if json {
        serde_json::to_string(record).map_err(failed)? + "\n"
    } else {
        let Record {
            without,
            with,
            loss_percent,
            ..
        } = record;
        format!(
            "{} flows, {} pairs of {} s\nwithout walks  {:.2} ns a packet ({:.2} to {:.2})\n\
             with walks     {:.2} ns a packet ({:.2} to {:.2})\n\
             loss           {:.2} % ({:.2} to {:.2})\n\
             slowest rounds {:.2} ns a packet without, {:.2} with\n\
             walks          {} of {:.3} s each\n",
            record.flows,
            record.pairs,
            record.seconds,
            without.median,
            without.min,
            without.max,
            with.median,
            with.min,
            with.max,
            loss_percent.median,
            loss_percent.min,
            loss_percent.max,
            record.slowest_without,
            record.slowest_with,
            record.walks,
            record.walk_seconds,
        )
    };
    // A closed pipe is the reader's wish.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
