//! `capsule-lab echo` in namespaces: alone on a wire, and as the endpoint of a Service behind the gateway.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use ci::dial;
use ci::netns::{Namespace, Offloads, connect, require_root};
use ci::process::Process;
use ci::topology::{self, ECHO_NODE_PORT, OUTSIDE, Plan, Topology};

/// How long the machine may take to start the server, or to answer, when others work on it.
const PATIENCE: Duration = Duration::from_secs(30);

const QUESTIONS: u32 = 200;

fn echo(
    namespace: &Namespace,
    interface: &str,
    address: IpAddr,
    logs: &std::path::Path,
) -> Process {
    let mut command: Command = namespace.command(env!("CARGO_BIN_EXE_capsule-lab"));
    command.args([
        "echo",
        "--interface",
        interface,
        "--address",
        &address.to_string(),
    ]);
    let mut process = Process::start("capsule-lab", command, logs);
    process.wait_for_line("capsule-lab echo ready", PATIENCE);
    process
}

/// Asks until each question was answered; a datagram may be lost while neighbours are found.
fn ask(namespace: &Namespace, to: SocketAddr) {
    let any = (IpAddr::from([0, 0, 0, 0]), 0).into();
    let socket = dial::udp(namespace, any, to, Duration::from_secs(2)).expect("a socket");
    let mut again = 0;
    for number in 0..QUESTIONS {
        let question = [&number.to_be_bytes()[..], &vec![b'x'; number as usize * 7]].concat();
        while dial::ask(&socket, &question).ok().as_ref() != Some(&question) {
            again += 1;
            assert!(again < 10, "{to} does not answer question {number}");
        }
    }
}

#[test]
fn a_client_on_the_same_wire_is_answered_at_any_port() {
    require_root();
    let (client, server) = (Namespace::new("client"), Namespace::new("server"));
    server.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
    connect((&client, "eth0"), (&server, "eth0"), Offloads::Off);
    client.add_address("eth0", [10, 0, 0, 1].into(), 24);
    let logs = tempfile::tempdir().expect("a temporary directory");
    let mut process = echo(&server, "eth0", [10, 0, 0, 2].into(), logs.path());
    for port in [7, 40_000] {
        ask(&client, (IpAddr::from([10, 0, 0, 2]), port).into());
    }
    let status = process.stop();
    assert!(status.success(), "it ends in order: {status}");
}

#[test]
fn it_serves_as_an_endpoint_behind_the_gateway() {
    require_root();
    let topology = Topology::new(Plan {
        pods: &[2],
        ..Plan::default()
    });
    let pod = topology.pod(0);
    let [address, _] = topology.pod_addresses(0);
    // From now on the address is capsule's, not the kernel's.
    pod.ip("address flush dev eth0");
    pod.sysctl("net.ipv6.conf.eth0.disable_ipv6", "1");
    topology.apply(&[0]);
    let gateway = topology.start_gateway();
    let _process = echo(pod, "eth0", address, topology.directory());
    ask(&topology.client, (OUTSIDE[0], ECHO_NODE_PORT).into());
    assert_eq!(gateway.counters().total("flows_created"), 1);
    let _ = topology::ECHO;
}
