//! A cluster to serve: its addresses, services, endpoints and clients, all computed from numbers.
//!
//! | | IPv4 | IPv6 |
//! |---|---|---|
//! | outside link, its router | 203.0.113.10/24, .1 | 2001:db8:1::10/64, ::1 |
//! | link to the nodes | 100.64.0.1/24 | fd00:64::1/64 |
//! | node k of 16 | 100.64.0.(10+k) | fd00:64::(10+k) |
//! | pods of node k | 10.(16k).0.0/12 | fd00:10:k::/48 |
//! | service s, port 80 | 172.16.0.10 + s | fd00:172::10 + s |
//! | clients (RFC 2544's range) | 198.18.0.0/15 | 2001:db8:2::/64 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::family::Family;
use engine::topology::{LinkConfig, MssClamp, StaticRoute, Topology};
use hugepages::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, NO_KEY, Object, OnEndpointGone, Prefix,
    Protocol, Service, Why, service_key,
};
use packet::parse::TCP;
use packet::tuple::Tuple;

/// The link where clients are.
pub const OUTSIDE: usize = 0;
/// The link where nodes are.
pub const NODES: usize = 1;
/// MAC addresses of the links.
pub const LINK_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// MAC address of the router outside.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// MAC address of every node.
pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

const NODE_COUNT: usize = 16;
/// Client addresses; then ports count on.
const CLIENTS: u64 = 1 << 17;
const FIRST_CLIENT_PORT: u64 = 1024;

/// Size and family of the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Cluster {
    /// 4 or 6.
    pub family: u8,
    /// Services with endpoints.
    pub services: usize,
    /// Endpoints of each.
    pub endpoints: usize,
}

impl Cluster {
    /// Links and routes of a gateway to it.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let link = |name: &str, number: usize, addresses: [&str; 2]| LinkConfig {
            name: name.into(),
            mac: LINK_MACS[number],
            vlan: None,
            mtu: 1500,
            mss_clamp: MssClamp::Off,
            addresses: addresses
                .iter()
                .filter_map(|text| text.split_once('/'))
                .filter_map(|(address, length)| Some((address.parse().ok()?, length.parse().ok()?)))
                .collect(),
        };
        let route = |address, length, via| StaticRoute {
            to: Prefix { address, length },
            via: Some(via),
            link: None,
        };
        let mut routes = vec![match self.family {
            4 => route(Ipv4Addr::UNSPECIFIED.into(), 0, self.router()),
            _ => route(Ipv6Addr::UNSPECIFIED.into(), 0, self.router()),
        }];
        routes.extend((0..NODE_COUNT).map(|node| {
            let length = if self.family == 4 { 12 } else { 48 };
            route(self.pod_network(node), length, self.node(node))
        }));
        let outside = ["203.0.113.10/24", "2001:db8:1::10/64"];
        let nodes = ["100.64.0.1/24", "fd00:64::1/64"];
        Topology {
            links: vec![
                link("outside", OUTSIDE, outside),
                link("nodes", NODES, nodes),
            ],
            routes,
        }
    }

    /// Every next hop: link, address, MAC address.
    pub fn neighbours(&self) -> impl Iterator<Item = (usize, IpAddr, [u8; 6])> + '_ {
        let nodes = (0..NODE_COUNT).map(|node| (NODES, self.node(node), NODE_MAC));
        nodes.chain([(OUTSIDE, self.router(), ROUTER_MAC)])
    }

    /// Everything to install: the services and, after them, one without endpoints.
    #[must_use]
    pub fn objects(&self) -> Vec<Object> {
        let mut objects = Vec::new();
        for service in 0..=self.services {
            let name = format!("perf/service-{service}");
            let key = service_key(&name, "", Protocol::Tcp);
            let mut serving = NO_KEY;
            let mut actions = [Action::Reject(Why::NoEndpoint); 3];
            if service < self.services {
                let first = service * self.endpoints;
                let members = (first..first + self.endpoints).map(|pod| self.backend(pod));
                let set = BackendSet::new(members.collect());
                serving = set.key;
                actions = [Action::Translate {
                    set: set.key,
                    masquerade: true,
                }; 3];
                objects.push(Object::BackendSet(set));
            }
            objects.push(Object::Service(Service {
                key,
                name,
                port_name: String::new(),
                protocol: Protocol::Tcp,
                serving,
                on_endpoint_gone: OnEndpointGone::Keep,
            }));
            objects.push(Object::Frontend(Frontend {
                address: self.frontend(service),
                protocol: Protocol::Tcp,
                port: 80,
                service: key,
                kind: FrontendKind::LoadBalancer,
                affinity_timeout: 0,
                ranges: NO_KEY,
                actions,
            }));
        }
        objects
    }

    /// Tuple of the frames of client number `flow`, which no other flow has.
    #[must_use]
    pub fn tuple<F: Family>(&self, flow: u64) -> F::Key {
        self.towards::<F>((flow % self.services as u64) as usize, flow)
    }

    /// The same towards the service that has no endpoints.
    #[must_use]
    pub fn hopeless<F: Family>(&self, flow: u64) -> F::Key {
        self.towards::<F>(self.services, flow)
    }

    fn towards<F: Family>(&self, service: usize, flow: u64) -> F::Key {
        let client = (flow % CLIENTS) as u32;
        let source = match self.family {
            4 => Ipv4Addr::from(0xc612_0000 + client).into(),
            _ => Ipv6Addr::from((0x2001_0db8_0002_u128 << 80) + u128::from(client)).into(),
        };
        let tuple = Tuple {
            source,
            destination: self.frontend(service),
            source_port: (FIRST_CLIENT_PORT + flow / CLIENTS) as u16,
            destination_port: 80,
            protocol: TCP,
        };
        // Both addresses are of the one family there is.
        F::from_tuple(&tuple).unwrap_or_default()
    }

    /// Address of a service.
    #[must_use]
    pub fn frontend(&self, service: usize) -> IpAddr {
        match self.family {
            4 => Ipv4Addr::from(0xac10_000a + service as u32).into(),
            _ => Ipv6Addr::from((0xfd00_0172_u128 << 96) + 0x10 + service as u128).into(),
        }
    }

    /// An endpoint: those of service s are the `endpoints` from s × `endpoints` on.
    #[must_use]
    pub fn backend(&self, pod: usize) -> Backend {
        let host = (2 + pod / NODE_COUNT) as u32;
        let address = match self.pod_network(pod % NODE_COUNT) {
            IpAddr::V4(network) => Ipv4Addr::from(network.to_bits() + host).into(),
            IpAddr::V6(network) => Ipv6Addr::from(network.to_bits() + u128::from(host)).into(),
        };
        Backend {
            address,
            port: 8080,
        }
    }

    fn pod_network(&self, node: usize) -> IpAddr {
        match self.family {
            4 => Ipv4Addr::new(10, 16 * node as u8, 0, 0).into(),
            _ => Ipv6Addr::new(0xfd00, 0x10, node as u16, 0, 0, 0, 0, 0).into(),
        }
    }

    fn node(&self, node: usize) -> IpAddr {
        match self.family {
            4 => Ipv4Addr::new(100, 64, 0, 10 + node as u8).into(),
            _ => Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, 0, 10 + node as u16).into(),
        }
    }

    fn router(&self) -> IpAddr {
        match self.family {
            4 => Ipv4Addr::new(203, 0, 113, 1).into(),
            _ => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use engine::family::{V4, V6};

    use super::*;

    #[test]
    fn flows_endpoints_and_services_are_distinct() {
        for family in [4, 6] {
            let cluster = Cluster {
                family,
                services: 7,
                endpoints: 100,
            };
            let flows = [0, 1, 7, CLIENTS - 1, CLIENTS, CLIENTS + 1, 4_000_000];
            let tuples: HashSet<Tuple> = flows
                .iter()
                .map(|flow| match family {
                    4 => V4::tuple(&cluster.tuple::<V4>(*flow)),
                    _ => V6::tuple(&cluster.tuple::<V6>(*flow)),
                })
                .collect();
            assert_eq!(tuples.len(), flows.len());
            let backends: HashSet<_> = (0..700).map(|pod| cluster.backend(pod)).collect();
            assert_eq!(backends.len(), 700);
            let routes = cluster.topology().routes(std::iter::empty());
            for backend in backends {
                assert_eq!(
                    routes.lookup(backend.address).unwrap().link,
                    NODES as u8,
                    "{backend:?}"
                );
            }
        }
    }
}
