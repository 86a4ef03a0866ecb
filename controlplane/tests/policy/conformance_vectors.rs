//! Every conformance case, judged by the objects that the policy layer makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::evaluator::{Evaluator, Packet, Verdict};
use hugepages::object::Protocol;
use portgate_controlplane::Warning;
use serde_json::Value;

#[test]
fn every_packet_of_every_case_gets_its_verdict() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/vectors");
    let mut failures = Vec::new();
    let mut packets = 0;
    let mut names: Vec<_> = fs::read_dir(&cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("expect.jsonl").is_file())
        .collect();
    names.sort();
    for case in &names {
        packets += run(case, &mut failures);
    }
    assert!(names.len() >= 54 && packets >= 575, "cases are missing");
    assert!(
        failures.is_empty(),
        "{} of {packets} packets:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn run(case: &Path, failures: &mut Vec<String>) -> usize {
    let settings = match settings::load(&case.join("config.toml")) {
        Ok(settings) => settings,
        Err(error) => {
            failures.push(error.to_string());
            return 0;
        }
    };
    let report = portgate_controlplane::load_dir(case).unwrap();
    // Nothing in a case is against the rules, but for slices that belong to nobody.
    let odd = |warning: &&Warning| {
        !warning
            .message
            .contains("kubernetes.io/service-name is missing")
    };
    let odd: Vec<_> = report.warnings.iter().filter(odd).collect();
    assert!(odd.is_empty(), "{}: {odd:?}", case.display());
    let objects = portgate_controlplane::desired_state(&settings.gateway, report.objects);
    for object in &objects {
        hugepages::codec::validate(object).unwrap();
    }
    let evaluator = Evaluator::new(objects);
    let packets = lines(&case.join("packets.jsonl"));
    let expected = lines(&case.join("expect.jsonl"));
    assert_eq!(packets.len(), expected.len(), "{}", case.display());
    for (packet, expected) in packets.iter().zip(&expected) {
        let got = describe(&evaluator.judge(parse(packet)));
        if !agrees(expected, &got) {
            failures.push(format!("{packet}\n  expected {expected}\n  got {got}"));
        }
    }
    packets.len()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let filled = text.lines().filter(|line| !line.trim().is_empty());
    filled
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn parse(packet: &Value) -> Packet {
    let end = |key: &str| -> SocketAddr { packet[key].as_str().unwrap().parse().unwrap() };
    Packet {
        protocol: match packet["protocol"].as_str().unwrap() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => panic!("protocol {other}"),
        },
        from: end("from"),
        to: end("to"),
    }
}

fn describe(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Translate {
            service,
            endpoints,
            masquerade,
        } => serde_json::json!({
            "verdict": "translate",
            "service": service,
            "endpoints": endpoints
                .iter()
                .map(|backend| SocketAddr::from((backend.address, backend.port)).to_string())
                .collect::<Vec<_>>(),
            "masquerade": masquerade,
        }),
        Verdict::Reject(service) => serde_json::json!({"verdict": "reject", "service": service}),
        Verdict::Drop(service) => serde_json::json!({"verdict": "drop", "service": service}),
        Verdict::Pass => serde_json::json!({"verdict": "pass"}),
    }
}

fn agrees(expected: &Value, got: &Value) -> bool {
    let same = |key: &str| expected.get(key).is_none_or(|value| *value == got[key]);
    let set = |value: &Value| -> BTreeSet<String> {
        let items = value["endpoints"].as_array().into_iter().flatten();
        items
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    same("verdict") && same("service") && same("masquerade") && set(expected) == set(got)
}
