//! `perf controlplane` as a program, with small clusters: no root, no DPDK, no time asserted.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

fn perf(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_perf"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    records.collect()
}

const SMALL: &str =
    "--changes 12 --changes-large 3 --turns 3 --quiet 20 --flows 500 --capacity 65536";

#[test]
fn changes_reach_a_worker_that_carries_every_frame() {
    let output = perf(&format!(
        "controlplane --json --sizes 3x10,30x10,1x1500 {SMALL}"
    ));
    let records = lines(&output);
    assert_eq!(records.len(), 3);
    for (record, (services, endpoints, changes)) in
        records
            .iter()
            .zip([(3, 10, 12), (30, 10, 12), (1, 1500, 3)])
    {
        assert_eq!(record["verb"], "controlplane");
        assert_eq!(record["services"], services);
        assert_eq!(record["endpoints"], endpoints);
        assert_eq!(record["change"]["count"], changes);
        assert_eq!(record["flows"], 500);
        let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_u64).unwrap();
        // Networks, routes, and of each service at least a set, itself and two frontends.
        assert!(number("/objects") > 4 * services, "{record}");
        assert!(number("/carried/frames") > 0);
        assert_eq!(number("/carried/missed"), 0, "{record}");
        assert!(number("/list/reading") <= number("/list/seen"));
        assert!(number("/list/seen") <= number("/list/met"));
        assert!(number("/change/seen/p50") <= number("/change/seen/max"));
        assert_eq!(record["change"].get("met").is_some(), endpoints <= 1000);
        for process in ["memory_control_plane", "memory_data_plane"] {
            assert!(number(&format!("/{process}/own")) > 1 << 20);
            assert!(number(&format!("/{process}/region")) > 0);
        }
        let asked = if endpoints <= 1000 { 3 } else { 1 };
        assert_eq!(record["asked"].as_array().unwrap().len(), asked);
        for key in ["host", "commit", "seed", "load_1m"] {
            assert!(record.get(key).is_some(), "{key}");
        }
    }
    assert!(records[1]["growth"]["list"].as_f64().unwrap() > 0.0);
    assert!(records[0].get("growth").is_none() && records[2].get("growth").is_none());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.jsonl");
    std::fs::write(&path, &output.stdout).unwrap();
    let report = perf(&format!("report {}", path.display()));
    let page = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(page.contains("| 30 × 10 |"), "{page}");
}

#[test]
fn people_get_a_table_with_what_was_asked_for() {
    let output = perf(&format!("controlplane --sizes 2x3 {SMALL}"));
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "2 services × 3 endpoints",
        "first list",
        "p99",
        "asked for < 5 ms",
        "missed",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn wrong_use_exits_with_2_and_names_the_option() {
    for (arguments, named) in [
        ("controlplane --sizes 10", "--sizes"),
        ("controlplane --sizes 0x5", "--sizes"),
        ("controlplane --changes 2 --turns 3", "--changes"),
        ("controlplane --flows 5000 --capacity 4096", "--flows"),
    ] {
        let output = perf(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains(named), "{errors}");
        assert!(output.stdout.is_empty());
    }
}
