//! The sender: a process of its own in the clients' namespace, told over its standard input what to send.
//!
//! Frames leave by DPDK's net_af_packet, a system call a burst; the kernel carries each to the far end of the veth
//! and through whatever is there on this very CPU, before the call returns. So the time that sending takes holds
//! the kernel's whole work for a frame.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use clap::Args;
use dpdk::{Eal, EalConfig, LcorePlan, LogLevel, Mempool, Port, PortConfig, PortDevice};
use engine::family::V4;
use packet::tcp::{ACK, SYN};
use packet::{Burst, Link};

use crate::Error;
use crate::bench::{Random, Stamp};
use crate::engine::cluster::{Cluster, LINK_MACS, ROUTER_MAC};

/// As the parent types it.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// CPU to run on.
    #[arg(long)]
    cpu: u16,
    /// Services that flows go to.
    #[arg(long)]
    services: usize,
}

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// An ACK of each of the flows from this number on: makes them.
    Each { first: u64, count: u64 },
    /// ACKs of flows below a number, at random.
    Random { flows: u64, count: u64 },
    /// A SYN of each of the flows from this number on.
    New { first: u64, count: u64 },
}

impl Order {
    /// Frames.
    pub(super) const fn count(self) -> u64 {
        match self {
            Self::Each { count, .. } | Self::Random { count, .. } | Self::New { count, .. } => {
                count
            }
        }
    }

    fn line(self) -> String {
        match self {
            Self::Each { first, count } => format!("each {first} {count}"),
            Self::Random { flows, count } => format!("random {flows} {count}"),
            Self::New { first, count } => format!("new {first} {count}"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let kind = words.next()?;
        let mut number = || words.next()?.parse().ok();
        let (first, count) = (number()?, number()?);
        match kind {
            "each" => Some(Self::Each { first, count }),
            "random" => Some(Self::Random {
                flows: first,
                count,
            }),
            "new" => Some(Self::New { first, count }),
            _ => None,
        }
    }
}

/// Answers each line of standard input, an order, by the nanoseconds that it took.
///
/// # Errors
///
/// DPDK's, or that standard input is not understood.
pub fn run(options: &Options) -> Result<(), Error> {
    let eal = Eal::init(&EalConfig {
        huge_pages: false,
        memory_mb: 64,
        lcores: vec![LcorePlan {
            id: 0,
            cpu: Some(options.cpu),
        }],
        vdevs: vec![],
        pci_allow: vec![],
        file_prefix: format!("perf-sender-{}", std::process::id()),
        log_level: LogLevel::Error,
    })?;
    let pool = Mempool::new(&eal, "frames", 4095, 2176, 256)?;
    let device = PortDevice::AfPacket("eth0".to_owned());
    let (_port, mut queues) = Port::open(&eal, &device, &PortConfig::default(), &pool)?;
    let mut queue = queues.remove(0);
    let mut pool = pool.local();
    let cluster = Cluster {
        family: 4,
        services: options.services,
        endpoints: 1,
    };
    let stamp = |flags| Stamp::tcp::<V4>(flags, 60, ROUTER_MAC, LINK_MACS[0]);
    let (syn, ack) = (stamp(SYN)?, stamp(ACK)?);
    let mut random = Random::new(1, 0);
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| Error::Run(error.to_string()))?;
        let order = Order::parse(&line)
            .ok_or_else(|| Error::Usage(format!("the sender does not understand {line:?}")))?;
        let start = Instant::now();
        let mut sent = 0;
        while sent < order.count() {
            let mut burst = Burst::new();
            pool.alloc_burst(&mut burst);
            burst.truncate((order.count() - sent).min(burst.len() as u64) as usize);
            for (frame, number) in burst.iter_mut().zip(sent..) {
                let (stamp, flow) = match order {
                    Order::Each { first, .. } => (&ack, first + number),
                    Order::New { first, .. } => (&syn, first + number),
                    Order::Random { flows, .. } => (&ack, random.below(flows as usize) as u64),
                };
                stamp.write::<V4, _>(frame, &cluster.tuple::<V4>(flow));
            }
            sent += burst.len() as u64;
            while !burst.is_empty() {
                queue.tx_burst(&mut burst);
            }
        }
        println!("{}", start.elapsed().as_nanos());
    }
    Ok(())
}

/// The parent's side.
pub(super) struct Sender {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Sender {
    /// Starts the sender by `command`, which is this program in the clients' namespace.
    pub(super) fn start(mut command: Command, cpu: usize, services: usize) -> Result<Self, Error> {
        command
            .arg("kernel-sender")
            .args(["--cpu", &cpu.to_string()])
            .args(["--services", &services.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let orders = child.stdin.take();
        let answers = child.stdout.take();
        let answers = answers.ok_or_else(|| failed("it has no standard output"))?;
        let mut sender = Self {
            child,
            orders,
            answers: BufReader::new(answers),
        };
        match sender.answer()?.as_str() {
            "ready" => Ok(sender),
            other => Err(failed(format!("it said {other:?}"))),
        }
    }

    /// Nanoseconds a frame.
    pub(super) fn send(&mut self, order: Order) -> Result<f64, Error> {
        let orders = self
            .orders
            .as_mut()
            .ok_or_else(|| failed("it is stopped"))?;
        writeln!(orders, "{}", order.line()).map_err(failed)?;
        let nanos: f64 = self.answer()?.parse().map_err(failed)?;
        Ok(nanos / order.count() as f64)
    }

    fn answer(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(failed)?;
        if line.is_empty() {
            return Err(failed("it ended"));
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // It ends with its standard input.
        self.orders = None;
        let _ = self.child.wait();
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Run(format!("the sender of frames: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_understood_as_it_was_given() {
        for order in [
            Order::Each { first: 7, count: 8 },
            Order::Random { flows: 9, count: 1 },
            Order::New { first: 0, count: 3 },
        ] {
            assert_eq!(Order::parse(&order.line()), Some(order));
        }
        assert_eq!(Order::parse("other 1 2"), None);
        assert_eq!(Order::parse("new 1"), None);
    }
}
