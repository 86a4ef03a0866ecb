//! `perf compare`: two sets of records, measurement by measurement.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::Error;
use crate::record::Record;
use crate::set::Set;
use crate::stats::Summary;

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Records before: a file of JSON lines, or a folder of such files.
    pub a: PathBuf,
    /// Records after.
    pub b: PathBuf,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub json: bool,
}

/// What one measurement came to in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What was measured.
    pub what: String,
    /// Before.
    pub a: Option<Summary>,
    /// After.
    pub b: Option<Summary>,
    /// Medians, after by before.
    pub ratio: Option<f64>,
    /// Least and most that it may be: the least of one by the most of the other.
    pub spread: Option<(f64, f64)>,
    /// The same ratio of the floor `nat`: what the machine itself was slower or faster.
    pub machine: Option<f64>,
}

/// Prints the comparison.
///
/// # Errors
///
/// [`Error::Usage`] if the records cannot be read or have nothing in common.
pub fn run(options: &Options) -> Result<(), Error> {
    let comparisons = compare(&Set::read(&options.a)?, &Set::read(&options.b)?);
    if comparisons.iter().all(|one| one.ratio.is_none()) {
        return Err(Error::Usage(format!(
            "{} and {} have no measurement in common",
            options.a.display(),
            options.b.display()
        )));
    }
    if !options.json {
        println!(
            "{:>9} {:>9}   {:>5}  {:<13}  {:>7}   measurement",
            "A", "B", "B/A", "spread", "machine"
        );
    }
    for comparison in &comparisons {
        if options.json {
            let line =
                serde_json::to_string(comparison).map_err(|error| Error::Run(error.to_string()))?;
            println!("{line}");
        } else {
            println!("{}", comparison.row());
        }
    }
    Ok(())
}

/// Everything that either has.
#[must_use]
pub fn compare(a: &Set, b: &Set) -> Vec<Comparison> {
    let (a, b) = (a.by_what(), b.by_what());
    let all: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let none = Vec::new();
    all.into_iter()
        .map(|what| {
            let before = a.get(what).unwrap_or(&none);
            let after = b.get(what).unwrap_or(&none);
            let mut comparison = Comparison {
                what: what.label(),
                a: merged(before),
                b: merged(after),
                ratio: None,
                spread: None,
                machine: None,
            };
            if let (Some(a), Some(b)) = (comparison.a, comparison.b) {
                comparison.ratio = Some(b.median / a.median);
                comparison.spread = Some((b.min / a.max, b.max / a.min));
                comparison.machine = floor(after).zip(floor(before)).map(|(b, a)| b / a);
            }
            comparison
        })
        .collect()
}

/// Repeats of all records of one measurement together.
fn merged(records: &[&Record]) -> Option<Summary> {
    let figures = records
        .iter()
        .map(|record| match record.instructions_per_packet {
            Some(count) => Summary {
                count: 1,
                min: count,
                median: count,
                max: count,
            },
            None => record.repeats,
        });
    figures.reduce(Summary::with)
}

fn floor(records: &[&Record]) -> Option<f64> {
    let floors = records.iter().filter_map(|record| record.floors.get("nat"));
    floors.copied().reduce(f64::min)
}

impl Comparison {
    fn row(&self) -> String {
        let nanos = |summary: Option<Summary>| {
            summary.map_or_else(
                || "-".to_owned(),
                |summary| format!("{:.1}", summary.median),
            )
        };
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |it| format!("{it:.2}"));
        let spread = self.spread;
        format!(
            "{:>9} {:>9}   {:>5}  {:<13}  {:>7}   {}",
            nanos(self.a),
            nanos(self.b),
            ratio(self.ratio),
            spread.map_or_else(String::new, |(low, high)| format!("{low:.2} to {high:.2}")),
            ratio(self.machine),
            self.what
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::tests::line;

    fn set(lines: &[String]) -> Set {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        Set::read(file.path()).unwrap()
    }

    #[test]
    fn ratios_come_with_the_worst_and_the_best_that_they_may_be() {
        let compared = compare(
            &set(&[line(1000, 20.0), line(7, 5.0)]),
            &set(&[line(1000, 10.0), line(8, 5.0)]),
        );
        assert_eq!(compared.len(), 3, "those of one side are listed as well");
        let found = compared.iter().find(|one| one.ratio.is_some()).unwrap();
        assert_eq!(found.what, "established, IPv4, 1,000 flows");
        assert_eq!(found.ratio, Some(0.5));
        assert_eq!(found.spread, Some((9.0 / 21.0, 11.0 / 19.0)));
        assert_eq!(found.machine, Some(1.0));
        assert!(
            found.row().contains("0.50  0.43 to 0.58"),
            "{}",
            found.row()
        );
    }

    #[test]
    fn several_records_of_one_measurement_count_together() {
        let compared = compare(
            &set(&[line(1, 20.0), line(1, 24.0)]),
            &set(&[line(1, 20.0)]),
        );
        let a = compared[0].a.unwrap();
        assert_eq!((a.count, a.min, a.max), (6, 19.0, 25.0));
    }
}
