//! Two networks that are the same but for what stands in the middle: the gateway in one, a Linux
//! machine with kube-proxy in the other, both as the same node of the same cluster.
//!
//! All endpoint addresses are in one namespace, the `sink`; the pod that is a client has one of
//! its own. Pods of other nodes are reached by way of their node, whose address the sink has.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::Cluster;
use super::generate::{NODES, OWN_NODE, ZONES};
use super::probe::{self, CLIENT_POD, Outcome, Probe, Servers, places};
use super::programs::program;
use crate::netns::Namespace;
use crate::process::Process;
use crate::topology::{INSIDE, OUTSIDE, Plan, Topology};

/// Addresses that clients outside have, of each kind and family.
pub const CLIENTS: u8 = 60;
/// Last part of the addresses of the other nodes.
const OTHER_NODES: [u8; 2] = [202, 203];
/// Last part of the address of a router that does not exist.
const SILENT_ROUTER: u8 = 250;

/// One of the two networks.
#[derive(Debug)]
pub struct World {
    /// The network; its gateway's namespace is the node.
    pub net: Topology,
    _servers: [Servers; 2],
}

/// Address of a client outside: one that generated source ranges admit, or one that they do not.
pub fn client(family: usize, admitted: bool, number: u8) -> IpAddr {
    match (family, admitted) {
        (0, true) => Ipv4Addr::new(203, 0, 113, 65 + number).into(),
        (0, false) => Ipv4Addr::new(203, 0, 113, 130 + number).into(),
        (_, true) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xa001 + u16::from(number)).into(),
        (_, false) => {
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xb001 + u16::from(number)).into()
        }
    }
}

/// An address of the pod that is a client: its own, which may be an endpoint, or one of those that
/// it has for asking only.
pub fn pod_client(family: usize, number: Option<u8>) -> IpAddr {
    probe::address(
        family,
        2,
        number.map_or(CLIENT_POD, |number| CLIENT_POD + 1 + number),
    )
}

/// Tells the cluster of the node that both are, and of those behind it.
pub fn add_nodes(cluster: &Cluster) {
    for (index, name) in NODES.iter().enumerate() {
        let addresses = match index {
            0 => OUTSIDE,
            _ => [0, 1].map(|family| other_node(family, index)),
        };
        let addresses = addresses.map(|address| address.to_string());
        let networks = [0, 1].map(|family| network(family, index));
        cluster.add_node(
            name,
            ZONES[index],
            &addresses.each_ref().map(String::as_str),
            &networks.each_ref().map(String::as_str),
        );
    }
}

impl World {
    /// Builds the network and starts the servers of its endpoints.
    pub fn new() -> Self {
        let net = Topology::new(Plan {
            pods: &[2, CLIENT_POD],
            ..Plan::default()
        });
        for number in 0..CLIENTS {
            for admitted in [true, false] {
                net.client
                    .add_address("eth0", client(0, admitted, number), 24);
                net.client
                    .add_address("eth0", client(1, admitted, number), 64);
            }
        }
        let servers = [0, 1].map(|index| {
            let mut addresses = net.pod_addresses(index).to_vec();
            if index == 0 {
                addresses.extend(dress_sink(net.pod(0), &addresses));
            }
            Servers::start(net.pod(index), &addresses)
        });
        Self {
            net,
            _servers: servers,
        }
    }

    /// Tries probes in this network.
    pub fn run(&self, probes: &[&Probe], tries: usize, patience: Duration) -> Vec<Outcome> {
        probe::run(&self.net.client, self.net.pod(1), probes, tries, patience)
    }

    /// The gateway's configuration as the node.
    pub fn configuration(&self, cluster: &Cluster) -> String {
        let mut text = self.net.configuration();
        let manifests = format!(
            "kind = \"manifests\"\npath = \"{}\"",
            self.net.manifests.path().display()
        );
        let kubernetes = format!(
            "kind = \"kubernetes\"\nkubeconfig = \"{}\"",
            cluster.gateway_kubeconfig().display()
        );
        let node = format!("mode = \"node\"\nnode_name = \"{OWN_NODE}\"");
        for (old, new) in [
            (manifests.as_str(), kubernetes.as_str()),
            ("mode = \"edge\"", &node),
            ("flows = 65536", "flows = 524288"),
            (
                "packet_memory_mb = 64",
                "packet_memory_mb = 64\nflows_v6 = 524288",
            ),
        ] {
            assert!(text.contains(old), "no {old:?} in:\n{text}");
            text = text.replace(old, new);
        }
        text
    }

    /// Makes the node a Linux machine that forwards, and starts kube-proxy there.
    pub fn start_kube_proxy(&self, cluster: &Cluster) -> Process {
        let node = &self.net.gateway;
        dress_node(node);
        let mut command = node.command(program("kube-proxy"));
        command
            .arg(format!(
                "--kubeconfig={}",
                cluster.admin_kubeconfig().display()
            ))
            .arg(format!("--hostname-override={OWN_NODE}"))
            .args([
                "--proxy-mode=nftables",
                "--detect-local-mode=ClusterCIDR",
                "--cluster-cidr=100.96.0.0/16,fd00:100:96::/48",
                // What a namespace may not set.
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0s",
                "--conntrack-tcp-timeout-close-wait=0s",
            ]);
        Process::start("kube-proxy", command, self.net.directory())
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn network(family: usize, node: usize) -> String {
    let length = if family == 0 { 24 } else { 64 };
    let number = [2, 3, 4][node];
    format!("{}/{length}", probe::address(family, number, 0))
}

fn other_node(family: usize, node: usize) -> IpAddr {
    probe::address(family, 2, OTHER_NODES[node - 1])
}

/// Gives the sink the addresses of all endpoints but the client pod's; returns them.
fn dress_sink(sink: &Namespace, there: &[IpAddr]) -> Vec<IpAddr> {
    let mut added = Vec::new();
    for family in 0..2 {
        let length = if family == 0 { 32 } else { 128 };
        for (address, _) in places(family) {
            let of_client = address == probe::address(family, 2, CLIENT_POD);
            if !of_client && !there.contains(&address) {
                sink.add_address("eth0", address, length);
                added.push(address);
            }
        }
        for node in 1..NODES.len() {
            sink.add_address("eth0", other_node(family, node), length);
        }
    }
    added
}

/// Addresses, routes and forwarding of a Linux node.
fn dress_node(node: &Namespace) {
    for (key, value) in [
        ("net.ipv6.conf.all.disable_ipv6", "0"),
        ("net.ipv6.conf.outside.disable_ipv6", "0"),
        ("net.ipv6.conf.pods.disable_ipv6", "0"),
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.outside.rp_filter", "0"),
        ("net.ipv4.conf.pods.rp_filter", "0"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.pods.send_redirects", "0"),
        // Refusals are what the test listens for.
        ("net.ipv4.icmp_ratelimit", "0"),
        ("net.ipv6.icmp.ratelimit", "0"),
    ] {
        node.sysctl(key, value);
    }
    // Where a kernel has these for each namespace.
    for key in ["icmp_msgs_per_sec", "icmp_msgs_burst"] {
        let path = format!("/proc/sys/net/ipv4/{key}");
        let _ = node.enter(|| fs::write(&path, "100000"));
    }
    for (device, addresses) in [("outside", OUTSIDE), ("pods", INSIDE)] {
        node.add_address(device, addresses[0], 24);
        node.add_address(device, addresses[1], 64);
    }
    for index in 1..NODES.len() {
        for (family, flag) in [(0, "-4"), (1, "-6")] {
            let (to, via) = (network(family, index), other_node(family, index));
            node.ip(&format!("{flag} route add {to} via {via} dev pods"));
        }
    }
    // The rest of the world is behind a router that says nothing: packets to it are forwarded, as
    // they must be for the rules that refuse to see them, and nobody answers.
    for (family, flag) in [(0, "-4"), (1, "-6")] {
        let router = probe::address(family, 2, SILENT_ROUTER);
        node.ip(&format!(
            "neigh add {router} lladdr 02:00:00:00:00:01 dev pods"
        ));
        node.ip(&format!("{flag} route add default via {router} dev pods"));
    }
}
