//! `perf search`: throughput as RFC 2544 (section 26.1) defines it, and latency at parts of it.

use std::time::Duration;

use packet::BURST;
use serde::Serialize;

use crate::Error;
use crate::generate::{Description, new_run, show};
use crate::host::{Host, LoadSince};
use crate::lab::ledger::Ledger;
use crate::options::{LabOptions, Links, Load};
use crate::record::traffic::TrafficRecord;
use crate::session::Session;
use crate::tester::Tester;
use crate::traffic::choice::Sizes;
use crate::traffic::trial::{Plan, Trial};

/// Parts of the throughput at which latency is measured, besides all of it.
const PARTS: [f64; 2] = [0.5, 0.9];

/// The loss of the second rate.
const NEARLY: f64 = 0.001;

/// A step up from a rate that holds when none is known that does not, and where that ends.
const UP: f64 = 1.25;
const MOST: f64 = 1e9;

/// Finds the highest rate at which a gateway loses nothing, and the highest at which it loses 0.1 %,
/// for each frame size, and measures latency at 50, 90 and 100 % of the first.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    links: Links,
    #[command(flatten)]
    lab: LabOptions,
    /// Frame sizes in bytes with FCS, one after the other.
    #[arg(long, value_delimiter = ' ', num_args = 1.., default_values = ["64", "128", "256", "512", "1024", "1280", "1518"])]
    sizes: Vec<Sizes>,
    /// Seconds of each trial (RFC 2544 wants 60).
    #[arg(long, default_value_t = 2.0)]
    trial: f64,
    /// Stops when the rates that hold and those that do not are so many per cent apart.
    #[arg(long, default_value_t = 1.0)]
    resolution: f64,
    /// A rate fails when it fails so often in a row: on a shared machine others cause loss, too.
    #[arg(long, default_value_t = 2)]
    tries: u32,
    /// A throughput is a rate that holds so many times in a row once it is found.
    #[arg(long, default_value_t = 3)]
    confirm: u32,
    /// Highest rate tried; default: none, beginning a tenth above what arrives at full speed.
    #[arg(long)]
    most: Option<f64>,
    /// One JSON object a line instead of tables.
    #[arg(long)]
    json: bool,
}

/// What was found for one size.
#[derive(Debug, Clone, Serialize)]
struct Found {
    name: String,
    verb: &'static str,
    scenario: String,
    lab: String,
    flows: u32,
    size: String,
    /// Frames a second without loss, found and then seen to hold `confirmed` times in a row; 0 if no rate did.
    throughput: f64,
    /// Frames a second with at most 0.1 % lost, likewise.
    throughput_at_0_1_percent: f64,
    /// How often in a row.
    confirmed: u32,
    /// The highest rates that held in any one trial: what the machine does when it is left alone. How far the
    /// throughputs are below says how much it was disturbed.
    held_once: f64,
    /// Likewise.
    held_once_at_0_1_percent: f64,
    /// Frames a second that arrived at full speed, whatever was lost.
    at_full_speed: f64,
    /// `generator` if at full speed nothing was lost and the device had room for nearly every burst: the
    /// gateway was not asked for all that it can do.
    limit: &'static str,
    /// Seconds of a trial.
    trial: f64,
    /// Every trial in order, those that failed too.
    trials: Vec<Tried>,
    seed: u64,
    #[serde(flatten)]
    host: Host,
    #[serde(flatten)]
    load: crate::host::Load,
}

/// A trial: frames a second, part that was lost, per cent of all processors' time that the hypervisor gave to
/// others meanwhile.
type Tried = (f64, f64, f64);

/// Runs the verb.
///
/// # Errors
///
/// [`Error::Usage`] for options that cannot be, [`Error::Run`] for a run that failed or whose frames
/// are not all accounted for.
pub fn run(options: &Options) -> Result<(), Error> {
    let mut options = options.clone();
    options.check()?;
    let longest = options.sizes.iter().max_by_key(|size| size.all());
    let longest = longest.cloned().unwrap_or_else(|| Sizes::one(64));
    let Options {
        load, links, lab, ..
    } = &mut options;
    let mut session = Session::open(load, links, lab, &longest)?;
    let (tester, ledger) = session.parts();
    let open_rate = options.load.open_rate;
    tester.work("search", move |ends, progress| {
        ends.prepare(open_rate, progress)
    })?;
    for size in &options.sizes {
        options.one_size(size, tester, ledger)?;
    }
    tester.work("search", move |ends, progress| {
        ends.finish(open_rate, progress);
        Ok(())
    })?;
    session.check()
}

/// Trials with frames of one size.
struct Hunt<'a> {
    tester: &'a mut Tester,
    options: &'a Options,
    size: &'a Sizes,
    trials: Vec<Tried>,
}

impl Options {
    fn check(&self) -> Result<(), Error> {
        let fail = |text: String| Err(Error::Usage(text));
        if !(0.01..=3600.0).contains(&self.trial) {
            return fail(format!("--trial {}: must be 0.01 to 3600", self.trial));
        }
        if !(0.01..=50.0).contains(&self.resolution) {
            let resolution = self.resolution;
            return fail(format!("--resolution {resolution}: must be 0.01 to 50"));
        }
        if !(1..=100).contains(&self.tries) {
            return fail(format!("--tries {}: must be 1 to 100", self.tries));
        }
        if !(1..=100).contains(&self.confirm) {
            return fail(format!("--confirm {}: must be 1 to 100", self.confirm));
        }
        if self.most.is_some_and(|most| !(1.0..=1e9).contains(&most)) {
            return fail("--most: must be 1 to 1000000000".to_owned());
        }
        if self.lab.lab.is_none() && self.links.sink.is_none() {
            return fail("--sink is missing: a search sends and receives".to_owned());
        }
        self.sizes
            .iter()
            .try_for_each(|size| self.load.check(&self.lab, size))
    }

    fn one_size(
        &self,
        size: &Sizes,
        tester: &mut Tester,
        ledger: Option<&Ledger>,
    ) -> Result<(), Error> {
        let load = LoadSince::now();
        let mut hunt = Hunt {
            tester,
            options: self,
            size,
            trials: Vec::new(),
        };
        let full = hunt.trial(None, self.load.warm_up())?;
        let at_full_speed = rate_of(&full);
        let most = self.most.unwrap_or(at_full_speed * 1.1).max(1.0);
        let lossless = hunt.highest(0.0, most, 0.0)?;
        let nearly = hunt.highest(lossless, most, NEARLY)?;
        let mut records = Vec::new();
        let mut throughput = 0.0;
        if let Some(whole) = hunt.again(lossless, 0.0, ledger)? {
            throughput = whole.rate.unwrap_or(0.0);
            for part in PARTS {
                records.push(hunt.measure(throughput * part, ledger)?.1);
            }
            records.push(whole);
        }
        let nearly = hunt.again(nearly, NEARLY, ledger)?;
        let nearly = nearly.and_then(|record| record.rate).unwrap_or(0.0);
        let trials = hunt.trials;
        let lab = self.lab.lab.map_or("given links", |kind| kind.name());
        let found = Found {
            name: format!("{lab}, throughput, {size} bytes"),
            verb: "search",
            scenario: self.load.traffic.name().to_owned(),
            lab: self.lab.lab.map_or("given", |kind| kind.name()).to_owned(),
            flows: self.load.flows,
            size: size.to_string(),
            throughput: throughput.round(),
            throughput_at_0_1_percent: nearly.max(throughput).round(),
            confirmed: self.confirm,
            held_once: held_once(&trials, 0.0),
            held_once_at_0_1_percent: held_once(&trials, NEARLY),
            at_full_speed: at_full_speed.round(),
            limit: limit(&full),
            trial: self.trial,
            trials,
            seed: self.load.seed,
            host: Host::here(),
            load: load.load(),
        };
        for record in &records {
            show(record, self.json)?;
        }
        if self.json {
            let line = serde_json::to_string(&found);
            println!("{}", line.map_err(|error| Error::Run(error.to_string()))?);
        } else {
            println!(
                "{} bytes: {:.0} frames a second without loss, {:.0} with 0.1 %, {} times in a row ({:.0} and {:.0} \
                 in any one trial); {:.0} arrive at full speed; limited by the {} ({} trials of {} s, steal {} %)\n",
                found.size,
                found.throughput,
                found.throughput_at_0_1_percent,
                found.confirmed,
                found.held_once,
                found.held_once_at_0_1_percent,
                found.at_full_speed,
                found.limit,
                found.trials.len(),
                found.trial,
                found.load.steal_percent
            );
        }
        Ok(())
    }
}

impl Hunt<'_> {
    /// The highest rate from `least` (which holds) on at which no more than `loss` is lost; `most` is
    /// where to begin, and the end if it was given.
    fn highest(&mut self, least: f64, most: f64, loss: f64) -> Result<f64, Error> {
        let (mut holds, mut fails) = (least, most);
        while self.holds(fails, loss)? {
            if self.options.most.is_some() || fails >= MOST {
                return Ok(fails);
            }
            holds = fails;
            fails *= UP;
        }
        let apart = 1.0 - self.options.resolution / 100.0;
        // A rate so low that nothing can be said about it is none.
        while holds < fails * apart && fails > 100.0 {
            let middle = holds.midpoint(fails);
            if self.holds(middle, loss)? {
                holds = middle;
            } else {
                fails = middle;
            }
        }
        Ok(holds)
    }

    /// The record of a rate that was found, if it holds so often in a row as is asked for; else of one below it that
    /// does, by steps that double: what was found while the machine was at its best is not taken for a throughput.
    /// Nothing if none holds.
    fn again(
        &mut self,
        rate: f64,
        loss: f64,
        ledger: Option<&Ledger>,
    ) -> Result<Option<TrafficRecord>, Error> {
        let (mut rate, mut step) = (rate, self.options.resolution / 100.0);
        while rate >= 1.0 {
            let mut all_held = true;
            for _ in 1..self.options.confirm {
                all_held = all_held && self.trial(Some(rate), Duration::ZERO)?.loss() <= loss;
            }
            if all_held {
                let (lost, record) = self.measure(rate, ledger)?;
                if lost <= loss {
                    return Ok(Some(record));
                }
            }
            rate *= 1.0 - step;
            step = (step * 2.0).min(0.5);
        }
        Ok(None)
    }

    /// A trial with an account: the part that was lost, and the record.
    fn measure(
        &mut self,
        rate: f64,
        ledger: Option<&Ledger>,
    ) -> Result<(f64, TrafficRecord), Error> {
        let before = self.tester.counts(ledger)?;
        let load = LoadSince::now();
        let trial = self.trial(Some(rate), Duration::ZERO)?;
        let load = load.load();
        let account = self.tester.account(&before, ledger)?;
        let description = Description {
            verb: "search",
            load: &self.options.load,
            lab: &self.options.lab,
            size: self.size.to_string(),
            mean: self.size.mean(),
            rate: Some(rate),
            huge_pages: self.tester.huge_pages(),
        };
        let record = description.record(&trial, account, Host::here(), load);
        Ok((trial.loss(), record))
    }

    fn holds(&mut self, rate: f64, loss: f64) -> Result<bool, Error> {
        for _ in 0..self.options.tries {
            let trial = self.trial(Some(rate), Duration::ZERO)?;
            if trial.loss() <= loss {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn trial(&mut self, rate: Option<f64>, warm_up: Duration) -> Result<Trial, Error> {
        let plan = Plan {
            rate,
            time: Duration::from_secs_f64(self.options.trial),
            most: u64::MAX,
            warm_up,
            sizes: self.size.clone().seeded(self.options.load.seed),
        };
        let label = match rate {
            Some(rate) => format!("search {} bytes at {rate:.0}/s", self.size),
            None => format!("search {} bytes at full speed", self.size),
        };
        let load = LoadSince::now();
        let trial = self.tester.work(&label, move |ends, progress| {
            ends.run(new_run(), &plan, progress)
        })?;
        if let Some(rate) = rate {
            let tried = (rate.round(), trial.loss(), load.load().steal_percent);
            self.trials.push(tried);
        }
        Ok(trial)
    }
}

/// The highest rate that lost no more than `loss` in some trial.
fn held_once(trials: &[Tried], loss: f64) -> f64 {
    let held = trials.iter().filter(|(_, lost, _)| *lost <= loss);
    held.map(|(rate, ..)| *rate).fold(0.0, f64::max)
}

/// Who set the rate of a run at full speed.
fn limit(full: &Trial) -> &'static str {
    let bursts = full.sent.data / BURST as u64;
    if full.loss() > 0.0 || full.sent.device_full > bursts / 100 {
        "gateway"
    } else {
        "generator"
    }
}

/// Data frames (connections) a second that arrived (were closed in order).
fn rate_of(trial: &Trial) -> f64 {
    let received = if trial.connects {
        trial.connections.closed
    } else {
        trial.received.map_or(0, |received| received.distinct)
    };
    received as f64 / (trial.time.max(1) as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_all_trials_is_known_for_each_loss() {
        let trials = [
            (4.0, 0.5, 0.0),
            (3.0, 0.001, 1.0),
            (1.0, 0.0, 0.0),
            (2.0, 0.0, 9.0),
            (2.0, 0.1, 0.0),
        ];
        assert_eq!(held_once(&trials, 0.0), 2.0);
        assert_eq!(held_once(&trials, NEARLY), 3.0);
        assert_eq!(held_once(&trials[..1], 0.0), 0.0);
    }
}
