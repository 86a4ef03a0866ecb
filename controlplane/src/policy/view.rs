//! What this gateway is to the cluster: its settings, and what its own Node object adds to them.

use std::net::IpAddr;

use settings::{Gateway, Mode};

use crate::index::Index;
use crate::model::ProxyLabels;

/// IPv4 or IPv6; rules never mix them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// The gateway's side of every decision.
#[derive(Debug)]
pub(super) struct View {
    pub(super) gateway: Gateway,
    /// The gateway's zone: of its Node object if there is one, else of the settings.
    zone: Option<String>,
    node_port_addresses: Vec<IpAddr>,
}

impl View {
    pub(super) fn new(gateway: Gateway) -> Self {
        Self {
            zone: gateway.zone.clone().filter(|zone| !zone.is_empty()),
            node_port_addresses: node_port_addresses(&gateway),
            gateway,
        }
    }

    /// Takes the zone from the gateway's Node object. Returns whether it changed.
    pub(super) fn look_at_own_node(&mut self, index: &Index) -> bool {
        let name = self.gateway.node_name.as_deref();
        let zone = match name.and_then(|name| index.node(name)) {
            Some(node) => node.zone.clone(),
            None => self.gateway.zone.clone().filter(|zone| !zone.is_empty()),
        };
        let changed = zone != self.zone;
        self.zone = zone;
        changed
    }

    pub(super) fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    pub(super) fn node_name(&self) -> Option<&str> {
        self.gateway.node_name.as_deref()
    }

    /// Whether an endpoint on `node` is local: nothing is, to a gateway without a node's name.
    pub(super) fn is_local(&self, node: Option<&str>) -> bool {
        node.is_some() && node == self.node_name()
    }

    /// At the edge, without a node to stand in for, no endpoint is local. What is meant by
    /// `externalTrafficPolicy: Local` there is to keep the client's address, with every endpoint
    /// as good as any other; `internalTrafficPolicy: Local` is not served.
    pub(super) fn is_outside_the_cluster(&self) -> bool {
        self.gateway.mode == Mode::Edge && self.gateway.node_name.is_none()
    }

    /// Whether pods of this family can be told from other sources.
    pub(super) fn knows_pods(&self, family: Family) -> bool {
        let mut networks = self.gateway.cluster_cidrs.iter();
        networks.any(|network| Family::of(network.addr()) == family)
    }

    /// The gateway's primary address of this family.
    pub(super) fn primary_address(&self, family: Family) -> Option<IpAddr> {
        primary(&self.gateway.addresses, family)
    }

    /// Own addresses of this family on which NodePorts are served.
    pub(super) fn node_port_addresses(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        let all = self.node_port_addresses.iter().copied();
        all.filter(move |address| Family::of(*address) == family)
    }

    /// Whether an object with these labels is for us to serve.
    pub(super) fn is_ours(&self, labels: &ProxyLabels) -> bool {
        !labels.headless && labels.proxy_name == self.gateway.service_proxy_name
    }
}

fn primary(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    let mut usable = addresses.iter().filter(|address| !address.is_loopback());
    usable
        .find(|address| Family::of(**address) == family)
        .copied()
}

/// Own addresses inside `nodeport_addresses`, or the primary address of each family; never
/// loopback, which only the host itself could use.
fn node_port_addresses(gateway: &Gateway) -> Vec<IpAddr> {
    match gateway.nodeport_addresses.as_deref() {
        None | Some([]) => [Family::V4, Family::V6]
            .into_iter()
            .filter_map(|family| primary(&gateway.addresses, family))
            .collect(),
        Some(networks) => {
            let mut own = gateway.addresses.clone();
            own.sort_unstable();
            own.dedup();
            own.retain(|address| {
                !address.is_loopback() && networks.iter().any(|network| network.contains(address))
            });
            own
        }
    }
}
