//! The conformance vectors: for each case under `ci/vectors` the verdicts of `portgate explain`.
//!
//! A case is a folder with a configuration, the cluster's objects, packets, and the answers that
//! Kubernetes' rules ask for. Compared are the verdict, the service where the case names one, and
//! for translated packets the set of endpoints and whether the source is masqueraded.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ci::gateway;
use serde_json::Value;

#[test]
fn every_packet_of_every_case_gets_the_expected_answer() {
    let cases = cases();
    assert!(!cases.is_empty(), "there are no cases");
    let failures: Vec<_> = cases.iter().flat_map(|case| run(case)).collect();
    assert!(
        failures.is_empty(),
        "{} answers are wrong:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn a_wrong_answer_is_told_from_a_right_one() {
    let text = r#"{"id":"a","verdict":"translate","service":"x/y",
        "endpoints":["10.0.0.1:80","[fd00::1]:80"],"masquerade":true}"#;
    let want: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(differs(&want, &want), None);

    let with = |key: &str, value: Value| {
        let mut got = want.clone();
        got[key] = value;
        got
    };
    let other_order = with(
        "endpoints",
        ["[fd00:0::1]:80", "10.0.0.1:80"].as_slice().into(),
    );
    assert_eq!(differs(&want, &other_order), None);
    let doubled = ["10.0.0.1:80", "10.0.0.1:80", "[fd00::1]:80"];
    for (key, value) in [
        ("id", "b".into()),
        ("verdict", "reject".into()),
        ("service", "x/z".into()),
        ("endpoints", ["10.0.0.1:80"].as_slice().into()),
        ("endpoints", doubled.as_slice().into()),
        ("endpoints", Value::Null),
        ("masquerade", false.into()),
    ] {
        let got = with(key, value);
        assert!(differs(&want, &got).is_some(), "{got} passes for {want}");
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let entries = fs::read_dir(&folder).expect("ci/vectors is there");
    let mut cases: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    cases.retain(|path| path.join("expect.jsonl").is_file());
    cases.sort();
    cases
}

/// One line for each wrong answer of a case.
fn run(case: &Path) -> Vec<String> {
    let name = case.file_name().unwrap_or_default().to_string_lossy();
    let path = |file: &str| case.join(file).to_string_lossy().into_owned();
    let (config, packets, folder) = (path("config.toml"), path("packets.jsonl"), path(""));
    let output = gateway::run_here(
        "portgate",
        &[
            "explain",
            "--config",
            &config,
            "--manifests",
            &folder,
            "--packets",
            &packets,
        ],
    );
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return vec![format!("{name}: {}: {}", output.status, said.trim())];
    }
    let answers = lines(&String::from_utf8_lossy(&output.stdout));
    let wanted = lines(&fs::read_to_string(path("expect.jsonl")).expect("a case is readable"));
    if answers.len() != wanted.len() {
        return vec![format!(
            "{name}: {} answers to {} packets",
            answers.len(),
            wanted.len()
        )];
    }
    let compare = |(want, got): (&Value, &Value)| {
        differs(want, got).map(|what| format!("{name}: {what}: expected {want}, got {got}"))
    };
    wanted.iter().zip(&answers).filter_map(compare).collect()
}

/// One JSON value a line; `null` for a line that is none.
fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap_or(Value::Null))
        .collect()
}

/// What in `got` does not meet `want`.
fn differs(want: &Value, got: &Value) -> Option<&'static str> {
    if got["id"] != want["id"] {
        return Some("id");
    }
    if got["verdict"] != want["verdict"] {
        return Some("verdict");
    }
    if want["service"].is_string() && got["service"] != want["service"] {
        return Some("service");
    }
    if want["verdict"] != "translate" {
        return None;
    }
    if endpoints(want).is_none() || endpoints(got) != endpoints(want) {
        return Some("endpoints");
    }
    (got["masquerade"] != want["masquerade"]).then_some("masquerade")
}

/// The endpoints as a set; `None` if one is no socket address, or listed twice.
fn endpoints(answer: &Value) -> Option<BTreeSet<SocketAddr>> {
    let list = answer["endpoints"].as_array()?;
    let parse = |item: &Value| item.as_str()?.parse().ok();
    let set = list.iter().map(parse).collect::<Option<BTreeSet<_>>>()?;
    (set.len() == list.len()).then_some(set)
}
