//! Programs that print records: run, waited for, read.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Error;

/// Runs this program itself with these arguments: DPDK starts once in each process.
///
/// # Errors
///
/// As [`records`].
pub fn own_records(arguments: &str, patience: Duration) -> Result<Vec<Value>, Error> {
    let program = std::env::current_exe().map_err(|error| Error::Run(error.to_string()))?;
    records(&program, arguments, patience)
}

/// Runs `program` with these arguments, separated by spaces, and reads the JSON lines that it prints. What it says it
/// skipped is passed on.
///
/// # Errors
///
/// [`Error::Run`] with its last words, or that it took longer than `patience`; then it is told to end.
pub fn records(program: &Path, arguments: &str, patience: Duration) -> Result<Vec<Value>, Error> {
    let fail = |error: std::io::Error| Error::Run(error.to_string());
    let (output, errors) = (
        tempfile::NamedTempFile::new(),
        tempfile::NamedTempFile::new(),
    );
    let (output, errors) = (output.map_err(fail)?, errors.map_err(fail)?);
    let mut child = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .stdout(output.reopen().map_err(fail)?)
        .stderr(errors.reopen().map_err(fail)?)
        .spawn()
        .map_err(|error| Error::Run(format!("{} cannot be run: {error}", program.display())))?;
    let start = Instant::now();
    let mut is_late = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(fail)? {
            break status;
        }
        if !is_late && start.elapsed() > patience {
            is_late = true;
            // It takes down what it has set up, and ends.
            let pid = Pid::from_raw(child.id().cast_signed());
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        }
        thread::sleep(Duration::from_millis(20));
    };
    if is_late {
        let seconds = patience.as_secs();
        return Err(Error::Run(format!("it took more than {seconds} seconds")));
    }
    let text = fs::read_to_string(errors.path()).map_err(fail)?;
    for line in text.lines().filter(|line| line.contains("SKIPPED")) {
        eprintln!("{line}");
    }
    if !status.success() {
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        return Err(Error::Run(last.unwrap_or("no reason given").to_owned()));
    }
    let text = fs::read_to_string(output.path()).map_err(fail)?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|error| Error::Run(error.to_string())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Result<Vec<Value>, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), script).unwrap();
        let arguments = file.path().display().to_string();
        records(Path::new("/bin/sh"), &arguments, patience)
    }

    #[test]
    fn lines_are_read_and_a_failure_is_quoted() {
        let lines = shell("echo '{\"a\":1}'; echo '[2]'", Duration::MAX).unwrap();
        assert_eq!(lines, [serde_json::json!({"a": 1}), serde_json::json!([2])]);
        let failed = shell("echo first >&2; echo last >&2; exit 3", Duration::MAX);
        assert_eq!(failed.unwrap_err().to_string(), "last");
    }

    #[test]
    fn who_takes_too_long_is_told_to_end() {
        let late = shell("exec sleep 60", Duration::from_millis(50));
        assert!(late.unwrap_err().to_string().contains("more than"));
    }
}
