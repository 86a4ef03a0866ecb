//! `perf gen`: test traffic into a gateway, and, with `--sink` or `--lab`, out of it again.

use std::time::Duration;

use crate::Error;
use crate::host::{Host, LoadSince};
use crate::options::{LabOptions, Links, Load, Scenario};
use crate::record::traffic::{Frames, Latency, TrafficRecord};
use crate::session::Session;
use crate::tester::Account;
use crate::traffic::choice::Sizes;
use crate::traffic::payload::WARM_UP;
use crate::traffic::trial::{Plan, Trial};

/// Bytes of preamble and gap around each frame on a wire (IEEE 802.3).
pub const WIRE: f64 = 20.0;

/// Sends test traffic: open loop, each frame at its time whatever became of those before it. With
/// `--sink` or `--lab` it also receives, and counts loss, order, damage and latency.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    links: Links,
    #[command(flatten)]
    lab: LabOptions,
    /// Bytes of each frame with FCS: a number, imix, or SIZE:WEIGHT,SIZE:WEIGHT,….
    #[arg(long, default_value = "64")]
    size: Sizes,
    /// Frames (connections) a second; without it as fast as the device takes them.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds to send for.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// At most so many frames (connections).
    #[arg(long)]
    count: Option<u64>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
///
/// [`Error::Usage`] for options that cannot be, [`Error::Run`] for a run that failed or whose frames
/// are not all accounted for.
pub fn run(options: &Options) -> Result<(), Error> {
    let mut options = options.clone();
    options.check()?;
    let Options {
        load,
        links,
        lab,
        size,
        ..
    } = &mut options;
    let mut session = Session::open(load, links, lab, size)?;
    let (tester, ledger) = session.parts();
    let before = tester.counts(ledger)?;
    let load = LoadSince::now();
    let (plan, open_rate) = (options.plan(), options.load.open_rate);
    let trial = tester.work("gen", move |ends, progress| {
        ends.prepare(open_rate, progress)?;
        let mut trial = ends.run(new_run(), &plan, progress)?;
        ends.finish(open_rate, progress);
        // With those that were closed now.
        trial.connections = *ends.client.connections().counts();
        Ok(trial)
    })?;
    let load = load.load();
    let account = tester.account(&before, ledger)?;
    let huge_pages = tester.huge_pages();
    session.check()?;
    let description = Description {
        verb: "gen",
        load: &options.load,
        lab: &options.lab,
        size: options.size.to_string(),
        mean: options.size.mean(),
        rate: options.rate,
        huge_pages,
    };
    let record = description.record(&trial, account, Host::here(), load);
    show(&record, options.json)
}

/// Prints a record; fails if its frames are not all accounted for.
///
/// # Errors
///
/// [`Error::Run`].
pub fn show(record: &TrafficRecord, json: bool) -> Result<(), Error> {
    if json {
        let line = serde_json::to_string(record);
        println!("{}", line.map_err(|error| Error::Run(error.to_string()))?);
    } else {
        print!("{}", record.table());
    }
    match record.balance {
        Some(balance) if !balance.is_even() => Err(Error::Run(format!(
            "frames are not accounted for: {balance:?}"
        ))),
        _ => Ok(()),
    }
}

/// What a record says of a trial besides what came of it.
pub struct Description<'a> {
    /// The verb.
    pub verb: &'static str,
    /// The traffic.
    pub load: &'a Load,
    /// Where.
    pub lab: &'a LabOptions,
    /// Sizes, and their mean in bytes with FCS.
    pub size: String,
    /// See `size`.
    pub mean: f64,
    /// Rate that was wanted.
    pub rate: Option<f64>,
    /// Whether packet memory was on huge pages.
    pub huge_pages: bool,
}

impl Description<'_> {
    fn name(&self) -> String {
        let rate = match self.rate {
            Some(rate) => format!("{rate:.0} a second"),
            None => "full speed".to_owned(),
        };
        let lab = self.lab.lab.map_or("given links", |kind| kind.name());
        let (traffic, flows) = (self.load.traffic.name(), self.load.flows);
        format!(
            "{lab}, {traffic}, {flows} flows, {} bytes, {rate}",
            self.size
        )
    }

    /// The record of a trial.
    #[must_use]
    pub fn record(
        &self,
        trial: &Trial,
        account: Account,
        host: Host,
        load: crate::host::Load,
    ) -> TrafficRecord {
        let is_tcp = self.load.traffic != Scenario::Udp;
        let seconds = trial.time as f64 / 1e9;
        let received_rate = trial
            .received
            .map_or(0.0, |received| received.distinct as f64 / seconds.max(1e-9));
        let came_back = trial.returned.frames() > 0;
        let latency = trial.latency.as_ref().and_then(Latency::of);
        TrafficRecord {
            name: self.name(),
            verb: self.verb,
            scenario: self.load.traffic.name().to_owned(),
            lab: self.lab.lab.map_or("given", |kind| kind.name()).to_owned(),
            family: Some(if self.load.clients.address.is_ipv4() {
                4
            } else {
                6
            }),
            flows: Some(self.load.flows),
            choice: Some(self.load.choice.to_string()),
            size: Some(self.size.clone()),
            rate: self.rate,
            seconds,
            frames: Frames {
                offered: trial.offered,
                unsent: trial.unsent(),
                sent: trial.sent,
                received: trial.received,
                lost: trial.lost(),
                returned: came_back.then_some(trial.returned),
                served: trial.served,
            },
            received_rate: received_rate.round(),
            received_bits: (received_rate * (self.mean + WIRE) * 8.0).round(),
            latency_curve: latency.as_ref().map(|latency| latency.curve.clone()),
            latency,
            round_trip: Latency::of(&trial.round_trip),
            handshake: Latency::of(&trial.handshake),
            connections: is_tcp.then_some(trial.connections),
            gateway: account.gateway,
            balance: account.balance,
            ports: account.ports,
            packet_huge_pages: self.huge_pages,
            run: trial.run,
            seed: self.load.seed,
            host,
            load,
        }
    }
}

/// A number that a run of another process is not likely to have.
#[must_use]
pub fn new_run() -> u16 {
    (hugepages::region::monotonic_nanos() / 1_000_000 % u64::from(WARM_UP)) as u16
}

impl Options {
    fn check(&self) -> Result<(), Error> {
        if self.rate.is_some_and(|rate| !(1.0..=1e9).contains(&rate)) {
            return Err(Error::Usage("--rate: must be 1 to 1000000000".to_owned()));
        }
        if !(0.001..=86_400.0).contains(&self.seconds) {
            return Err(Error::Usage(format!(
                "--seconds {}: must be 0.001 to 86400",
                self.seconds
            )));
        }
        if self.count == Some(0) {
            return Err(Error::Usage("--count 0: must be 1 or more".to_owned()));
        }
        self.load.check(&self.lab, &self.size)
    }

    fn plan(&self) -> Plan {
        Plan {
            rate: self.rate,
            time: Duration::from_secs_f64(self.seconds),
            most: self.count.unwrap_or(u64::MAX),
            warm_up: self.load.warm_up(),
            sizes: self.size.clone().seeded(self.load.seed),
        }
    }
}
