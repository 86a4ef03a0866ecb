//! The gateway's configuration and manifests, and where that puts both ends.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Ends, Kind, Plan};
use crate::Error;

const SERVICE: &str = "perf";
const NODE_PORT: u16 = 30_080;
const PORT: u16 = 80;
const TARGET: u16 = 8080;

/// Endpoints to an EndpointSlice, as the Kubernetes controller makes them.
const SLICE: usize = 100;

/// MiB of the gateway's packet memory: two links, one worker, a page for each buffer.
const PACKET_MEMORY: u32 = 96;

/// The files of a gateway.
pub(super) struct Files {
    pub(super) configuration: PathBuf,
    pub(super) region: PathBuf,
}

struct Addresses {
    outside: &'static str,
    client: &'static str,
    clients: &'static str,
    everywhere: &'static str,
    inside: &'static str,
    node: &'static str,
    pods: &'static str,
}

const V4: Addresses = Addresses {
    outside: "203.0.113.10/24",
    client: "203.0.113.1",
    clients: "198.18.0.0/15",
    everywhere: "0.0.0.0/0",
    inside: "100.64.0.1/24",
    node: "100.64.0.10",
    pods: "100.96.0.0/16",
};

const V6: Addresses = Addresses {
    outside: "2001:db8:1::10/64",
    client: "2001:db8:1::1",
    clients: "2001:db8:2::/64",
    everywhere: "::/0",
    inside: "fd00:64::1/64",
    node: "fd00:64::10",
    pods: "fd00:96::/64",
};

fn addresses(plan: &Plan) -> &'static Addresses {
    if plan.family == 4 { &V4 } else { &V6 }
}

/// Writes the configuration and the manifests.
pub(super) fn write(plan: &Plan, directory: &Path, region: &Path) -> io::Result<Files> {
    let manifests = directory.join("manifests");
    fs::create_dir_all(&manifests)?;
    fs::write(manifests.join("service.json"), service(plan).to_string())?;
    let endpoints: Vec<IpAddr> = (0..plan.endpoints)
        .map(|number| pod(plan, number))
        .collect();
    for (number, endpoints) in endpoints.chunks(SLICE).enumerate() {
        let slice = slice(plan, number, endpoints).to_string();
        fs::write(manifests.join(format!("slice-{number}.json")), slice)?;
    }
    let files = Files {
        configuration: directory.join("portgate.toml"),
        region: region.join("region"),
    };
    fs::write(
        &files.configuration,
        configuration(plan, directory, &files, &manifests),
    )?;
    Ok(files)
}

/// Where generator and sink stand.
pub(super) fn ends(plan: &Plan, directory: &Path) -> Result<Ends, Error> {
    let addresses = addresses(plan);
    let parse = |text: &str| -> Result<IpAddr, Error> {
        text.parse()
            .map_err(|error| Error::Run(format!("{text}: {error}")))
    };
    let network = |text: &str| {
        text.parse()
            .map_err(|rule| Error::Run(format!("{text}: {rule}")))
    };
    let gateway = parse(addresses.outside.split('/').next().unwrap_or_default())?;
    let device = |number| {
        let device = tester_device(plan.kind, directory, number);
        device.parse().map_err(Error::Run)
    };
    Ok(Ends {
        outside: device(0)?,
        inside: device(1)?,
        client: parse(addresses.client)?,
        gateway,
        clients: network(addresses.clients)?,
        service: (gateway, NODE_PORT).into(),
        answers: vec![network(addresses.node)?, network(addresses.pods)?],
    })
}

fn configuration(plan: &Plan, directory: &Path, files: &Files, manifests: &Path) -> String {
    let addresses = addresses(plan);
    let huge = if plan.huge_pages > 0 {
        "require"
    } else {
        "off"
    };
    let flows = plan.flows.max(1 << 16).next_power_of_two();
    let (flows, flows_v6) = if plan.family == 4 {
        (flows, 1024)
    } else {
        (1024, flows)
    };
    format!(
        r#"[region]
path = "{}"
huge_pages = "{huge}"
flows = {flows}
flows_v6 = {flows_v6}
packet_memory_mb = {PACKET_MEMORY}

[gateway]
mode = "edge"
cluster_cidrs = ["{}"]

[[links]]
name = "outside"
device = "{}"
addresses = ["{}"]

[[links]]
name = "inside"
device = "{}"
addresses = ["{}"]

[[routes]]
to = "{}"
via = "{}"

[[routes]]
to = "{}"
via = "{}"

[workers]
cores = [{}]
idle_sleep_us = {}

# Flows that nobody answers are what a sink makes: they may fill the table.
[limits]
half_open_percent = 100
half_open_per_service_percent = 100

[source]
kind = "manifests"
path = "{}"
"#,
        files.region.display(),
        addresses.pods,
        gateway_device(plan.kind, directory, 0),
        addresses.outside,
        gateway_device(plan.kind, directory, 1),
        addresses.inside,
        addresses.everywhere,
        addresses.client,
        addresses.pods,
        addresses.node,
        plan.cpu,
        plan.idle_sleep_us,
        manifests.display(),
    )
}

/// The gateway makes the sockets, because it is there first.
fn gateway_device(kind: Kind, directory: &Path, number: u8) -> String {
    let interface = ["outside", "inside"][usize::from(number)];
    let directory = directory.display();
    match kind {
        Kind::Memif => format!(
            "vdev:net_memif{number},role=server,id={number},socket={directory}/memif,\
             socket-abstract=no"
        ),
        Kind::Vhost => format!("vdev:net_vhost{number},iface={directory}/vhost{number},queues=1"),
        Kind::AfPacket => format!("af_packet:{interface}"),
        Kind::AfXdp => format!("af_xdp:{interface}"),
    }
}

fn tester_device(kind: Kind, directory: &Path, number: u8) -> String {
    let interface = ["outside", "inside"][usize::from(number)];
    let directory = directory.display();
    match kind {
        Kind::Memif => format!(
            "vdev:net_memif{number},role=client,id={number},socket={directory}/memif,\
             socket-abstract=no"
        ),
        Kind::Vhost => {
            format!("vdev:net_virtio_user{number},path={directory}/vhost{number},queues=1")
        }
        Kind::AfPacket | Kind::AfXdp => format!("af_packet:{interface}"),
    }
}

fn pod(plan: &Plan, number: u32) -> IpAddr {
    // Behind the network's own address.
    if plan.family == 4 {
        Ipv4Addr::from(0x6460_0000 + 2 + number).into()
    } else {
        Ipv6Addr::from((0xfd00_0096_u128 << 96) + 2 + u128::from(number)).into()
    }
}

fn service(plan: &Plan) -> Value {
    let port = |protocol: &str| {
        json!({
            "name": protocol.to_lowercase(),
            "protocol": protocol,
            "port": PORT,
            "targetPort": TARGET,
            "nodePort": NODE_PORT,
        })
    };
    let (family, address) = match plan.family {
        4 => ("IPv4", "172.16.0.10"),
        _ => ("IPv6", "fd00:172::10"),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": SERVICE, "namespace": "default" },
        "spec": {
            "type": "NodePort",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": [family],
            "ipFamilyPolicy": "SingleStack",
            "externalTrafficPolicy": "Cluster",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "selector": { "app": SERVICE },
            "ports": [port("UDP"), port("TCP")],
        },
    })
}

fn slice(plan: &Plan, number: usize, endpoints: &[IpAddr]) -> Value {
    let endpoint = |address: &IpAddr| {
        json!({
            "addresses": [address],
            "conditions": { "ready": true, "serving": true, "terminating": false },
        })
    };
    let port = |protocol: &str| json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": TARGET });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{SERVICE}-{number}"),
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": SERVICE },
        },
        "addressType": if plan.family == 4 { "IPv4" } else { "IPv6" },
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [port("UDP"), port("TCP")],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_accepts_every_configuration() {
        for kind in [Kind::Memif, Kind::Vhost, Kind::AfPacket, Kind::AfXdp] {
            for family in [4, 6] {
                let plan = Plan {
                    kind,
                    family,
                    flows: 1_000_000,
                    endpoints: 101,
                    cpu: 0,
                    binaries: PathBuf::new(),
                    huge_pages: 0,
                    idle_sleep_us: 0,
                };
                let directory = tempfile::tempdir().unwrap();
                let files = write(&plan, directory.path(), directory.path()).unwrap();
                let settings = ::settings::load(&files.configuration).unwrap();
                assert_eq!((settings.links.len(), settings.routes.len()), (2, 2));
                let ends = ends(&plan, directory.path()).unwrap();
                assert!(ends.answers[1].contains(pod(&plan, 100)));
                let slices = fs::read_dir(directory.path().join("manifests")).unwrap();
                assert_eq!(slices.count(), 3);
            }
        }
    }
}
