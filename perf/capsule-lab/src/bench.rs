//! `capsule-lab bench`: rounds as in `perf engine` (perf/src/bench/mod.rs): every buffer once through net_ring and the
//! work; frames are written between rounds, when no clock runs.

mod pipelines;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use capsule::batch::{PacketTx, Pipeline};
use capsule::{Mbuf, PortQueue};
use serde::Serialize;

use self::pipelines::{Feed, Timed, Work};
use crate::nat::Task;
use crate::start::{PORT, Wanted, last_cpu, runtime};

/// Rounds before any that counts.
const WARM_UP: usize = 3;

/// Buffers besides those in turn, and besides those in the mempool's cache.
const SPARE: usize = 2048;

/// As typed.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Bytes of a frame without FCS, one after the other.
    #[arg(long, value_delimiter = ' ', num_args = 1.., default_values_t = [60, 256, 1024])]
    sizes: Vec<usize>,
    /// Buffers in turn.
    #[arg(long, default_value_t = 32_768)]
    mbufs: usize,
    /// Seconds of each measurement, preparation of the frames included.
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// CPU to work on [default: the last].
    #[arg(long)]
    cpu: Option<usize>,
    /// Packet memory on huge pages of 2 MiB, which must be free.
    #[arg(long)]
    huge_pages: bool,
}

/// A line of what is printed.
#[derive(Debug, Serialize)]
struct Measured {
    /// `combinators`, `custom` or `raw`.
    variant: &'static str,
    frame_size: usize,
    burst: usize,
    mbufs: usize,
    /// Median of the rounds.
    ns_per_packet: f64,
    rounds: usize,
}

/// Bursts between rounds, oldest first. Pipelines take from the front and put back at the end.
type Bursts = Rc<RefCell<VecDeque<Vec<Mbuf>>>>;

/// Measures and prints.
pub fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let is_sound = options.sizes.iter().all(|size| (60..=1514).contains(size));
    if !is_sound || !(64..=1 << 20).contains(&options.mbufs) || options.seconds <= 0.0 {
        return Err("--sizes are 60 to 1514, --mbufs 64 to 1048576, --seconds more than 0".into());
    }
    let mbufs = options.mbufs + SPARE;
    // On ordinary pages DPDK gives each buffer a page of its own.
    let bytes = if options.huge_pages { 2560 } else { 4096 };
    let mut runtime = runtime(&Wanted {
        device: "net_ring0",
        arguments: "",
        cpu: options.cpu.unwrap_or_else(last_cpu),
        mbufs,
        memory: mbufs * bytes / (1 << 20) + 32,
        huge_pages: options.huge_pages,
        brief: true,
    })?;
    let options = options.clone();
    runtime.add_pipeline_to_port(PORT, move |queue| Bench {
        options: options.clone(),
        queue,
    })?;
    runtime.execute()?;
    Ok(())
}

/// capsule runs futures; this one measures when it is polled, and is done.
struct Bench {
    options: Options,
    queue: PortQueue,
}

impl Future for Bench {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if let Err(error) = self.measure() {
            eprintln!("capsule-lab: {error}");
            // There is no other way out of capsule's executor; DPDK leaves nothing behind in either memory mode.
            std::process::exit(1);
        }
        Poll::Ready(())
    }
}

impl Pipeline for Bench {
    fn name(&self) -> &str {
        "bench"
    }

    fn run_once(&mut self) {}
}

impl Bench {
    fn measure(&self) -> Result<()> {
        for size in &self.options.sizes {
            let task = Task::new(*size)?;
            for burst in [32, 1] {
                let bursts = self.bursts(burst)?;
                let feed = Feed::new(self.queue.clone(), bursts.clone());
                for work in [Work::Raw, Work::Custom, Work::Combinators] {
                    let mut pipeline = work.pipeline(&feed, &task);
                    let (rounds, nanos) = self.rounds(&bursts, &task, &mut pipeline)?;
                    let line = Measured {
                        variant: work.name(),
                        frame_size: *size,
                        burst,
                        mbufs: self.options.mbufs / burst * burst,
                        ns_per_packet: nanos,
                        rounds,
                    };
                    println!("{}", serde_json::to_string(&line)?);
                }
            }
        }
        Ok(())
    }

    /// All buffers, empty.
    fn bursts(&self, burst: usize) -> Result<Bursts> {
        let count = self.options.mbufs / burst;
        let bursts: Result<_> = (0..count).map(|_| Mbuf::alloc_bulk(burst)).collect();
        Ok(Rc::new(RefCell::new(bursts?)))
    }

    /// How many rounds, and the median of their nanoseconds a frame.
    fn rounds(&self, bursts: &Bursts, task: &Task, pipeline: &mut Timed) -> Result<(usize, f64)> {
        let time = Duration::from_secs_f64(self.options.seconds);
        let (count, frames) = {
            let bursts = bursts.borrow();
            (bursts.len(), bursts.iter().map(Vec::len).sum::<usize>())
        };
        let mut times = Vec::new();
        let start = Instant::now();
        for round in 0.. {
            write(bursts, &task.received)?;
            let taken = pipeline(count);
            check(bursts, count, frames, &task.sent)?;
            if round >= WARM_UP {
                times.push(taken.as_nanos() as f64 / frames as f64);
            }
            if times.len() >= 3 && start.elapsed() > time {
                break;
            }
        }
        times.sort_by(f64::total_cmp);
        Ok((times.len(), times[times.len() / 2]))
    }
}

/// Makes every buffer this frame.
fn write(bursts: &Bursts, frame: &[u8]) -> Result<()> {
    for mbuf in bursts.borrow_mut().iter_mut().flatten() {
        if mbuf.data_len() == 0 {
            mbuf.extend(0, frame.len())?;
        }
        ensure!(mbuf.data_len() == frame.len(), "a frame changed its length");
        mbuf.write_data_slice(0, frame)?;
    }
    Ok(())
}

/// What is timed did what it should: all frames are there, and the first and the last are as they must leave.
fn check(bursts: &Bursts, count: usize, frames: usize, sent: &[u8]) -> Result<()> {
    let bursts = bursts.borrow();
    ensure!(bursts.len() == count, "bursts were lost");
    let all = bursts.iter().map(Vec::len).sum::<usize>();
    ensure!(all == frames, "{} frames were lost", frames - all);
    let ends = [bursts.front(), bursts.back()].into_iter().flatten();
    for mbuf in ends.filter_map(|burst| burst.first()) {
        let bytes = mbuf.read_data_slice::<u8>(0, mbuf.data_len())?;
        // SAFETY: the buffer's own bytes; nobody writes to it meanwhile.
        let bytes = unsafe { bytes.as_ref() };
        ensure!(bytes == sent, "a frame is {bytes:02x?}, not {sent:02x?}");
    }
    Ok(())
}

/// Puts sent frames back among the bursts.
struct SetAside(Bursts);

impl PacketTx for SetAside {
    fn transmit(&mut self, packets: Vec<Mbuf>) {
        self.0.borrow_mut().push_back(packets);
    }
}
