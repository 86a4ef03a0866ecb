//! DPDK's `dpdk-testpmd`, headless, on a net_ring of its own.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Bursts of 32 that go round: as many as a net_ring of 1,024 holds.
const BURSTS: u32 = 31;

/// MiB of memory that it is given.
pub const MEMORY_MB: u64 = 64;

/// Nanoseconds a packet in forwarding mode `mode` (`5tswap`, `csum`), of frames of `size` bytes.
///
/// # Errors
///
/// A sentence why there is no figure: not installed, or its output not understood.
pub fn measure(mode: &str, cpu: usize, size: usize, huge_pages: bool) -> Result<f64, String> {
    let memory: &[&str] = if huge_pages {
        &["--in-memory", "--single-file-segments"]
    } else {
        &["--no-huge", "--no-shconf"]
    };
    let prefix = format!("--file-prefix=perf-testpmd-{}", std::process::id());
    let lcores = format!("--lcores=0@0,1@{cpu}");
    let sizes = format!("--txpkts={size}");
    let forward = format!("--forward-mode={mode}");
    let mut child = Command::new("dpdk-testpmd")
        .args(memory)
        .args(["-m", &MEMORY_MB.to_string()])
        .args(["--no-pci", "--no-telemetry", "--vdev=net_ring0"])
        .args([&lcores, "--log-level=error", &prefix])
        .args([
            "--",
            "-i",
            "--nb-cores=1",
            "--burst=32",
            "--port-topology=loop",
        ])
        .args(["--total-num-mbufs=4096", "--no-flush-rx", &sizes, &forward])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("dpdk-testpmd (Debian: dpdk-dev) cannot be run: {error}"))?;
    let mut input = child.stdin.take();
    let mut say = |command: &str| {
        if let Some(input) = &mut input {
            // If it is gone, its output will tell.
            let _ = writeln!(input, "{command}");
        }
    };
    say(&format!("start tx_first {BURSTS}"));
    thread::sleep(Duration::from_millis(500));
    // The rate shown is that since the command was last given.
    for _ in 0..4 {
        say("show port stats 0");
        thread::sleep(Duration::from_millis(300));
    }
    say("stop");
    say("quit");
    drop(input);
    let output = child
        .wait_with_output()
        .map_err(|error| format!("dpdk-testpmd: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| {
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        format!(
            "dpdk-testpmd gave no rate ({}); its last line: {}",
            output.status,
            last.unwrap_or("none")
        )
    })
}

/// From the best of the rates shown, but the first, which counts from the start.
fn parse(text: &str) -> Option<f64> {
    let rates = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Rx-pps:"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    let best = rates.skip(1).fold(0.0, f64::max);
    (best > 0.0).then(|| 1e9 / best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rate_after_the_first_counts() {
        let text = "\
  Throughput (since last show)
  Rx-pps:    900000000          Rx-bps:            0
  Rx-pps:    100000000          Rx-bps:            0
  Rx-pps:    125000000          Rx-bps:            0
";
        assert_eq!(parse(text), Some(8.0));
        assert_eq!(parse("  Rx-pps:            0"), None);
    }
}
