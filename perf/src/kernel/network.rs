//! Three namespaces in a row: clients, what forwards, nodes; and the counter at the far end.
//!
//! ```text
//!  clients            forwarder                         nodes
//!  eth0 203.0.113.1 ── outside 203.0.113.10 · nodes 100.64.0.1 ── eth0 100.64.0.10 … .25, pods behind
//! ```
//!
//! Clients' frames are from 198.18.0.0/15, so that the router outside is their next hop. The nodes drop what
//! comes for pods as it enters, and count it.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::Error;
use crate::engine::cluster::{LINK_MACS, NODE_MAC, ROUTER_MAC};
use crate::netns::{Namespace, connect, run};

/// Where frames that come for pods are counted: translated as they should be, and not.
const NODES_RULES: &str = "table netdev perf {
 counter translated { }
 counter other { }
 chain pods {
  type filter hook ingress device eth0 priority 0;
  ip saddr 100.64.0.1 ip daddr 10.0.0.0/8 tcp dport 8080 counter name translated drop
  ip daddr { 10.0.0.0/8, 172.16.0.0/12 } counter name other drop
 }
}
";

/// Drops everything that comes from outside before the kernel has looked at it.
const SHUT: &str = "table netdev perf {
 chain shut {
  type filter hook ingress device outside priority 0; policy drop;
 }
}
";

/// The namespaces.
pub(super) struct Network {
    pub(super) clients: Namespace,
    pub(super) forwarder: Namespace,
    nodes: Namespace,
}

impl Network {
    /// Lays the network. With `by_kernel` the forwarder's kernel has addresses and routes.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] with the words of the command that failed.
    pub(super) fn new(by_kernel: bool) -> Result<Self, Error> {
        let clients = Namespace::new("clients")?;
        let forwarder = Namespace::new("forwarder")?;
        let nodes = Namespace::new("nodes")?;
        connect((&clients, "eth0"), (&forwarder, "outside"))?;
        connect((&nodes, "eth0"), (&forwarder, "nodes"))?;
        for (namespace, device, mac) in [
            (&clients, "eth0", ROUTER_MAC),
            (&nodes, "eth0", NODE_MAC),
            (&forwarder, "outside", LINK_MACS[0]),
            (&forwarder, "nodes", LINK_MACS[1]),
        ] {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            namespace.ip(&format!("link set {device} address {mac}"))?;
        }
        clients.ip("address add 203.0.113.1/24 dev eth0")?;
        for node in 0..16 {
            nodes.ip(&format!("address add 100.64.0.{}/24 dev eth0", 10 + node))?;
        }
        load(&nodes, "nft", &["-f", "-"], NODES_RULES)?;
        if by_kernel {
            run(forwarder
                .command("sysctl")
                .args(["-qw", "net.ipv4.ip_forward=1"]))?;
            forwarder.ip("address add 203.0.113.10/24 dev outside")?;
            forwarder.ip("address add 100.64.0.1/24 dev nodes")?;
            forwarder.ip("route add default via 203.0.113.1")?;
            for node in 0..16 {
                let via = 10 + node;
                forwarder.ip(&format!(
                    "route add 10.{}.0.0/12 via 100.64.0.{via}",
                    16 * node
                ))?;
            }
        }
        Ok(Self {
            clients,
            forwarder,
            nodes,
        })
    }

    /// Frames that arrived for pods: translated, not translated.
    pub(super) fn arrived(&self) -> Result<(u64, u64), Error> {
        let output = self
            .nodes
            .command("nft")
            .args(["-j", "list", "counters"])
            .output();
        let output = output.map_err(|error| Error::Run(format!("cannot run nft: {error}")))?;
        let listed: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| Error::Run(format!("nft: {error}")))?;
        let objects = listed["nftables"].as_array();
        let count = |name: &str| {
            let mut counters = objects
                .into_iter()
                .flatten()
                .map(|object| &object["counter"]);
            let counter = counters.find(|counter| counter["name"] == name);
            counter
                .and_then(|counter| counter["packets"].as_u64())
                .unwrap_or(0)
        };
        Ok((count("translated"), count("other")))
    }

    /// Drops frames from outside at the forwarder's door, or lets them in again.
    pub(super) fn shut(&self, shut: bool) -> Result<(), Error> {
        if shut {
            return load(&self.forwarder, "nft", &["-f", "-"], SHUT);
        }
        run(self
            .forwarder
            .command("nft")
            .args(["delete", "table", "netdev", "perf"]))
    }
}

/// Runs a program in a namespace with `text` as its input.
///
/// # Errors
///
/// [`Error::Run`] with what it said.
pub(super) fn load(
    namespace: &Namespace,
    program: &str,
    arguments: &[&str],
    text: &str,
) -> Result<(), Error> {
    let fail = |error: &dyn std::fmt::Display| Error::Run(format!("{program}: {error}"));
    let mut child = namespace
        .command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| fail(&error))?;
    if let Some(mut input) = child.stdin.take() {
        // If it has ended, its status and its words tell why.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| fail(&error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(fail(&said.lines().take(3).collect::<Vec<_>>().join(" ")))
}
