//! What a started data plane has left of root's powers.

use std::fs;
use std::net::SocketAddr;

use ci::crowd::Crowd;
use ci::gateway::Gateway;
use ci::process::Process;
use ci::topology::{CLIENT_V4, ECHO_NODE_PORT, OUTSIDE, Plan, Topology};

/// Values of `name` in every thread's status, as text.
fn by_thread(process: &Process, name: &str) -> Vec<String> {
    let folder = format!("/proc/{}/task", process.id());
    let threads = fs::read_dir(folder).expect("it runs").flatten();
    let value = |status: String| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    let statuses =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    statuses.filter_map(value).collect()
}

fn expect_everywhere(process: &Process, name: &str, expected: &str) {
    let values = by_thread(process, name);
    assert!(
        values.len() >= 3,
        "main core, worker and EAL's thread: {values:?}"
    );
    assert!(
        values.iter().all(|value| value == expected),
        "{name}: {values:?}"
    );
}

#[test]
fn every_thread_has_lost_its_capabilities_and_has_a_filter() {
    let net = Topology::new(Plan::default());
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let gateway = net.start_gateway();
    for name in ["CapEff", "CapPrm", "CapInh"] {
        expect_everywhere(&gateway.dataplane, name, "0000000000000000");
    }
    expect_everywhere(&gateway.dataplane, "NoNewPrivs", "1");
    expect_everywhere(&gateway.dataplane, "Seccomp", "2");
    expect_traffic(&net);
}

#[test]
fn af_xdp_keeps_what_closing_it_needs_and_leaves_no_program_behind() {
    let net = Topology::new(Plan {
        driver: "af_xdp",
        ..Plan::default()
    });
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    // CAP_BPF, CAP_NET_ADMIN.
    expect_everywhere(&gateway.dataplane, "CapEff", "0000008000001000");
    expect_everywhere(&gateway.dataplane, "Seccomp", "2");
    expect_traffic(&net);
    let status = gateway.dataplane.stop();
    assert!(status.success(), "{status}: {}", gateway.dataplane.log());
    let shown = net.gateway.ip("link show dev outside");
    assert!(
        !shown.contains("xdp"),
        "its program is still attached: {shown}"
    );
}

#[test]
fn the_filter_can_be_switched_to_logging_and_off() {
    for (value, mode) in [("log", "2"), ("off", "0")] {
        let net = Topology::new(Plan::default());
        let _echo = net.start_echo(0);
        net.apply(&[0]);
        let text = format!(
            "{}\n[dataplane]\nseccomp = \"{value}\"\n",
            net.configuration()
        );
        let gateway = Gateway::start(&net.gateway, &text, net.directory());
        expect_everywhere(&gateway.dataplane, "Seccomp", mode);
        expect_everywhere(&gateway.dataplane, "NoNewPrivs", "1");
        expect_traffic(&net);
    }
}

fn expect_traffic(net: &Topology) {
    let to = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, to, 10).expect("all open");
    crowd.exchange(0).expect("every line comes back");
}
