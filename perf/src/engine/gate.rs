//! The gate: instructions a packet of the main scenarios against those recorded.
//!
//! Instructions guard against carelessness; they do not rank designs (a prefetch is one more instruction
//! and ten nanoseconds less). What the gate refuses may be right: then the record is updated, with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::callgrind;
use super::options::{Direction, Flood, Options, Plan, Scenario};
use crate::Error;
use crate::host::Host;

/// How much more than recorded is let pass.
const TOLERANCE_PERCENT: f64 = 3.0;

/// Flows of the scenarios: enough for buckets and lines to differ.
const FLOWS: usize = 1_000;

/// The record's file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Recorded {
    /// Instructions a packet, by name of scenario.
    instructions: BTreeMap<String, f64>,
    /// Compiler of the program that was counted.
    rustc: String,
    /// Why they are what they are: the last one first.
    updates: Vec<Update>,
}

/// One change of the record.
#[derive(Debug, Serialize, Deserialize)]
struct Update {
    reason: String,
    /// Parent of the commit that changed the record.
    commit: String,
    rustc: String,
    /// Before and after, where they differ; nothing before for a new scenario.
    changed: BTreeMap<String, (Option<f64>, f64)>,
}

/// Counts every scenario and fails if one needs more instructions than recorded.
///
/// # Errors
///
/// [`Error::Run`] that names the scenarios.
pub(super) fn check(path: &Path, json: bool) -> Result<(), Error> {
    let recorded = read(path)?;
    let counted = count()?;
    show(&recorded.instructions, &counted, json);
    let refused = refused(&recorded.instructions, &counted);
    if refused.is_empty() {
        return Ok(());
    }
    let compiler = rustc();
    let compiler = if compiler == recorded.rustc {
        String::new()
    } else {
        format!(" (recorded with {}, this is {compiler})", recorded.rustc)
    };
    Err(Error::Run(format!(
        "more than {TOLERANCE_PERCENT} % above {}{compiler}: {}. If that is meant: perf engine --callgrind \
         --update --reason \"...\"",
        path.display(),
        refused.join("; ")
    )))
}

/// Counts every scenario and records what they need.
///
/// # Errors
///
/// [`Error::Usage`] for an empty reason, [`Error::Run`] if the file cannot be written.
pub(super) fn update(path: &Path, reason: &str, json: bool) -> Result<(), Error> {
    if reason.trim().is_empty() {
        return Err(Error::Usage("--reason says why, in a few words".to_owned()));
    }
    let mut recorded = if path.exists() {
        read(path)?
    } else {
        Recorded::default()
    };
    let counted = count()?;
    show(&recorded.instructions, &counted, json);
    recorded.rustc = rustc();
    let changed = changed(&recorded.instructions, &counted);
    recorded.updates.insert(
        0,
        Update {
            reason: reason.trim().to_owned(),
            commit: Host::here().commit,
            rustc: recorded.rustc.clone(),
            changed,
        },
    );
    recorded.instructions = counted;
    let text = serde_json::to_string_pretty(&recorded)
        .map_err(|error| Error::Run(error.to_string()))?
        + "\n";
    fs::write(path, text).map_err(|error| failed("written", path, &error))
}

/// The scenarios, by name.
fn scenarios() -> Vec<(String, Options)> {
    let mut scenarios = Vec::new();
    for family in [4, 6] {
        let options = |scenario| Options {
            scenario,
            family,
            flows: FLOWS,
            mbufs: 1024,
            ..Options::default()
        };
        let established = options(Scenario::Established);
        let new = options(Scenario::New);
        let flood = options(Scenario::Flood);
        let mut add = |name: &str, options| scenarios.push((format!("{name}-v{family}"), options));
        for (name, direction) in [("forward", Direction::Forward), ("reply", Direction::Reply)] {
            let options = Options {
                direction,
                ..established.clone()
            };
            add(&format!("established-{name}"), options);
        }
        let single = Options {
            burst: 1,
            ..established
        };
        add("established-bursts-of-one", single);
        add("new", new);
        add("refused-no-endpoint", flood.clone());
        let full = Options {
            flood: Flood::TableFull,
            ..flood
        };
        add("refused-table-full", full);
    }
    scenarios
}

fn count() -> Result<BTreeMap<String, f64>, Error> {
    let mut counted = BTreeMap::new();
    for (name, options) in scenarios() {
        super::progress(&name);
        let measured = callgrind::measure(&Plan::new(&options)?)?;
        let instructions = measured.instructions.unwrap_or(0.0);
        if instructions < 1.0 {
            return Err(Error::Run(format!(
                "{name}: valgrind counted nothing: was the function it looks for renamed?"
            )));
        }
        counted.insert(name, (instructions * 10.0).round() / 10.0);
    }
    Ok(counted)
}

/// A sentence for each scenario that the gate does not let pass.
fn refused(recorded: &BTreeMap<String, f64>, counted: &BTreeMap<String, f64>) -> Vec<String> {
    counted
        .iter()
        .filter_map(|(name, now)| match recorded.get(name) {
            None => Some(format!("{name} is not recorded ({now:.1} now)")),
            Some(before) if *now > before * (1.0 + TOLERANCE_PERCENT / 100.0) => Some(format!(
                "{name} {now:.1}, recorded {before:.1} ({:+.1} %)",
                percent(*before, *now)
            )),
            Some(_) => None,
        })
        .collect()
}

fn changed(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
) -> BTreeMap<String, (Option<f64>, f64)> {
    let pairs = after
        .iter()
        .map(|(name, now)| (name.clone(), (before.get(name).copied(), *now)));
    pairs
        .filter(|(_, (before, now))| *before != Some(*now))
        .collect()
}

fn show(recorded: &BTreeMap<String, f64>, counted: &BTreeMap<String, f64>, json: bool) {
    for (name, now) in counted {
        let before = recorded.get(name).copied();
        if json {
            let line = serde_json::json!({
                "scenario": name, "instructions_per_packet": now, "recorded": before,
            });
            println!("{line}");
            continue;
        }
        let against = before.map_or_else(
            || "not recorded".to_owned(),
            |before| format!("recorded {before:>8.1}  {:+.1} %", percent(before, *now)),
        );
        println!("{name:<32} {now:>8.1}  {against}");
    }
}

fn percent(before: f64, now: f64) -> f64 {
    (now / before - 1.0) * 100.0
}

fn read(path: &Path) -> Result<Recorded, Error> {
    let text = fs::read_to_string(path).map_err(|error| failed("read", path, &error))?;
    serde_json::from_str(&text).map_err(|error| failed("understood", path, &error))
}

fn failed(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Run(format!(
        "the record {} cannot be {what}: {error}",
        path.display()
    ))
}

/// The compiler that cargo would take here, which is the one this program was made with unless it was changed
/// since.
fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn three_per_cent_more_passes_and_what_is_beyond_or_unrecorded_does_not() {
        let recorded = of(&[("a", 100.0), ("b", 100.0), ("gone", 1.0)]);
        assert!(refused(&recorded, &of(&[("a", 103.0), ("b", 50.0)])).is_empty());
        let found = refused(&recorded, &of(&[("a", 103.1), ("b", 100.0), ("c", 1.0)]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("a 103.1, recorded 100.0"));
        assert!(found[1].starts_with("c is not recorded"));
    }

    #[test]
    fn an_update_keeps_what_was_there_before() {
        let changed = changed(
            &of(&[("a", 1.0), ("b", 2.0)]),
            &of(&[("a", 1.0), ("b", 3.0), ("c", 4.0)]),
        );
        assert_eq!(
            changed.into_iter().collect::<Vec<_>>(),
            [
                ("b".to_owned(), (Some(2.0), 3.0)),
                ("c".to_owned(), (None, 4.0))
            ]
        );
    }

    #[test]
    fn every_scenario_of_the_gate_is_possible_and_has_a_name_of_its_own() {
        let scenarios = scenarios();
        let names: std::collections::BTreeSet<_> = scenarios.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), scenarios.len());
        for (name, options) in &scenarios {
            assert!(Plan::new(options).is_ok(), "{name}");
        }
    }
}
