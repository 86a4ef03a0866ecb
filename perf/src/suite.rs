//! `perf figures`: the whole table of figures, measured, recorded, and written up.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde_json::Value;

use crate::Error;
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
    /// Only figures whose id contains this.
    #[arg(long, default_value = "")]
    pub only: String,
}

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
    let chosen: Vec<Figure> = figures::all()
        .into_iter()
        .filter(|figure| figure.id.contains(&options.only))
        .collect();
    if chosen.is_empty() {
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
    let mut measured = 0;
    for (number, figure) in (1..).zip(&chosen) {
        eprintln!("[{number}/{}] {}", chosen.len(), figure.title);
        match measure(options, figure) {
            Ok(line) => {
                writeln!(file, "{line}").map_err(fail)?;
                measured += 1;
            }
            Err(why) => eprintln!("perf: SKIPPED {}: {why}", figure.id),
        }
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
        "{measured} figures in {} seconds: {} and {}",
        start.elapsed().as_secs(),
        path.display(),
        page.display()
    );
    Ok(())
}

/// The figure's record, as a line of JSON: by a process of its own, because DPDK starts once in each.
fn measure(options: &Options, figure: &Figure) -> Result<Value, Error> {
    let mut refusal = None;
    for pages in PAGES {
        let repeats = format!(
            "engine --json --floors --repeat {} --seconds {}",
            options.repeat, options.seconds
        );
        match child(&format!("{repeats} {pages} {}", figure.arguments)) {
            Ok(mut record) => {
                if let Some(fields) = record.as_object_mut() {
                    fields.insert("figure".to_owned(), figure.id.into());
                }
                if let Some(why) = refusal {
                    eprintln!("perf: {}: on smaller pages, since {why}", figure.id);
                }
                return Ok(record);
            }
            Err(why) => refusal = Some(why),
        }
    }
    Err(refusal.unwrap_or_else(|| Error::Run("nothing was tried".to_owned())))
}

/// Runs this program with these arguments and reads the record that it prints.
fn child(arguments: &str) -> Result<Value, Error> {
    let program = std::env::current_exe().map_err(|error| Error::Run(error.to_string()))?;
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Run(error.to_string()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().rev().find(|line| !line.trim().is_empty());
        return Err(Error::Run(last.unwrap_or("no reason given").to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| Error::Run(error.to_string()))
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
