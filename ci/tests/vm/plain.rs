//! A gateway with NICs of one model, from a bare machine and back.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ci::dial;
use ci::topology::{CLUSTER, ECHO, ECHO_NODE_PORT, OUTSIDE, Topology};
use ci::vm::{Machine, Model};
use ci::wait;

use crate::page::{Page, follow};
use crate::serving::{
    SEEN, all_links, answers_udp, carries_long_packets, dmar_faults, forget_neighbours, links,
    publish, serves_http,
};

/// Bytes of the longest packet, once the gateway is told to carry it.
const JUMBO: u16 = 9000;

/// What the record has of one model.
pub struct Row {
    pub model: Model,
    /// From the first command of the page (of its part on the configuration, but for the first model) to the first answer
    /// through the gateway.
    pub installed: Duration,
    pub restart: Duration,
    pub whole: Duration,
    pub drivers: String,
    /// Received and sent, in the region since it was made: that of all models so far.
    pub frames: [u64; 2],
    /// Bytes of the longest packet that was carried.
    pub longest: usize,
    pub faults: usize,
}

/// Follows the page, to the letter and in full with the first model, from its part on the configuration on with others; the
/// package is taken away with the last.
pub fn serve(
    net: &Topology,
    machine: &Machine<'_>,
    model: Model,
    is_first: bool,
    is_last: bool,
) -> Row {
    let started = Instant::now();
    let faults_before = dmar_faults(machine);
    machine.plug(model);
    forget_neighbours(net);

    let page = Page::read();
    let part = if is_first {
        page.install()
    } else {
        page.after_the_package()
    };
    follow(net, machine, model, part);
    let installed = started.elapsed();
    let name = model.name();
    println!("{name}: serves {installed:?} after the first command");

    refuses_the_nic_of_the_operator(machine);
    net.apply(&[0]);
    publish(net, machine);
    serves_http(net, "pod-0\n");
    answers_udp(net, "pod-0");

    net.apply(&[1]);
    publish(net, machine);
    serves_http(net, "pod-1\n");
    answers_udp(net, "pod-1");

    if model.tells_of_the_cable() {
        shows_a_pulled_cable_and_goes_on_with_it_back(net, machine, model);
    }
    machine.run(&format!(
        "sed -i 's/^device = .*/&\\nmtu = {JUMBO}/' /etc/portgate/portgate.toml"
    ));
    let restart = keeps_connections_over_a_restart(net, machine);
    serves_http(net, "pod-1\n");
    let longest = carries_jumbo_frames(net, machine, model);

    let (drivers, frames) = links(machine);
    let faults = dmar_faults(machine) - faults_before;
    if is_last {
        follow(net, machine, model, page.away());
        leaves_nothing(machine);
    } else {
        let is_kept = |line: &&str| !line.starts_with("apt-get");
        let lines: Vec<_> = page.away().lines().filter(is_kept).collect();
        follow(net, machine, model, &lines.join("\n"));
        machine.run("rm /etc/portgate/manifests/*");
    }
    gives_the_nics_back(machine, model);
    let whole = started.elapsed();
    println!("{name}: done after {whole:?}");
    Row {
        model,
        installed,
        restart,
        whole,
        drivers,
        frames,
        longest,
        faults,
    }
}

/// With networks around it that do so, too, the gateway carries packets of the MTU that it was started with; bytes of the
/// longest.
fn carries_jumbo_frames(net: &Topology, machine: &Machine<'_>, model: Model) -> usize {
    for link in all_links(machine) {
        assert_eq!(link["mtu"], JUMBO, "{link}");
    }
    net.set_mtu(JUMBO);
    machine.set_cables_mtu(model, JUMBO);
    let longest = carries_long_packets(net, JUMBO);
    net.set_mtu(1500);
    longest
}

fn refuses_the_nic_of_the_operator(machine: &Machine<'_>) {
    let said = machine.try_run("portgate-hugepages bind 0000:00:08.0");
    let said = said.expect_err("the NIC by which the guest is reached was taken");
    assert!(
        said.starts_with("2 ") && said.contains("default route"),
        "{said}"
    );
}

/// `portgate links` says so while the cable to the clients is out, and everything goes on when it is back.
fn shows_a_pulled_cable_and_goes_on_with_it_back(
    net: &Topology,
    machine: &Machine<'_>,
    model: Model,
) {
    for up in [false, true] {
        machine.set_cable(model, up);
        wait::until(&format!("the link outside is up: {up}"), SEEN, || {
            let shown = all_links(machine);
            let outside = shown.iter().find(|link| link["name"] == "outside");
            let outside = outside.unwrap_or_else(|| panic!("no link outside in {shown:?}"));
            (outside["up"] == up).then_some(())
        });
    }
    serves_http(net, "pod-1\n");
}

/// Connections that were open before `systemctl restart` go on after it; how long they stood still.
fn keeps_connections_over_a_restart(net: &Topology, machine: &Machine<'_>) -> Duration {
    net.try_tcp_often();
    let targets = [
        (OUTSIDE[0], ECHO_NODE_PORT),
        (OUTSIDE[1], ECHO_NODE_PORT),
        (CLUSTER[0], ECHO),
    ];
    let mut connections: Vec<_> = targets
        .iter()
        .map(|(to, port)| {
            let to = SocketAddr::new(*to, *port);
            let stream = dial::tcp(&net.client, None, to, Duration::from_secs(30));
            stream.unwrap_or_else(|error| panic!("TCP to {to}: {error}"))
        })
        .collect();
    let mut round = |number: u8| {
        for stream in &mut connections {
            stream.write_all(&[number; 100]).expect("sent");
        }
        for stream in &mut connections {
            let mut answer = [0; 100];
            stream
                .read_exact(&mut answer)
                .expect("an answer on an open connection");
            assert_eq!(answer, [number; 100]);
        }
    };
    round(1);
    let started = Instant::now();
    machine.run("systemctl restart portgate-dataplane");
    round(2);
    started.elapsed()
}

fn gives_the_nics_back(machine: &Machine<'_>, model: Model) {
    for address in model.addresses() {
        let driver = machine.run(&format!(
            "basename $(readlink /sys/bus/pci/devices/{address}/driver)"
        ));
        assert_eq!(driver.trim(), model.kernel_driver(), "{address}");
    }
}

fn leaves_nothing(machine: &Machine<'_>) {
    let left = machine.run(
        "cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages; \
         ls -d /etc/portgate /run/portgate /dev/shm/portgate /usr/bin/portgate* 2>/dev/null || true; \
         getent passwd portgate || true; getent group portgate || true",
    );
    assert_eq!(left, "0\n", "something was left behind");
}
