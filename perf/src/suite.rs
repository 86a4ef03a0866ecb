//! `perf figures`: the whole table of figures, measured, recorded, and written up.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::Error;
use crate::child;
use crate::figures::{self, Figure};
use crate::host::Host;
use crate::report;

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Folder for the record and its page.
    #[arg(long, default_value = "perf/records")]
    pub out: PathBuf,
    /// Document whose table of figures is written anew.
    #[arg(long)]
    pub into: Option<PathBuf>,
    /// How often to repeat each measurement.
    #[arg(long, default_value_t = 5)]
    pub repeat: usize,
    /// Seconds of each repeat.
    #[arg(long, default_value_t = 0.6)]
    pub seconds: f64,
    /// Only figures whose id contains this; `kernel`, `controlplane` and `traffic` are ids, too.
    #[arg(long, default_value = "")]
    pub only: String,
}

/// What is measured besides the figures, by other verbs: id, title, arguments, seconds that it may take. The
/// first takes what it takes: it would leave things behind if it was stopped.
const OTHERS: [(&str, &str, &str, u64); 6] = [
    (
        "kernel",
        "the kernel as kube-proxy programs it, and the gateway between the same veths",
        "kernel --json",
        u64::MAX,
    ),
    (
        "controlplane",
        "from a cluster's objects to a worker's snapshot",
        "controlplane --json",
        240,
    ),
    (
        "capsule",
        "the crate capsule, in turns with the gateway",
        "capsule --json",
        180,
    ),
    (
        "traffic-1m",
        "a million frames a second through the gateway",
        "gen --lab memif --rate 1000000 --seconds 4 --json",
        60,
    ),
    (
        "traffic-4m",
        "four million frames a second through the gateway",
        "gen --lab memif --rate 4000000 --seconds 4 --json",
        60,
    ),
    (
        "traffic-search",
        "the highest rate that the gateway holds",
        "search --lab memif --sizes 64 --trial 0.5 --json",
        150,
    ),
];

/// Where flow tables and buffers lie: as in production, or where this machine has room.
const PAGES: [&str; 2] = [
    "--table-pages huge --huge-pages auto",
    "--table-pages transparent",
];

/// Measures, records, reports.
///
/// # Errors
///
/// [`Error::Run`] if nothing could be measured or a file cannot be written. A figure that fails is named on
/// stderr and left out.
pub fn run(options: &Options) -> Result<(), Error> {
    let start = Instant::now();
    let is_chosen = |id: &str| id.contains(&options.only);
    let mut chosen = figures::all();
    chosen.retain(|figure| is_chosen(figure.id));
    let others: Vec<_> = OTHERS
        .into_iter()
        .filter(|other| is_chosen(other.0))
        .collect();
    let all = chosen.len() + others.len();
    if all == 0 {
        return Err(Error::Usage(format!(
            "--only {}: no figure is named so",
            options.only
        )));
    }
    let name = record_name();
    let path = options.out.join(format!("{name}.jsonl"));
    let fail = |error: std::io::Error| {
        Error::Run(format!("{} cannot be written: {error}", path.display()))
    };
    fs::create_dir_all(&options.out).map_err(fail)?;
    let mut file = File::create(&path).map_err(fail)?;
    let (mut number, mut measured) = (0, 0);
    let mut keep = |id: &str, title: &str, measure: &dyn Fn() -> Result<Vec<Value>, Error>| {
        number += 1;
        eprintln!("[{number}/{all}] {title}");
        match measure() {
            Ok(lines) => {
                measured += lines.len();
                for line in lines {
                    writeln!(file, "{line}").map_err(fail)?;
                }
            }
            Err(why) => eprintln!("perf: SKIPPED {id}: {why}"),
        }
        Ok::<_, Error>(())
    };
    for figure in &chosen {
        keep(figure.id, figure.title, &|| measure(options, figure))?;
    }
    for (id, title, arguments, seconds) in others {
        keep(id, title, &|| {
            child::own_records(arguments, Duration::from_secs(seconds))
        })?;
    }
    if measured == 0 {
        return Err(Error::Run("nothing was measured".to_owned()));
    }
    let page = options.out.join(format!("{name}.html"));
    report::run(&report::Options {
        records: path.clone(),
        html: Some(page.clone()),
        markdown: None,
        into: options.into.clone(),
        history: options.out.clone(),
    })?;
    println!(
        "{measured} records in {} seconds: {} and {}",
        start.elapsed().as_secs(),
        path.display(),
        page.display()
    );
    Ok(())
}

/// The figure's record, as a line of JSON: by a process of its own, because DPDK starts once in each.
fn measure(options: &Options, figure: &Figure) -> Result<Vec<Value>, Error> {
    let mut refusal = None;
    for pages in PAGES {
        let repeats = format!(
            "engine --json --floors --repeat {} --seconds {}",
            options.repeat, options.seconds
        );
        let arguments = format!("{repeats} {pages} {}", figure.arguments);
        match child::own_records(&arguments, Duration::MAX) {
            Ok(mut records) => {
                for record in records.iter_mut().filter_map(Value::as_object_mut) {
                    record.insert("figure".to_owned(), figure.id.into());
                }
                if let Some(why) = refusal {
                    eprintln!("perf: {}: on smaller pages, since {why}", figure.id);
                }
                return Ok(records);
            }
            Err(why) => refusal = Some(why),
        }
    }
    Err(refusal.unwrap_or_else(|| Error::Run("nothing was tried".to_owned())))
}

/// Date and commit.
fn record_name() -> String {
    let host = Host::here();
    let commit: String = match host.commit.split_once('-') {
        Some((commit, dirty)) => format!("{}-{dirty}", &commit[..commit.len().min(7)]),
        None => host.commit.chars().take(7).collect(),
    };
    format!("{}-{commit}", date(host.time))
}

/// Year, month and day of a moment, in UTC.
fn date(seconds: u64) -> String {
    // Days since the first of March of the year 0 (H. Hinnant, "chrono-compatible low-level date algorithms").
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_795_423_830, "2026-11-23"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}
