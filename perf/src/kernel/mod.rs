//! `perf kernel`: the kernel as kube-proxy programs it, and the whole gateway between the same veths.
//!
//! One sender, a CPU of its own, sends to services' addresses through a forwarder to a counter behind it.
//!
//! * The kernel forwards on the sender's CPU, before the system call that sends has returned. So its cost is the
//!   time a frame takes to send, less the same with the forwarder's door shut (an ingress drop): receiving,
//!   rules, connection tracking, translation, routing and sending on, and nothing of the sender.
//! * The gateway polls on a CPU of its own. Its figure is the time between two frames that arrive while the
//!   sender sends as fast as it can: what the gateway cannot take is lost at its door.

mod gateway;
mod network;
mod rules;
mod sender;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::gateway::Gateway;
use self::network::{Network, load};
pub use self::sender::{Options as SenderOptions, run as run_sender};
use self::sender::{Order, Sender};
use crate::Error;
use crate::bench::crew::cpus_for;
use crate::engine::cluster::Cluster;
use crate::host::{Host, LoadSince};
use crate::netns::run as run_command;
use crate::priority::Raised;
use crate::record::{Fates, Record};
use crate::set::What;
use crate::stats::Summary;

/// Who forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// The kernel, rules by nftables.
    Nftables,
    /// The kernel, rules by iptables.
    Iptables,
    /// Portgate over net_af_packet.
    AfPacket,
    /// Portgate over net_af_xdp.
    AfXdp,
}

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Who forwards, one after the other.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "nftables,iptables,af-packet,af-xdp"
    )]
    pub subjects: Vec<Subject>,
    /// Numbers of services, of two endpoints each.
    #[arg(long, value_delimiter = ',', default_value = "1,1000")]
    pub services: Vec<usize>,
    /// Numbers of established flows.
    #[arg(long, value_delimiter = ',', default_value = "1000,65536")]
    pub flows: Vec<u64>,
    /// Frames of each repeat; new flows are a tenth of that, or fewer where masquerade ports would run out.
    #[arg(long, default_value_t = 200_000)]
    pub packets: u64,
    /// How often to repeat, with the door shut and open in turns.
    #[arg(long, default_value_t = 5)]
    pub repeat: usize,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub json: bool,
}

/// Endpoints of each service.
const ENDPOINTS: usize = 2;

/// Masquerade ports towards an endpoint that are used at most: three quarters of those from 1024 on. With all of them
/// taken the kernel drops first frames, and it searches long before.
const PORTS: u64 = (65_536 - 1024) * 3 / 4;

/// Numbers of flows that no established flow has.
const NEW: u64 = 1 << 24;

/// Measures and prints.
///
/// # Errors
///
/// [`Error`]. A subject that this machine has not got is named on stderr and left out.
pub fn run(options: &Options) -> Result<(), Error> {
    let most = options.flows.iter().max().copied().unwrap_or(0);
    let begun = options.packets / 10 * options.repeat as u64;
    if most + begun > 200_000 || options.repeat == 0 || options.packets < 1000 {
        return Err(Error::Usage(
            "--flows and --repeat times a tenth of --packets are 200000 flows at most (the kernel's table is no \
             larger by default), --repeat is at least 1, --packets at least 1000"
                .to_owned(),
        ));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Usage(
            "perf kernel makes network namespaces and needs root".to_owned(),
        ));
    }
    let _priority = Raised::now();
    let mut measured = 0;
    for subject in &options.subjects {
        for services in &options.services {
            let result = of_subject(options, *subject, *services);
            match result {
                Ok(records) => {
                    measured += records.len();
                    for record in records {
                        show(&record, options.json)?;
                    }
                }
                Err(why) => eprintln!(
                    "perf: SKIPPED {}, {services} services: {why}",
                    subject.name()
                ),
            }
        }
    }
    if measured == 0 {
        return Err(Error::Run("nothing was measured".to_owned()));
    }
    Ok(())
}

fn show(record: &Record, json: bool) -> Result<(), Error> {
    if json {
        let line = serde_json::to_string(record).map_err(|error| Error::Run(error.to_string()))?;
        println!("{line}");
        return Ok(());
    }
    let Summary {
        min, median, max, ..
    } = record.repeats;
    let alone = record
        .floors
        .get("send")
        .map_or_else(String::new, |alone| format!("; sending alone {alone:.0}"));
    println!(
        "{:<60} {median:>8.0} ns  ({min:.0}–{max:.0}{alone}), lost {:.1} %",
        What::of(record).label(),
        record.fates.dropped as f64 / record.fates.frames.max(1) as f64 * 100.0,
    );
    Ok(())
}

fn of_subject(options: &Options, subject: Subject, services: usize) -> Result<Vec<Record>, Error> {
    let cluster = Cluster {
        family: 4,
        services,
        endpoints: ENDPOINTS,
    };
    eprintln!("{}, {services} services", subject.name());
    let cpus = cpus_for(2);
    let directory = tempfile::tempdir().map_err(|error| Error::Run(error.to_string()))?;
    let network = Network::new(subject.is_kernel())?;
    let mut running = None;
    match subject {
        Subject::Nftables => {
            for script in rules::nftables(&cluster) {
                load(&network.forwarder, "nft", &["-f", "-"], &script)?;
            }
        }
        Subject::Iptables => {
            load(
                &network.forwarder,
                "iptables-restore",
                &["-w"],
                &rules::iptables(&cluster),
            )?;
        }
        Subject::AfPacket | Subject::AfXdp => {
            let driver = if subject == Subject::AfXdp {
                "af_xdp"
            } else {
                "af_packet"
            };
            running = Some(Gateway::start(
                &network,
                &cluster,
                driver,
                cpus[0],
                directory.path(),
            )?);
        }
    }
    if subject.is_kernel() {
        // Conversations are seen from one side only.
        let liberal = "net.netfilter.nf_conntrack_tcp_be_liberal=1";
        run_command(network.forwarder.command("sysctl").args(["-qw", liberal]))?;
    }
    let program = std::env::current_exe().map_err(|error| Error::Run(error.to_string()))?;
    let sender = Sender::start(network.clients.command(program), cpus[1], services)?;
    let mut lane = Lane {
        network: &network,
        sender,
        subject,
        services,
        repeat: options.repeat,
    };
    let mut records = Vec::new();
    for flows in &options.flows {
        lane.prime(*flows)?;
        let order = |_| Order::Random {
            flows: *flows,
            count: options.packets,
        };
        records.push(lane.measure("established", *flows, order)?);
    }
    let there = options.flows.iter().max().copied().unwrap_or(0);
    let count = new_flows(options, services, there)?;
    let order = |repeat| Order::New {
        first: NEW + repeat as u64 * count,
        count,
    };
    records.push(lane.measure("new", there, order)?);
    if let Some(gateway) = &mut running {
        gateway.check()?;
    }
    Ok(records)
}

/// New flows of each repeat, beside `there` established ones.
fn new_flows(options: &Options, services: usize, there: u64) -> Result<u64, Error> {
    let ports = (services * ENDPOINTS) as u64 * PORTS;
    let room = ports.saturating_sub(there) / options.repeat as u64;
    match room.min(options.packets / 10) {
        0 => Err(Error::Run(format!(
            "new: {there} flows leave no masquerade port for others to {services} services"
        ))),
        count => Ok(count),
    }
}

/// A network with something that forwards in it, and its sender.
struct Lane<'n> {
    network: &'n Network,
    sender: Sender,
    subject: Subject,
    services: usize,
    repeat: usize,
}

impl Lane<'_> {
    /// Makes flows. Some first frames are lost where next hops have to be found or the forwarder is slow, so
    /// they are sent again.
    fn prime(&mut self, flows: u64) -> Result<(), Error> {
        for _ in 0..3 {
            for first in (0..flows).step_by(512) {
                let count = (flows - first).min(512);
                self.sender.send(Order::Each { first, count })?;
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(50));
        }
        let before = self.network.arrived()?.0;
        self.sender.send(Order::Each {
            first: 0,
            count: 256.min(flows),
        })?;
        let after = self.settled()?;
        if after.0 - before < 256.min(flows) {
            return Err(Error::Run(format!(
                "of {} frames only {} arrived translated ({} otherwise)",
                256.min(flows),
                after.0 - before,
                after.1
            )));
        }
        Ok(())
    }

    /// Counters when nothing more comes.
    fn settled(&self) -> Result<(u64, u64), Error> {
        let mut before = self.network.arrived()?;
        loop {
            thread::sleep(Duration::from_millis(40));
            let now = self.network.arrived()?;
            if now == before {
                return Ok(now);
            }
            before = now;
        }
    }

    fn measure(
        &mut self,
        scenario: &str,
        flows: u64,
        order: impl Fn(usize) -> Order,
    ) -> Result<Record, Error> {
        let since = LoadSince::now();
        let (mut alone, mut whole) = (Vec::new(), Vec::new());
        let mut fates = Fates::default();
        for repeat in 0..self.repeat {
            let order = order(repeat);
            if self.subject.is_kernel() {
                self.network.shut(true)?;
                alone.push(self.sender.send(order)?);
                self.network.shut(false)?;
            }
            let before = self.settled()?;
            let nanos = self.sender.send(order)?;
            let after = self.settled()?;
            let arrived = after.0 - before.0;
            if arrived == 0 || after.1 > before.1 {
                return Err(Error::Run(format!(
                    "{scenario}: {arrived} of {} frames arrived translated, {} otherwise",
                    order.count(),
                    after.1 - before.1
                )));
            }
            fates.frames += order.count();
            fates.dropped += order.count() - arrived.min(order.count());
            whole.push(match self.subject.is_kernel() {
                true => nanos - alone[repeat],
                false => nanos * order.count() as f64 / arrived as f64,
            });
        }
        if scenario == "new" {
            fates.created = fates.frames - fates.dropped;
        } else {
            fates.hits = fates.frames - fates.dropped;
        }
        // Frames that the kernel loses are less work than the others.
        if self.subject.is_kernel() && fates.dropped > fates.frames / 100 {
            return Err(Error::Run(format!(
                "{scenario}: {} of {} frames were lost",
                fates.dropped, fates.frames
            )));
        }
        self.record(scenario, flows, (&alone, &whole), fates, since)
    }

    fn record(
        &self,
        scenario: &str,
        flows: u64,
        (alone, whole): (&[f64], &[f64]),
        fates: Fates,
        since: LoadSince,
    ) -> Result<Record, Error> {
        let none = || Error::Run("nothing was measured".to_owned());
        let repeats = Summary::of(whole).ok_or_else(none)?;
        let floors: BTreeMap<String, Summary> = Summary::of(alone)
            .map(|alone| ("send".to_owned(), alone))
            .into_iter()
            .collect();
        Ok(Record {
            figure: None,
            subject: self.subject.name().to_owned(),
            scenario: scenario.to_owned(),
            variant: String::new(),
            family: 4,
            flows: flows as usize,
            capacity: flows as usize,
            workers: 1,
            ns_per_packet: repeats.median,
            repeats,
            instructions_per_packet: None,
            floors: floors
                .iter()
                .map(|(name, floor)| (name.clone(), floor.median))
                .collect(),
            floor_repeats: floors,
            rx_to_tx: None,
            fates,
            services: self.services,
            endpoints: ENDPOINTS,
            frame_size: 60,
            burst: 32,
            mbufs: 0,
            link: "veth".to_owned(),
            table_pages: "none".to_owned(),
            packet_huge_pages: false,
            seed: 1,
            host: Host::here(),
            load: since.load(),
        })
    }
}

impl Subject {
    const fn is_kernel(self) -> bool {
        matches!(self, Self::Nftables | Self::Iptables)
    }

    /// In records.
    const fn name(self) -> &'static str {
        match self {
            Self::Nftables => "kernel, nftables",
            Self::Iptables => "kernel, iptables",
            Self::AfPacket => "Portgate over af_packet",
            Self::AfXdp => "Portgate over af_xdp",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Kernel {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn new_flows_find_ports_beside_those_that_are_there() {
        let options = Kernel::parse_from(["kernel"]).options;
        let flows = |services| new_flows(&options, services, 65_536).unwrap();
        assert_eq!(flows(1000), options.packets / 10);
        let one = flows(1);
        assert!(one > 1000 && 65_536 + one * 5 <= 2 * PORTS, "{one}");
        assert!(new_flows(&options, 1, 2 * PORTS).is_err());
    }
}
