//! A gateway with NICs of two queues each on a machine with two NUMA nodes; one NIC is pulled out of it and put back while the
//! gateway runs.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ci::netns::Namespace;
use ci::topology::{CLIENT_V4, CLUSTER, HTTP, INSIDE, OUTSIDE, Topology, url};
use ci::vm::{Machine, Model, POD_MTU, SPARE};
use ci::{curl, dial, wait};

use crate::page::{Page, follow};
use crate::serving::{
    SEEN, all_links, answers_udp, dmar_faults, forget_neighbours, json, publish, serves_http,
};

const CONFIGURATION: &str = "/etc/portgate/portgate.toml";

/// The node that the NICs are on, and the CPU that is on the other one. The guest's kernel is told so by hand: QEMU's bridge for
/// that (pxb-pcie) would take a root bus of its own.
const NODE: usize = 1;
const FAR_CPU: u16 = 0;

/// Flows, of one datagram each, that are sent to see how a NIC spreads them; how many of them each of two workers gets at
/// least: fewer than one in four would be a chance of one in 10,000.
const FLOWS: u64 = 64;
const SHARE: u64 = FLOWS / 4;

/// A port of the gateway that nobody serves.
const NOBODY: u16 = 9;

/// What the record has of it.
pub struct Seen {
    pub model: Model,
    /// Huge pages of the data plane on each node, with its workers on the NICs' node alone.
    pub pages: [u64; 2],
    /// What each worker received of the flows from the clients, and of those from a pod.
    pub outside: [u64; 2],
    pub pods: [u64; 2],
    /// From the command that pulls the NIC to the guest without it.
    pub let_go: Duration,
    /// From the command that puts it back to the first answer through it.
    pub back: Duration,
    /// From a cable out of a bond's NIC to the first answer through its other NIC.
    pub failover: Duration,
    pub faults: usize,
}

/// The whole of it.
pub fn serve(net: &Topology, machine: &Machine<'_>, model: Model) -> Seen {
    machine.plug(model);
    forget_neighbours(net);
    let page = Page::read();
    follow(net, machine, model, page.package());
    machine.run(&format!(
        "cp /usr/share/doc/portgate/examples/edge.toml {CONFIGURATION}; \
         sed -i 's/^group = .*/&\\nhuge_pages = \"require\"/' {CONFIGURATION}"
    ));
    crate::page::write_addresses(machine, model);

    for address in model.addresses() {
        machine.run(&format!(
            "echo {NODE} > /sys/bus/pci/devices/{address}/numa_node"
        ));
    }
    set_workers(machine, &[1]);
    machine.run("portgate-hugepages reserve; portgate-hugepages bind --links");
    refuses_an_mtu_that_a_nic_has_not(machine, model);
    let pages = takes_memory_beside_the_nics(machine);

    set_workers(machine, &[FAR_CPU, 1]);
    machine.run(
        "portgate-hugepages reserve; systemctl start portgate-dataplane portgate-controlplane",
    );
    net.apply(&[0]);
    publish(net, machine);
    serves_http(net, "pod-0\n");
    warns_of_the_cpu_far_from_the_nics(machine);
    let [outside, pods] = spreads_flows_over_both_workers(net, machine);
    answers_udp(net, "pod-0");
    let (let_go, back) = goes_on_without_a_nic_and_with_it_back(net, machine, model);
    let failover = serves_by_a_bond_as_long_as_one_of_its_nics_has_a_cable(net, machine, model);
    Seen {
        model,
        pages,
        outside,
        pods,
        let_go,
        back,
        failover,
        faults: dmar_faults(machine),
    }
}

/// One worker on each of these CPUs.
fn set_workers(machine: &Machine<'_>, cpus: &[u16]) {
    let count = cpus.len();
    machine.run(&format!(
        "sed -i '/^cores = /d; s/^count = .*/count = {count}\\ncores = {cpus:?}/' {CONFIGURATION}"
    ));
}

/// The NIC to the pods says how long its packets may be.
fn refuses_an_mtu_that_a_nic_has_not(machine: &Machine<'_>, model: Model) {
    let said = machine.try_run(&format!(
        "sed 's/^device = .*/&\\nmtu = 9000/' {CONFIGURATION} > /tmp/jumbo.toml; \
         timeout 60 portgate-dataplane --config /tmp/jumbo.toml"
    ));
    let said = said.expect_err("an MTU that the NIC has not was taken");
    let [_, pods] = model.addresses();
    let expected = format!(
        "link pods: mtu is 9000, and pci:{pods} has at most {POD_MTU}: set links.mtu to {POD_MTU}"
    );
    assert!(said.contains(&expected), "{said}");
}

/// Huge pages on each node that the data plane has, with all of its workers on one.
fn takes_memory_beside_the_nics(machine: &Machine<'_>) -> [u64; 2] {
    machine.run("systemctl start portgate-dataplane");
    wait::until("the data plane is ready", SEEN, || {
        journal(machine)
            .contains("portgate-dataplane ready")
            .then_some(())
    });
    let maps = machine.run("cat /proc/$(pidof portgate-dataplane)/numa_maps");
    let huge = maps.lines().filter(|line| line.contains(" huge "));
    let words: Vec<_> = huge.flat_map(str::split_whitespace).collect();
    let pages = [0, 1].map(|node| {
        let counts = words
            .iter()
            .filter_map(|word| word.strip_prefix(&format!("N{node}=")));
        counts.filter_map(|count| count.parse::<u64>().ok()).sum()
    });
    assert!(pages[NODE] > 0, "no huge pages on node {NODE}: {maps}");
    assert_eq!(pages[1 - NODE], 0, "memory far from the NICs: {maps}");
    machine.run("systemctl stop portgate-dataplane");
    pages
}

fn warns_of_the_cpu_far_from_the_nics(machine: &Machine<'_>) {
    let log = journal(machine);
    for link in ["outside", "pods"] {
        let warning = format!(
            "CPU {FAR_CPU} is on another NUMA node than the NIC of link {link} (node {NODE})"
        );
        assert!(log.contains(&warning), "{warning:?} is not in {log}");
    }
    // Its own memory is on the right one all the same.
    assert!(!log.contains("packet memory is not on NUMA node"), "{log}");
}

/// What each worker received of flows from the clients, and from a pod.
fn spreads_flows_over_both_workers(net: &Topology, machine: &Machine<'_>) -> [[u64; 2]; 2] {
    for link in all_links(machine) {
        let queues = [&link["rx_queues"], &link["tx_queues"]];
        assert!(queues.iter().all(|count| **count == 2), "{link}");
        // QEMU has RSS for the one, the tap spreads for the other.
        assert_eq!(link["rss"], link["name"] == "outside", "{link}");
    }
    let sides = [
        (&net.client, CLIENT_V4[0], OUTSIDE[0]),
        (net.pod(0), net.pod_addresses(0)[0], INSIDE[0]),
    ];
    sides.map(|(namespace, from, to)| {
        let before = received(machine);
        send_flows(namespace, from, to);
        let mut got = [0, 0];
        wait::until(&format!("{FLOWS} flows from {from} arrive"), SEEN, || {
            let now = received(machine);
            got = [0, 1].map(|worker| now[worker] - before[worker]);
            (got[0] + got[1] >= FLOWS).then_some(())
        });
        assert!(got.iter().all(|count| *count >= SHARE), "{from}: {got:?}");
        got
    })
}

fn send_flows(namespace: &Namespace, from: IpAddr, to: IpAddr) {
    for _ in 0..FLOWS {
        let (from, to) = (SocketAddr::new(from, 0), SocketAddr::new(to, NOBODY));
        let socket = dial::udp(namespace, from, to, Duration::from_secs(1)).expect("a socket");
        socket.send(b"hello").expect("sent");
    }
}

/// Frames that each worker has received.
fn received(machine: &Machine<'_>) -> [u64; 2] {
    let counters = json(machine, "portgate counters --json");
    [0, 1].map(|worker| {
        let count = &counters["workers"][worker]["totals"]["received"];
        count.as_u64().unwrap_or_else(|| panic!("{counters}"))
    })
}

/// How long the guest took to let the NIC go, and from its return to the first answer.
fn goes_on_without_a_nic_and_with_it_back(
    net: &Topology,
    machine: &Machine<'_>,
    model: Model,
) -> (Duration, Duration) {
    let process = machine.run("pidof portgate-dataplane");
    let [outside, _] = model.addresses();
    let is_there = format!("test -e /sys/bus/pci/devices/{outside}");

    let pulled = Instant::now();
    machine.unplug(model);
    wait::until("the guest is without the NIC", SEEN, || {
        machine.try_run(&is_there).err()
    });
    let let_go = pulled.elapsed();
    wait::until("one link is down, the other up", SEEN, || {
        let is_up = |link: &serde_json::Value| (link["name"] == "pods") == (link["up"] == true);
        all_links(machine).iter().all(is_up).then_some(())
    });
    let log = journal(machine);
    for said in [
        format!("the machine takes pci:{outside} away, the device of link outside"),
        format!("link outside is down: pci:{outside} was let go and is gone"),
    ] {
        assert!(log.contains(&said), "{said:?} is not in {log}");
    }
    // From pod to pod by the other NIC.
    for address in CLUSTER {
        curl::expect(net.pod(0), &url(address, HTTP), "pod-0\n");
    }
    assert_eq!(
        machine.run("pidof portgate-dataplane"),
        process,
        "it ended, and another was started"
    );

    let returned = Instant::now();
    machine.plug_in(model);
    wait::until("the guest sees the NIC", SEEN, || {
        machine.try_run(&is_there).ok()
    });
    machine.run("portgate-hugepages bind --links; systemctl restart portgate-dataplane");
    serves_http(net, "pod-0\n");
    (let_go, returned.elapsed())
}

/// The link to the clients is a bond of two NICs now; how long nothing was answered when the first lost its cable.
fn serves_by_a_bond_as_long_as_one_of_its_nics_has_a_cable(
    net: &Topology,
    machine: &Machine<'_>,
    model: Model,
) -> Duration {
    let [outside, _] = model.addresses();
    let bond = format!("vdev:net_bonding0,mode=1,slave={outside},slave={SPARE}");
    machine.run(&format!(
        "sed -i 's/pci:{outside}/{bond}/' {CONFIGURATION}; \
         portgate-hugepages bind --links; systemctl restart portgate-dataplane"
    ));
    forget_neighbours(net);
    serves_http(net, "pod-0\n");
    let link = is_outside(machine, true);
    assert_eq!(link["driver"], "net_bonding", "{link}");
    assert_eq!(link["device"], bond, "{link}");

    let pulled = Instant::now();
    machine.set_cable(model, false);
    serves_http(net, "pod-0\n");
    let failover = pulled.elapsed();
    is_outside(machine, true);

    machine.set_spare_cable(false);
    is_outside(machine, false);
    machine.set_cable(model, true);
    is_outside(machine, true);
    serves_http(net, "pod-0\n");
    answers_udp(net, "pod-0");
    failover
}

/// Waits until the link to the clients is up, or down.
fn is_outside(machine: &Machine<'_>, up: bool) -> serde_json::Value {
    wait::until(&format!("the link outside is up: {up}"), SEEN, || {
        let outside = all_links(machine)
            .into_iter()
            .find(|link| link["name"] == "outside");
        outside.filter(|link| link["up"] == up)
    })
}

fn journal(machine: &Machine<'_>) -> String {
    machine.run("journalctl --no-pager --output=cat --unit=portgate-dataplane")
}
