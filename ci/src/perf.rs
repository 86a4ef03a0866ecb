//! The program `perf`, run for its records.

use std::process::Command;

use serde_json::Value;

/// Runs `perf` to its end, five minutes at most: its records. `--json` is among its arguments.
///
/// # Panics
/// If it fails.
pub fn records(perf: &Command) -> Vec<Value> {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", "300"])
        .arg(perf.get_program())
        .args(perf.get_args());
    let output = command.output().expect("perf runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{perf:?} ({}): {}\n{text}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// A count of a record.
///
/// # Panics
/// If there is none of the name.
pub fn number(group: &Value, name: &str) -> u64 {
    group[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no count {name:?} in {group}"))
}
