//! Logs: text or JSON, each start-up step and each refusal, and never more than a disk can take.

use std::fs;
use std::time::Duration;

use ci::gateway::{self, Gateway};
use ci::topology::{HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, wait};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A line of a log, if it is JSON.
fn event(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

#[test]
fn every_line_of_both_programs_is_json_if_that_is_set_and_says_what_was_done() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    let broken = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "crooked", "namespace": "default"},
        "spec": {"clusterIP": "100.68.1.999", "ports": [{"port": 80, "protocol": "TCP"}]},
    });
    net.manifests.write("crooked.json", &broken.to_string());
    let text = net.configuration() + "[log]\nformat = \"json\"\n";
    let mut gateway = Gateway::start(&net.gateway, &text, net.directory());
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
    gateway.controlplane.stop();
    gateway.dataplane.stop();

    let all = [gateway.dataplane.log(), gateway.controlplane.log()];
    for line in all.iter().flat_map(|log| log.lines()) {
        let event = event(line).unwrap_or_else(|| panic!("no JSON: {line:?}"));
        for key in ["timestamp", "level", "message", "target"] {
            let value = event[key].as_str().unwrap_or_default();
            assert!(!value.is_empty(), "no {key} in {line}");
        }
    }
    let says = |log: &str, parts: &[&str]| {
        let found = log
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "no line with {parts:?} in {log}");
    };
    let [dataplane, controlplane] = &all;
    // Each step of a start, in both programs.
    for parts in [
        &["starting", "version"][..],
        &["af_packet:outside"],
        &["af_packet:pods"],
        &["capabilities"],
        &["ended"],
    ] {
        says(dataplane, parts);
    }
    for parts in [
        &["starting", "version"][..],
        &["answering", "127.0.0.1:9102"],
        &["following", "manifests"],
        &["listed", "Service"],
        &["attached to the region"],
        // What is refused: which, which field, its value, and the rule.
        &[
            "WARN",
            "default/crooked",
            "spec.clusterIP",
            "100.68.1.999",
            "must be",
        ],
        &["SIGTERM"],
    ] {
        says(controlplane, parts);
    }
}

#[test]
fn text_is_for_people_and_the_level_is_a_setting() {
    for (level, kinds) in [
        ("info", ["INFO"].as_slice()),
        ("debug", &["INFO", "DEBUG"]),
        ("error", &[]),
    ] {
        let net = Topology::new(Plan::default());
        net.apply(&[0]);
        let text = format!("{}[log]\nlevel = \"{level}\"\n", net.configuration());
        let gateway = Gateway::start(&net.gateway, &text, net.directory());
        let log = gateway.controlplane.log();
        assert!(log.lines().all(|line| event(line).is_none()), "{log}");
        assert!(!log.contains('\u{1b}'), "colours in a file: {log}");
        for kind in ["INFO", "DEBUG"] {
            let written = log.contains(&format!(" {kind} "));
            assert_eq!(
                written,
                kinds.contains(&kind),
                "{kind} at level {level}: {log}"
            );
        }
    }
}

#[test]
fn a_storm_of_warnings_is_held_back_counted_and_told() {
    let net = Topology::new(Plan::default());
    net.apply(&[0]);
    for number in 0..1_000 {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("crooked-{number}"), "namespace": "default"},
            "spec": {"clusterIP": "100.68.1.999", "ports": [{"port": 80}]},
        });
        net.manifests
            .write(&format!("crooked-{number}.json"), &service.to_string());
    }
    let gateway = net.start_gateway();
    let told = gateway
        .controlplane
        .wait_for_log(&["WARN", "held back"], PATIENCE);
    assert!(told.contains("lines="), "{told}");
    let log = gateway.controlplane.log();
    let written = log.lines().filter(|line| line.contains("crooked-")).count();
    assert!((200..400).contains(&written), "{written} of 1000 warnings");
    let metrics = curl::get(&net.gateway, "http://127.0.0.1:9102/metrics").expect("metrics");
    let value = |name: &str| -> u64 {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {name}"))
    };
    assert!(value("portgate_controlplane_log_lines_held_back_total") >= 600);
    assert!(value("portgate_controlplane_skipped_total") >= 1_000);
}

#[test]
fn a_refused_start_says_which_setting_and_what_to_do() {
    let net = Topology::new(Plan::default());
    net.apply(&[0]);
    let gateway = net.start_gateway();
    let path = gateway.configuration().to_string_lossy().into_owned();
    let second = gateway::run(&net.gateway, "portgate-controlplane", &["--config", &path]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    for part in ["metrics.listen", "127.0.0.1:9102", "name another"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let other = fs::read_to_string(&path).expect("the configuration");
    let other = other.replace("path = \"/dev/shm", "path = \"/dev/shm/portgate-none");
    let file = net.directory().join("other.toml");
    fs::write(&file, other.replace("9102", "9104")).expect("written");
    let lost = gateway.controlplane_with(&file);
    let line = lost.wait_for_log(&["not attached", "region.path"], PATIENCE);
    assert!(line.contains("portgate-dataplane"), "{line}");
    wait::until("it goes on", PATIENCE, || {
        let answer = curl::get(&net.gateway, "http://127.0.0.1:9104/livez").ok()?;
        answer.contains("ok").then_some(())
    });
}
