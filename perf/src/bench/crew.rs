//! Who works: lcores of DPDK or plain threads, pinned; and how they start a round together.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use dpdk::{Eal, EalConfig, LcorePlan, LogLevel, Mempool, Port, PortConfig, PortDevice, Queue};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::link::Seat;
use crate::Error;

/// Buffers besides those in turn: a mempool's caches keep some to themselves.
const SPARE_MBUFS: usize = 2048;

/// Bytes of a buffer in a pool: the pool's words, header, room, rounded to lines. On ordinary pages
/// DPDK gives each buffer a page of its own.
const MBUF_BYTES: [usize; 2] = [4096, 64 + 128 + 2176 + 64];

/// MiB that DPDK needs besides.
const OTHER_MEMORY: usize = 32;

/// Threads to work on.
#[derive(Debug)]
pub enum Crew {
    /// lcores 1, 2, … of DPDK.
    Lcores(Eal),
    /// Threads pinned to these CPUs.
    Threads(Vec<usize>),
}

/// A job for one worker.
pub type Job<T> = Box<dyn FnOnce() -> Result<T, Error> + Send>;

impl Crew {
    /// DPDK, if it runs.
    #[must_use]
    pub const fn eal(&self) -> Option<&Eal> {
        match self {
            Self::Lcores(eal) => Some(eal),
            Self::Threads(_) => None,
        }
    }

    /// Runs the jobs at once, one worker each, and returns what they return, in order.
    ///
    /// # Errors
    ///
    /// The first job's error, or that a worker could not be started.
    pub fn run<T: Send + 'static>(&self, jobs: Vec<Job<T>>) -> Result<Vec<T>, Error> {
        match self {
            Self::Lcores(eal) => {
                let workers = (1..)
                    .zip(jobs)
                    .map(|(lcore, job)| eal.launch(lcore, job))
                    .collect::<Result<Vec<_>, _>>()?;
                // All are joined, also when one has failed.
                let results: Vec<_> = workers.into_iter().map(dpdk::Worker::join).collect();
                results.into_iter().map(|result| result?).collect()
            }
            Self::Threads(cpus) => {
                let threads: Vec<_> = jobs
                    .into_iter()
                    .zip(cpus.iter().copied().cycle())
                    .map(|(job, cpu)| {
                        thread::spawn(move || {
                            pin(cpu);
                            job()
                        })
                    })
                    .collect();
                let results: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
                results
                    .into_iter()
                    .map(|result| {
                        result.unwrap_or_else(|_| Err(Error::Run("a worker panicked".to_owned())))
                    })
                    .collect()
            }
        }
    }
}

/// CPUs for this many workers: the last ones first, since the first takes most interrupts.
#[must_use]
pub fn cpus_for(workers: usize) -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect();
    let mut chosen: Vec<usize> = allowed.iter().rev().copied().collect();
    if chosen.is_empty() {
        chosen.push(0);
    }
    chosen.into_iter().cycle().take(workers).collect()
}

/// MiB of DPDK's memory for this many buffers of each worker and `more` bytes.
#[must_use]
pub fn packet_memory(workers: usize, mbufs: usize, huge_pages: bool, more: usize) -> usize {
    let count = mbufs * workers + SPARE_MBUFS;
    (count * MBUF_BYTES[usize::from(huge_pages)] + more) / (1 << 20) + OTHER_MEMORY
}

/// Starts DPDK with a net_ring and frames for each of the workers, and room for `more` bytes.
///
/// # Errors
///
/// DPDK's.
pub fn dpdk_seats(
    cpus: &[usize],
    mbufs: usize,
    huge_pages: bool,
    more: usize,
) -> Result<(Crew, Vec<DpdkSeat>), Error> {
    let count = mbufs * cpus.len() + SPARE_MBUFS;
    let memory_mb = packet_memory(cpus.len(), mbufs, huge_pages, more);
    let plan = |id, cpu: usize| LcorePlan {
        id,
        cpu: u16::try_from(cpu).ok(),
    };
    // The main lcore sleeps while the workers work.
    let mut lcores = vec![plan(0, *cpus_for(64).iter().min().unwrap_or(&0))];
    lcores.extend((1..).zip(cpus).map(|(id, cpu)| plan(id, *cpu)));
    let eal = Eal::init(&EalConfig {
        huge_pages,
        memory_mb: u32::try_from(memory_mb).unwrap_or(u32::MAX),
        lcores,
        vdevs: vec![],
        pci_allow: vec![],
        file_prefix: format!("perf-{}", std::process::id()),
        log_level: LogLevel::Error,
    })?;
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let pool = Mempool::new(&eal, "frames", count, 2176, 256)?;
    let mut seats = Vec::new();
    for worker in 0..cpus.len() {
        let device = PortDevice::Vdev(format!("net_ring{worker}"));
        let (_, mut queues) = Port::open(&eal, &device, &PortConfig::default(), &pool)?;
        seats.push(Seat {
            link: queues.remove(0),
            pool: pool.local(),
        });
    }
    Ok((Crew::Lcores(eal), seats))
}

/// A seat on DPDK.
pub type DpdkSeat = Seat<Queue, dpdk::LocalPool>;

/// Binds this thread to a CPU.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // Not pinned, a measurement is only noisier.
    let _ = sched_setaffinity(None, &set);
}

/// Lets workers begin and end a round at the same moment. They spin: a sleeping one would come late.
#[derive(Debug)]
pub struct Gate {
    workers: usize,
    arrived: AtomicUsize,
    turn: AtomicUsize,
    broken: AtomicBool,
}

impl Gate {
    /// For this many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            arrived: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Waits for all the others; false if one of them has given up.
    #[must_use]
    pub fn pass(&self) -> bool {
        // Acquire meets the Release below, so that a worker one turn ahead is not taken for one of
        // this turn.
        let turn = self.turn.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.workers {
            self.arrived.store(0, Ordering::Relaxed);
            // Release meets the Acquire of those who wait and of those who come for the next turn.
            self.turn.store(turn + 1, Ordering::Release);
        }
        let mut spins = 0_u32;
        while self.turn.load(Ordering::Acquire) == turn {
            if self.broken.load(Ordering::Relaxed) {
                return false;
            }
            spins += 1;
            if spins.is_multiple_of(1024) {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        !self.broken.load(Ordering::Relaxed)
    }

    /// Gives up, for everybody.
    pub fn give_up(&self) {
        // Relaxed: a flag that stands alone.
        self.broken.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nobody_passes_the_gate_before_all_have_come() {
        let gate = Arc::new(Gate::new(3));
        let rounds = Arc::new([const { AtomicUsize::new(0) }; 50]);
        let job = |_| -> Job<()> {
            let (gate, rounds) = (gate.clone(), rounds.clone());
            Box::new(move || {
                for round in rounds.iter() {
                    round.fetch_add(1, Ordering::Relaxed);
                    assert!(gate.pass());
                    assert_eq!(round.load(Ordering::Relaxed), 3);
                }
                Ok(())
            })
        };
        Crew::Threads(cpus_for(3))
            .run((0..3).map(job).collect())
            .unwrap();
    }

    #[test]
    fn who_waits_for_one_who_gave_up_is_told() {
        let gate = Arc::new(Gate::new(2));
        let waits = gate.clone();
        let jobs: Vec<Job<bool>> = vec![
            Box::new(move || Ok(waits.pass())),
            Box::new(move || {
                gate.give_up();
                Ok(false)
            }),
        ];
        let passed = Crew::Threads(cpus_for(2)).run(jobs).unwrap();
        assert_eq!(passed, [false, false]);
    }
}
