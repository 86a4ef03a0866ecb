//! What the gateway is connected to and what it serves: small, and with one of each kind.
//!
//! | link | VLAN | MTU | addresses |
//! |---|---|---|---|
//! | outside | – | 1500 | 203.0.113.10/24, 2001:db8:1::10/64 |
//! | pods | – | 1280 | 100.96.2.1/24, fd00:100:96:2::1/64 |
//! | tagged | 7 | 1500 | 198.51.100.1/24, 2001:db8:7::1/64 |

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use engine::install::Installed;
use engine::slots::ServiceSlots;
use engine::snapshot::Snapshot;
use engine::topology::{LinkConfig, MssClamp, StaticRoute, Topology};
use hugepages::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, NO_KEY, Network, NetworkRole, Object,
    OnEndpointGone, Prefix, Protocol, Ranges, Route, Service, Why, service_key,
};
use hugepages::{Digest, Message, Slab};

/// MAC addresses of the links.
pub const LINK_MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];

/// VLAN ids of the links.
pub const VLANS: [Option<u16>; 3] = [None, None, Some(7)];

/// Largest IP packets of the links, in bytes.
pub const MTUS: [u16; 3] = [1500, 1280, 1500];

/// Who is at the links, with MAC addresses: 02:00:00:00:(1 + link):(place in this list).
pub const NEIGHBOURS: [(u8, &str); 13] = [
    (0, "203.0.113.1"),
    (0, "203.0.113.50"),
    (0, "203.0.113.51"),
    (0, "2001:db8:1::1"),
    (0, "2001:db8:1::50"),
    (1, "100.96.2.2"),
    (1, "100.96.2.3"),
    (1, "fd00:100:96:2::2"),
    (1, "fd00:100:96:2::3"),
    (2, "198.51.100.2"),
    (2, "198.51.100.9"),
    (2, "2001:db8:7::2"),
    (2, "2001:db8:7::9"),
];

/// Clients, one address of each family, and the link that their frames come by.
pub const CLIENTS: [(usize, [&str; 2]); 5] = [
    (0, ["203.0.113.50", "2001:db8:1::50"]),
    (0, ["203.0.113.51", "2001:db8:9::51"]),
    (0, ["192.0.2.9", "2001:db8:1::99"]),
    (1, ["100.96.2.2", "fd00:100:96:2::2"]),
    (2, ["198.51.100.9", "2001:db8:7::9"]),
];

/// A service: protocol, address of each family, port; its last three decide what happens.
struct Kind {
    protocol: Protocol,
    addresses: [&'static str; 2],
    port: u16,
    kind: FrontendKind,
    masquerade: bool,
    affinity: u32,
    has_ranges: bool,
    actions: Option<Action>,
}

const OWN: [&str; 2] = ["203.0.113.10", "2001:db8:1::10"];
const EXTERNAL: [&str; 2] = ["203.0.113.100", "2001:db8:1::100"];
const CLUSTER: [&str; 2] = ["100.64.0.10", "fd00:100:64::10"];

const fn plain(protocol: Protocol, addresses: [&'static str; 2], port: u16) -> Kind {
    Kind {
        protocol,
        addresses,
        port,
        kind: FrontendKind::NodePort,
        masquerade: true,
        affinity: 0,
        has_ranges: false,
        actions: None,
    }
}

const KINDS: [Kind; 11] = [
    plain(Protocol::Tcp, OWN, 30_001),
    Kind {
        masquerade: false,
        kind: FrontendKind::LoadBalancer,
        ..plain(Protocol::Tcp, EXTERNAL, 80)
    },
    plain(Protocol::Udp, OWN, 30_002),
    Kind {
        masquerade: false,
        ..plain(Protocol::Udp, EXTERNAL, 53)
    },
    plain(Protocol::Sctp, OWN, 30_003),
    Kind {
        masquerade: false,
        ..plain(Protocol::Sctp, EXTERNAL, 36_412)
    },
    Kind {
        affinity: 60,
        ..plain(Protocol::Tcp, OWN, 30_004)
    },
    Kind {
        has_ranges: true,
        ..plain(Protocol::Tcp, EXTERNAL, 81)
    },
    Kind {
        actions: Some(Action::Reject(Why::NoEndpoint)),
        ..plain(Protocol::Tcp, CLUSTER, 443)
    },
    Kind {
        actions: Some(Action::Reject(Why::NoEndpoint)),
        ..plain(Protocol::Udp, CLUSTER, 53)
    },
    Kind {
        actions: Some(Action::Drop(Why::NoLocalEndpoint)),
        ..plain(Protocol::Tcp, CLUSTER, 80)
    },
];

/// Services of each family.
pub const SERVICES: usize = KINDS.len();

/// Protocol and frontend of service `at` in the family with this number (0: IPv4, 1: IPv6).
#[must_use]
pub fn service(at: usize, family: usize) -> (Protocol, SocketAddr) {
    let kind = &KINDS[at % SERVICES];
    let address = ip(kind.addresses[family]);
    (kind.protocol, SocketAddr::new(address, kind.port))
}

/// States that may be installed.
pub const VARIANTS: usize = 6;

/// Links and routes.
#[must_use]
pub fn topology() -> Topology {
    let addresses = [
        ["203.0.113.10/24", "2001:db8:1::10/64"],
        ["100.96.2.1/24", "fd00:100:96:2::1/64"],
        ["198.51.100.1/24", "2001:db8:7::1/64"],
    ];
    let links = addresses.iter().enumerate().map(|(at, addresses)| {
        let addresses = addresses.map(prefix);
        LinkConfig {
            name: format!("link{at}"),
            mac: LINK_MACS[at],
            vlan: VLANS[at],
            mtu: MTUS[at],
            mss_clamp: MssClamp::Off,
            addresses: addresses
                .iter()
                .map(|own| (own.address, own.length))
                .collect(),
        }
    });
    let route = |to, via| StaticRoute {
        to: prefix(to),
        via: Some(ip(via)),
        link: None,
    };
    Topology {
        links: links.collect(),
        routes: vec![
            route("0.0.0.0/0", "203.0.113.1"),
            route("::/0", "2001:db8:1::1"),
        ],
    }
}

/// Every state's snapshot, and what is installed after the last one.
#[must_use]
pub fn snapshots(topology: &Arc<Topology>) -> (Vec<Snapshot>, Installed) {
    let slots = ServiceSlots::new(Slab::heap(8));
    let mut installed = Installed::new(topology.clone(), slots, 0);
    let snapshots = (0..VARIANTS).map(|variant| {
        install(&mut installed, variant as u64 + 1, objects(variant));
        installed.snapshot().clone()
    });
    (snapshots.collect(), installed)
}

fn install(installed: &mut Installed, generation: u64, mut objects: Vec<Object>) {
    objects.sort_by_key(Object::id);
    objects.dedup();
    let boot = 1;
    let changes = objects.len() as u64;
    let digest = objects.iter().collect::<Digest>();
    let full = true;
    let begin = Message::Begin {
        boot,
        generation,
        full,
    };
    let commit = Message::Commit {
        boot,
        generation,
        changes,
        digest,
    };
    let puts = objects.into_iter().map(Message::Put);
    for message in std::iter::once(begin).chain(puts).chain([commit]) {
        installed
            .handle(message)
            .expect("the objects below fit together");
    }
}

/// Bit 0 of the variant: other endpoints. Bit 1: other networks and routes. The last: no services.
fn objects(variant: usize) -> Vec<Object> {
    let mut objects = networks(variant & 2 != 0);
    if variant >= 4 {
        objects.truncate(variant - 3);
        return objects;
    }
    for family in 0..2 {
        for (at, kind) in KINDS.iter().enumerate() {
            serve(&mut objects, kind, (at, family), variant & 1 != 0);
        }
    }
    objects
}

fn serve(objects: &mut Vec<Object>, kind: &Kind, (at, family): (usize, usize), fewer: bool) {
    let members = backends(family, fewer);
    let set = BackendSet::new(members);
    let name = format!("default/service-{at}-{family}");
    let key = service_key(&name, "", kind.protocol);
    let ranges = Ranges::new(vec![prefix(
        ["203.0.113.50/32", "2001:db8:1::50/128"][family],
    )]);
    let actions = match kind.actions {
        Some(action) => [action; 3],
        None => [false, true, kind.masquerade].map(|masquerade| Action::Translate {
            set: set.key,
            masquerade,
        }),
    };
    objects.push(Object::Service(Service {
        key,
        name,
        port_name: String::new(),
        protocol: kind.protocol,
        serving: if kind.actions.is_some() {
            NO_KEY
        } else {
            set.key
        },
        on_endpoint_gone: OnEndpointGone::Keep,
    }));
    objects.push(Object::Frontend(Frontend {
        address: ip(kind.addresses[family]),
        protocol: kind.protocol,
        port: kind.port,
        service: key,
        kind: kind.kind,
        affinity_timeout: kind.affinity,
        ranges: if kind.has_ranges { ranges.key } else { NO_KEY },
        actions,
    }));
    objects.push(Object::BackendSet(set));
    objects.push(Object::Ranges(ranges));
}

/// Endpoints on both inner links; one is nobody's neighbour, one a client of its own service.
fn backends(family: usize, fewer: bool) -> Vec<Backend> {
    let all = [
        ["100.96.2.2", "fd00:100:96:2::2"],
        ["100.96.2.3", "fd00:100:96:2::3"],
        ["198.51.100.2", "2001:db8:7::2"],
        ["100.96.2.77", "fd00:100:96:2::77"],
    ];
    let some = if fewer { &all[1..2] } else { &all[..] };
    some.iter()
        .map(|addresses| Backend {
            address: ip(addresses[family]),
            port: 80,
        })
        .collect()
}

fn networks(more: bool) -> Vec<Object> {
    let network = |role, text| {
        Object::Network(Network {
            role,
            prefix: prefix(text),
        })
    };
    let mut all = vec![
        network(NetworkRole::Pods, "100.96.0.0/16"),
        network(NetworkRole::Services, "100.64.0.0/13"),
        network(NetworkRole::Pods, "fd00:100:96::/48"),
        network(NetworkRole::Services, "fd00:100:64::/112"),
    ];
    if more {
        all.push(network(NetworkRole::Snat, "203.0.113.20/32"));
        all.push(network(NetworkRole::Snat, "2001:db8:1::20/128"));
        all.push(Object::Route(Route {
            to: prefix("192.0.2.0/24"),
            via: ip("198.51.100.9"),
        }));
    }
    all
}

/// An address written as usual.
///
/// # Panics
///
/// If it is none.
#[must_use]
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').expect("a prefix");
    Prefix {
        address: ip(address),
        length: length.parse().expect("a length"),
    }
}
