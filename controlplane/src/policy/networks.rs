//! Networks with a meaning, and routes to pod networks.

use std::net::IpAddr;

use hugepages::object::{Network, NetworkRole, Object, Prefix, Route};
use ipnet::IpNet;
use settings::Mode;

use crate::index::Index;
use crate::model::NodeObject;
use crate::warning::Warning;

use super::view::{Family, View};

/// The networks that the settings name, and those of Services that ServiceCIDR objects name.
pub(super) fn networks(view: &View, index: &Index) -> Vec<Object> {
    let gateway = &view.gateway;
    let cidrs = |role, networks: &[IpNet]| -> Vec<Object> {
        let of = |network: &IpNet| prefix_object(role, prefix_of(network));
        networks.iter().map(of).collect()
    };
    let hosts = |role, addresses: &[IpAddr]| -> Vec<Object> {
        let of = |address: &IpAddr| prefix_object(role, prefix_of(&IpNet::from(*address)));
        addresses.iter().map(of).collect()
    };
    let mut found = cidrs(NetworkRole::Pods, &gateway.cluster_cidrs);
    found.extend(cidrs(NetworkRole::Services, &gateway.service_cidrs));
    let learned = index.service_cidrs().flat_map(|object| &object.cidrs);
    found.extend(learned.map(|network| prefix_object(NetworkRole::Services, *network)));
    found.extend(hosts(NetworkRole::Own, &gateway.addresses));
    found.extend(hosts(NetworkRole::Snat, &gateway.snat_addresses));
    found
}

/// A route for each Node's pod networks by way of its InternalIP of the same family; none for the
/// node that the gateway itself is. Of two nodes with the same network the first by name has it.
pub(super) fn routes(view: &View, index: &Index, warnings: &mut Vec<Warning>) -> Vec<Route> {
    let mut found: Vec<Route> = Vec::new();
    for node in index.nodes().filter(|node| !is_ourselves(view, node)) {
        for to in &node.pod_cidrs {
            let family = Family::of(to.address);
            let mut hops = node.internal_ips.iter().copied();
            match hops.find(|hop| Family::of(*hop) == family) {
                Some(via) => found.push(Route { to: *to, via }),
                None => warnings.push(Warning {
                    subject: format!("Node {}", node.name),
                    message: format!(
                        "status.addresses has no InternalIP of the family of {}/{}: \
                         there is no route to that pod network",
                        to.address, to.length
                    ),
                }),
            }
        }
    }
    // Stable: of equal destinations the first node stays first.
    found.sort_by_key(|route| route.to);
    found.dedup_by(|later, first| {
        let same = later.to == first.to;
        if same && later.via != first.via {
            warnings.push(Warning {
                subject: "Nodes".into(),
                message: format!(
                    "spec.podCIDRs has {}/{} on two nodes: it is routed by way of {}, not {}",
                    first.to.address, first.to.length, first.via, later.via
                ),
            });
        }
        same
    });
    found
}

/// At the edge a gateway with a node's name only stands in for that node: its pods are elsewhere.
fn is_ourselves(view: &View, node: &NodeObject) -> bool {
    let named = view.gateway.mode == Mode::Node && view.node_name() == Some(&node.name.name);
    let own = &view.gateway.addresses;
    named
        || node
            .internal_ips
            .iter()
            .any(|address| own.contains(address))
}

fn prefix_of(network: &IpNet) -> Prefix {
    Prefix {
        address: network.network(),
        length: network.prefix_len(),
    }
}

fn prefix_object(role: NetworkRole, prefix: Prefix) -> Object {
    Object::Network(Network { role, prefix })
}
