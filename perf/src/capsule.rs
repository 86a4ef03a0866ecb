//! `perf capsule`: the crate capsule as a peer. `perf/capsule-lab` does a NAT by one fixed translation with it, in
//! turns with the gateway's own pipeline and its floors, so that whatever disturbs the machine disturbs all.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::Error;
use crate::child;
use crate::host::{Host, LoadSince};
use crate::pages::Reserved;
use crate::priority::Raised;
use crate::record::{Fates, Record};
use crate::stats::Summary;

/// Subject of the gateway's own record: apart from those of `perf engine`, which repeat more.
pub const BESIDE: &str = "engine beside capsule";

/// What subjects of capsule's records begin with.
pub const CAPSULE: &str = "capsule, ";

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The program capsule-lab, made by `ci/run.sh capsule-build`.
    #[arg(long, default_value = "perf/capsule-lab/target/release/capsule-lab")]
    pub program: PathBuf,
    /// Turns: in each, capsule and the gateway are measured once.
    #[arg(long, default_value_t = 3)]
    pub repeat: usize,
    /// Seconds of each measurement in a turn.
    #[arg(long, default_value_t = 0.2)]
    pub seconds: f64,
    /// Buffers in turn.
    #[arg(long, default_value_t = 32_768)]
    pub mbufs: usize,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub json: bool,
}

/// A line of capsule-lab.
#[derive(Debug, Deserialize)]
struct Line {
    variant: String,
    frame_size: usize,
    burst: usize,
    mbufs: usize,
    ns_per_packet: f64,
    rounds: usize,
}

/// What one of its measurements came to.
#[derive(Debug, Default)]
struct Measured {
    nanos: Vec<f64>,
    frames: usize,
    mbufs: usize,
}

/// Longer than any turn takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures and prints.
///
/// # Errors
///
/// [`Error::Usage`] if capsule-lab was not built, [`Error::Run`] if a run failed.
pub fn run(options: &Options) -> Result<(), Error> {
    let program = &options.program;
    if !program.is_file() {
        return Err(Error::Usage(format!(
            "--program {}: it is not there; ci/run.sh capsule-build makes it",
            program.display()
        )));
    }
    if options.repeat == 0 || options.seconds <= 0.0 {
        return Err(Error::Usage(
            "--repeat is at least 1, --seconds more than 0".to_owned(),
        ));
    }
    // 2.5 KiB a buffer, and what DPDK needs besides.
    let pages = (options.mbufs as u64 + 2048) * 2560 / (2 << 20) + 24;
    let reserved = Reserved::until_signal(pages);
    if let Err(why) = &reserved {
        eprintln!("perf: on ordinary pages, since {why}");
    }
    let _priority = Raised::now();
    let since = LoadSince::now();
    let (mut measured, mut ours) = (BTreeMap::<_, Measured>::new(), Vec::new());
    for turn in 1..=options.repeat {
        eprintln!("turn {turn} of {}", options.repeat);
        let arguments = bench(options, reserved.is_ok());
        for line in child::records(program, &arguments, PATIENCE)? {
            let line: Line =
                serde_json::from_value(line).map_err(|error| Error::Run(error.to_string()))?;
            let key = (line.variant, line.frame_size, line.burst);
            let entry: &mut Measured = measured.entry(key).or_default();
            entry.nanos.push(line.ns_per_packet);
            entry.frames += line.rounds * line.mbufs;
            entry.mbufs = line.mbufs;
        }
        for record in child::own_records(&engine(options, reserved.is_ok()), PATIENCE)? {
            let record: Record =
                serde_json::from_value(record).map_err(|error| Error::Run(error.to_string()))?;
            ours.push(record);
        }
    }
    let own = together(&ours).ok_or_else(|| Error::Run("nothing was measured".to_owned()))?;
    let mut records: Vec<Record> = measured
        .into_iter()
        .filter_map(|((variant, size, burst), measured)| {
            let record = theirs(&own, &measured)?;
            Some(Record {
                subject: format!("{CAPSULE}{variant}"),
                frame_size: size,
                burst,
                packet_huge_pages: reserved.is_ok(),
                host: Host::here(),
                load: since.load(),
                ..record
            })
        })
        .collect();
    records.push(own);
    let mut text = String::new();
    for record in &records {
        text += &match options.json {
            true => {
                serde_json::to_string(record).map_err(|error| Error::Run(error.to_string()))? + "\n"
            }
            false => format!("{}: {}", record.subject, record.table()),
        };
    }
    // A closed pipe is the reader's wish.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn bench(options: &Options, huge: bool) -> String {
    format!(
        "bench --mbufs {} --seconds {}{}",
        options.mbufs,
        options.seconds,
        if huge { " --huge-pages" } else { "" }
    )
}

fn engine(options: &Options, huge: bool) -> String {
    let pages = match huge {
        true => "--huge-pages auto --table-pages huge",
        false => "--table-pages transparent",
    };
    format!(
        "engine --json --floors --flows 1000 --repeat 1 --mbufs {} --seconds {} {pages}",
        options.mbufs, options.seconds
    )
}

/// The gateway's record over all turns.
fn together(records: &[Record]) -> Option<Record> {
    let last = records.last()?.clone();
    let nanos: Vec<f64> = records.iter().map(|record| record.ns_per_packet).collect();
    let repeats = Summary::of(&nanos)?;
    let mut floors = BTreeMap::<String, Vec<f64>>::new();
    for (name, nanos) in records.iter().flat_map(|record| &record.floors) {
        floors.entry(name.clone()).or_default().push(*nanos);
    }
    let floor_repeats: BTreeMap<_, _> = floors
        .into_iter()
        .filter_map(|(name, nanos)| Some((name, Summary::of(&nanos)?)))
        .collect();
    let mut fates = Fates::default();
    records.iter().for_each(|record| fates.add(record.fates));
    Some(Record {
        subject: BESIDE.to_owned(),
        ns_per_packet: repeats.median,
        repeats,
        floors: floor_repeats
            .iter()
            .map(|(name, summary)| (name.clone(), summary.median))
            .collect(),
        floor_repeats,
        fates,
        ..last
    })
}

/// capsule's, with the floors of the same turns.
fn theirs(own: &Record, measured: &Measured) -> Option<Record> {
    let repeats = Summary::of(&measured.nanos)?;
    Some(Record {
        scenario: "nat".to_owned(),
        variant: "fixed".to_owned(),
        flows: 1,
        capacity: 1,
        ns_per_packet: repeats.median,
        repeats,
        rx_to_tx: None,
        fates: Fates {
            frames: measured.frames as u64,
            ..Fates::default()
        },
        services: 1,
        endpoints: 1,
        mbufs: measured.mbufs,
        table_pages: "none".to_owned(),
        ..own.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::tests::line;

    #[test]
    fn turns_are_put_together_and_floors_stand_beside_capsule() {
        let records: Vec<Record> = [(1000, 20.0), (1000, 24.0), (1000, 22.0)]
            .map(|(flows, nanos)| serde_json::from_str(&line(flows, nanos)).unwrap())
            .into();
        let own = together(&records).unwrap();
        assert_eq!((own.ns_per_packet, own.repeats.count), (22.0, 3));
        assert_eq!((own.subject.as_str(), own.fates.frames), (BESIDE, 27));
        let measured = Measured {
            nanos: vec![34.0, 33.0, 40.0],
            frames: 99,
            mbufs: 1024,
        };
        let record = theirs(&own, &measured).unwrap();
        assert_eq!((record.ns_per_packet, record.repeats.max), (34.0, 40.0));
        assert_eq!(record.floors, own.floors);
        assert_eq!((record.scenario.as_str(), record.fates.frames), ("nat", 99));
    }
}
