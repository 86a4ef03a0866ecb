//! Where and on what a measurement was made, and how busy that machine was.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine and the source that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub host: String,
    /// Commit of the work tree this was run in, `-dirty` if changed since; empty if unknown.
    pub commit: String,
    /// Model name of the processor.
    pub cpu: String,
    /// Processors that Linux sees.
    pub cpus: usize,
    /// Kernel release.
    pub kernel: String,
    /// Seconds since 1970.
    pub time: u64,
}

impl Host {
    /// This machine, now.
    #[must_use]
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models: Vec<&str> = cpuinfo
            .lines()
            .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map(|(_, model)| model)
            .collect();
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            host: word("/proc/sys/kernel/hostname"),
            commit: commit(),
            cpu: models.first().map_or_else(String::new, ToString::to_string),
            cpus: models.len(),
            kernel: word("/proc/sys/kernel/osrelease"),
            time: since.map_or(0, |since| since.as_secs()),
        }
    }
}

fn word(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return String::new();
    };
    // What is measured lies in these folders; a record being written is no change of the source.
    let paths = [
        "status",
        "--porcelain",
        "--",
        ":/dataplane",
        ":/hugepages",
        ":/perf/src",
    ];
    match git(&paths) {
        Some(changes) if changes.is_empty() => head,
        _ => head + "-dirty",
    }
}

/// How busy the machine was between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Load average over a minute, at the end.
    pub load_1m: f64,
    /// Per cent of all processors' time that was not idle.
    pub busy_percent: f64,
    /// Per cent of all processors' time that the hypervisor gave to others.
    pub steal_percent: f64,
}

/// The start of a period whose load is wanted.
#[derive(Debug, Clone)]
pub struct LoadSince {
    ticks: Vec<u64>,
}

impl LoadSince {
    /// The period begins.
    #[must_use]
    pub fn now() -> Self {
        Self { ticks: ticks() }
    }

    /// What it was until now; all 0 where /proc does not tell.
    #[must_use]
    pub fn load(&self) -> Load {
        let average = word("/proc/loadavg");
        let average = average.split(' ').next().and_then(|text| text.parse().ok());
        let spent: Vec<u64> = self
            .ticks
            .iter()
            .zip(ticks())
            .map(|(before, after)| after.saturating_sub(*before))
            .collect();
        // proc(5): user nice system idle iowait irq softirq steal; guest time is in user time.
        let all = spent.iter().take(8).sum::<u64>().max(1) as f64;
        let of = |at: usize| spent.get(at).copied().unwrap_or(0) as f64;
        Load {
            load_1m: average.unwrap_or(0.0),
            busy_percent: tenth((all - of(3) - of(4)) / all * 100.0),
            steal_percent: tenth(of(7) / all * 100.0),
        }
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn ticks() -> Vec<u64> {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    line.split_whitespace()
        .skip(1)
        .filter_map(|text| text.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_period_shows() {
        let since = LoadSince::now();
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 100 {
            std::hint::spin_loop();
        }
        let load = since.load();
        assert!(
            load.busy_percent > 10.0 && load.busy_percent <= 100.0,
            "{load:?}"
        );
        assert!((0.0..=100.0).contains(&load.steal_percent), "{load:?}");
    }
}
