//! Wrong configuration, wrong manifests, wrong devices: said in one sentence, and no more harm.

use std::fs;
use std::time::Duration;

use ci::netns::{Namespace, Offloads};
use ci::topology::{HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, gateway, wait};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_wrong_configuration_ends_both_processes_with_status_2_and_one_sentence() {
    let net = Topology::new(Plan::default());
    let good = net.configuration();
    let file = net.directory().join("wrong.toml");
    let path = file.to_string_lossy();
    let cases: [(&str, &str, &[&str]); 6] = [
        ("flows = 65536", "flwos = 65536", &["flwos"]),
        (
            "huge_pages = \"off\"",
            "huge_pages = \"never\"",
            &["huge_pages", "never"],
        ),
        ("203.0.113.10/24", "203.0.113.10/99", &["203.0.113.10/99"]),
        (
            "af_packet:outside",
            "af_pocket:outside",
            &["af_pocket:outside"],
        ),
        (
            "kind = \"manifests\"",
            "kind = \"manuscripts\"",
            &["kind", "manuscripts"],
        ),
        ("mode = \"edge\"", "mode = \"egde\"", &["mode", "egde"]),
    ];
    for program in ["portgate-dataplane", "portgate-controlplane"] {
        for (right, wrong, words) in cases {
            assert!(good.contains(right), "the case {right:?} changes nothing");
            fs::write(&file, good.replace(right, wrong)).expect("the file is written");
            for arguments in [&["--config", &path][..], &["--config", &path, "--check"]] {
                expect_refusal(&net.gateway, program, arguments, words);
            }
        }
        expect_refusal(
            &net.gateway,
            program,
            &["--config", "/nonexistent.toml"],
            &["/nonexistent.toml"],
        );
        expect_refusal(&net.gateway, program, &["--confog", "x"], &["--confog"]);

        fs::write(&file, &good).expect("the file is written");
        let checked = gateway::run(&net.gateway, program, &["--config", &path, "--check"]);
        assert!(
            checked.status.success(),
            "{program} --check refuses a right configuration"
        );
    }
}

#[test]
fn a_device_that_does_not_exist_is_named() {
    let net = Topology::new(Plan::default());
    let file = net.directory().join("wrong.toml");
    let text = net
        .configuration()
        .replace("af_packet:outside", "af_packet:nosuch0");
    fs::write(&file, text).expect("the file is written");
    expect_refusal(
        &net.gateway,
        "portgate-dataplane",
        &["--config", &file.to_string_lossy()],
        &["nosuch0"],
    );
}

#[test]
fn an_mtu_that_the_device_has_not_is_refused_with_the_one_that_it_has() {
    let net = Topology::new(Plan::default());
    let file = net.directory().join("jumbo.toml");
    let text = net
        .configuration()
        .replace("\"af_packet:pods\"", "\"af_packet:pods\"\nmtu = 1600");
    fs::write(&file, text).expect("the file is written");
    expect_refusal(
        &net.gateway,
        "portgate-dataplane",
        &["--config", &file.to_string_lossy()],
        &[
            "link pods: mtu is 1600, and af_packet:pods has at most 1500: set links.mtu to 1500, or the interface's own MTU \
             to 1600",
        ],
    );
}

#[test]
fn a_file_that_is_no_region_is_refused_by_name_and_left_alone() {
    let net = Topology::new(Plan::default());
    let foreign = net.directory().join("letter");
    fs::write(&foreign, "Dear diary").expect("the file is written");
    let text = net.configuration();
    let own = text
        .lines()
        .find(|line| line.starts_with("path ="))
        .expect("a region path");
    let file = net.directory().join("wrong.toml");
    let text = text.replace(own, &format!("path = \"{}\"", foreign.display()));
    fs::write(&file, text).expect("the file is written");
    let path = file.to_string_lossy();
    let output = gateway::run(&net.gateway, "portgate-dataplane", &["--config", &path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&*foreign.to_string_lossy()), "{said}");
    assert_eq!(
        fs::read_to_string(&foreign).expect("still there"),
        "Dear diary"
    );
}

#[test]
fn a_manifest_that_cannot_be_understood_is_skipped_with_a_warning() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    net.manifests
        .write("broken.yaml", "kind: [this is\n no: manifest");
    let gateway = net.start_gateway();
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
    gateway
        .controlplane
        .wait_for_log(&["WARN", "broken.yaml"], PATIENCE);

    // So is one that comes while everything runs, and an object with an impossible field.
    net.manifests.write("late.yaml", "}{");
    gateway
        .controlplane
        .wait_for_log(&["WARN", "late.yaml"], PATIENCE);
    let object = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"crooked",
        "namespace":"default"},"spec":{"clusterIP":"100.68.1.999","clusterIPs":["100.68.1.999"],
        "ports":[{"port":80,"protocol":"TCP"}]}}"#;
    net.manifests.write("crooked.json", object);
    gateway
        .controlplane
        .wait_for_log(&["WARN", "crooked"], PATIENCE);
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
}

#[test]
fn a_sender_with_offloads_is_reported_by_interface() {
    let net = Topology::new(Plan {
        offloads: Offloads::Kernel,
        ..Plan::default()
    });
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    let gateway = net.start_gateway();
    // The first segment of the connection has an unfinished checksum; what becomes of the
    // connection is not the point.
    wait::until("the data plane names the interface", PATIENCE, || {
        let _ = curl::get(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT));
        let log = gateway.dataplane.log();
        let named = |line: &str| {
            line.contains("WARN") && line.contains("outside") && line.contains("checksum")
        };
        log.lines().any(named).then_some(())
    });
}

/// Runs a program that must refuse: status 2, and a short message with these words.
fn expect_refusal(namespace: &Namespace, program: &str, arguments: &[&str], words: &[&str]) {
    let output = gateway::run(namespace, program, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("{program} {arguments:?} said: {said}");
    assert_eq!(output.status.code(), Some(2), "{what}");
    assert!(
        words.iter().all(|word| said.contains(word)),
        "{words:?} should be in it: {what}"
    );
    let lines = said.lines().filter(|line| !line.trim().is_empty());
    assert!(lines.count() <= 4, "one sentence would do: {what}");
}

#[test]
fn an_interface_that_the_kernel_answers_for_too_is_named() {
    let net = Topology::new(Plan::default());
    net.gateway.add_address("outside", OUTSIDE[0], 24);
    net.apply(&[0]);
    let gateway = net.start_gateway();
    let line = gateway.dataplane.wait_for_log(
        &["WARN", "link outside", "addresses in the kernel"],
        PATIENCE,
    );
    assert!(line.contains(&OUTSIDE[0].to_string()), "{line}");
    let log = gateway.dataplane.log();
    assert!(!log.contains("link pods: pods has addresses"), "{log}");
}

#[test]
fn too_little_packet_memory_names_its_setting() {
    let net = Topology::new(Plan::default());
    let file = net.directory().join("wrong.toml");
    let text = net.configuration();
    let little = text.replace("packet_memory_mb = 64", "packet_memory_mb = 16");
    assert_ne!(text, little);
    fs::write(&file, little).expect("the file is written");
    let path = file.to_string_lossy();
    let output = gateway::run(&net.gateway, "portgate-dataplane", &["--config", &path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("region.packet_memory_mb"), "{said}");
}
