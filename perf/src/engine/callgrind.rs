//! Instructions a packet: the program runs itself under valgrind and counts within the pipeline alone.
//!
//! The same program gives the same number on every machine: flows, seeds and frames are fixed, the flows' clock
//! stands still, nothing in the workspace is compiled for or chosen by the processor at hand, and the C library,
//! which does choose its `memcpy` so, is told to take the one for every x86-64.

use std::process::Command;

use super::measure::Measured;
use super::options::{Plan, Scenario};
use crate::Error;
use crate::record::Fates;

/// The function whose instructions count, with all that it calls.
const COUNTED: &str = "*process_burst*";

/// Forms of `memcpy` and the like that the C library must not choose (glibc's manual, "Hardware Capability
/// Tunables").
const ONE_LIBC: &str = "glibc.cpu.hwcaps=-AVX512VL,-AVX512F,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSSE3,\
     -SSE4_1,-SSE4_2,-MOVBE,-BMI1,-BMI2,-LZCNT,-POPCNT";

/// Counts instructions of the plan's scenario, in memory.
pub(super) fn measure(plan: &Plan) -> Result<Measured, Error> {
    let directory = tempfile::tempdir().map_err(|error| Error::Run(error.to_string()))?;
    let out = directory.path().join("callgrind.out");
    let program = std::env::current_exe().map_err(|error| Error::Run(error.to_string()))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(arguments(plan))
        .env("GLIBC_TUNABLES", ONE_LIBC)
        .output()
        .map_err(|error| {
            Error::Run(format!(
                "valgrind (Debian: valgrind) cannot be run: {error}"
            ))
        })?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let fail = |what: &str| Error::Run(format!("{what}; valgrind said: {errors}"));
    if !output.status.success() {
        return Err(fail("the run under valgrind failed"));
    }
    let text = std::fs::read_to_string(&out).map_err(|error| fail(&error.to_string()))?;
    let instructions = total(&text).ok_or_else(|| fail("no total"))?;
    let result: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| fail(&error.to_string()))?;
    let number = |pointer: &str| result.pointer(pointer).and_then(serde_json::Value::as_u64);
    let fates = Fates {
        frames: number("/fates/frames").unwrap_or(0),
        hits: number("/fates/hits").unwrap_or(0),
        created: number("/fates/created").unwrap_or(0),
        refused: number("/fates/refused").unwrap_or(0),
        dropped: number("/fates/dropped").unwrap_or(0),
    };
    let mut measured = Measured::new(number("/flows").unwrap_or(0) as usize);
    // Rounds before the first that counts are collected as well.
    let all = fates.frames + (super::measure::WARM_UP * plan.mbufs * plan.workers) as u64;
    measured.instructions = Some(instructions as f64 / all as f64);
    measured.fates = fates;
    Ok(measured)
}

/// The same scenario in memory, once.
fn arguments(plan: &Plan) -> Vec<String> {
    let packets = plan.packets.unwrap_or(8 * plan.mbufs as u64);
    let mut arguments = ["engine", "--json", "--still"].map(str::to_owned).to_vec();
    let options = [
        ("scenario", plan.scenario.name().to_owned()),
        ("family", plan.family.to_string()),
        ("flows", plan.flows.to_string()),
        ("capacity", plan.capacity.to_string()),
        ("workers", plan.workers.to_string()),
        ("services", plan.services.to_string()),
        ("endpoints", plan.endpoints.to_string()),
        ("frame-size", plan.frame_size.to_string()),
        ("burst", plan.burst.to_string()),
        ("mbufs", plan.mbufs.to_string()),
        ("seed", plan.seed.to_string()),
        ("packets", packets.to_string()),
        ("repeat", "1".to_owned()),
        ("link", "memory".to_owned()),
    ];
    let special = match plan.scenario {
        Scenario::Established => Some(("direction", plan.variant())),
        Scenario::Flood => Some(("flood", plan.variant())),
        Scenario::New => None,
    };
    for (name, value) in options.into_iter().chain(special) {
        arguments.extend([format!("--{name}"), value]);
    }
    arguments
}

/// The total of a callgrind file.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        line.strip_prefix("totals:")
            .or_else(|| line.strip_prefix("summary:"))
    });
    line?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        assert_eq!(
            total("version: 1\nfn=(1)\n\ntotals: 123456\n"),
            Some(123_456)
        );
        assert_eq!(total("version: 1\n"), None);
    }
}
