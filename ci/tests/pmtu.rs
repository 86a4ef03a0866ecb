//! Path MTU discovery through the gateway: real bulk transfers over a hop of 1,400 bytes on either side of it, over a
//! link of the gateway's own that is smaller, and with segment sizes clamped.
//!
//! ```text
//!   far client ── router ──1400── client (a router here) ── gateway ── switch ── pod
//!                                                                        └─ router ──1400── router ── far pod
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ci::bulk;
use ci::capture::Capture;
use ci::frames;
use ci::gateway::Gateway;
use ci::manifests::{Protocol, Service, ServicePort};
use ci::netns::{Namespace, Offloads, connect};
use ci::topology::{CLIENT_V4, CLIENT_V6, CLUSTER, INSIDE, OUTSIDE, Plan, Topology};

const PORT: u16 = 5001;
const NODE_PORT: u16 = 30501;

/// MTU of the narrow hops.
const NARROW: u16 = 1400;

/// Bytes of a transfer.
const LENGTH: u64 = 3 << 20;

const FAR_CLIENT: [IpAddr; 2] = [v4(198, 51, 100, 2), v6(0x5100, 2)];
const FAR_POD: [IpAddr; 2] = [v4(100, 96, 9, 2), v6(0x9600, 2)];
/// The router on the pods' switch.
const POD_ROUTER: [IpAddr; 2] = [v4(100, 96, 2, 9), pod6(9)];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// An address of a network behind routers.
const fn v6(network: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, network, 0, 0, 0, 0, 0, last))
}

const fn pod6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x100, 0x96, 2, 0, 0, 0, last))
}

fn length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "-4" } else { "-6" }
}

/// A host behind two routers: `near` is the namespace that becomes the first of them, the hop between the routers is
/// narrow, and `host` has these addresses behind the second.
struct Behind {
    host: Namespace,
    _router: Namespace,
}

fn behind(near: &Namespace, host: [IpAddr; 2], narrow: [[IpAddr; 2]; 2]) -> Behind {
    let router = Namespace::new("router");
    let far = Namespace::new("far");
    connect((near, "narrow"), (&router, "narrow"), Offloads::Off);
    connect((&router, "wide"), (&far, "eth0"), Offloads::Off);
    for namespace in [near, &router] {
        namespace.sysctl("net.ipv4.ip_forward", "1");
        namespace.sysctl("net.ipv6.conf.all.forwarding", "1");
        namespace.ip(&format!("link set narrow mtu {NARROW}"));
    }
    for (at, own) in host.into_iter().enumerate() {
        let [here, there] = [narrow[0][at], narrow[1][at]];
        let (bits, family) = (length(own), family(own));
        // The router's own address on the host's network ends in 1.
        let gateway = match own {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xff | 1).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !0xffff | 1).into()),
        };
        near.add_address("narrow", here, bits);
        router.add_address("narrow", there, bits);
        router.add_address("wide", gateway, bits);
        far.add_address("eth0", own, bits);
        near.ip(&format!("{family} route add {own} via {there}"));
        router.ip(&format!("{family} route add default via {here}"));
        far.ip(&format!("{family} route add default via {gateway}"));
    }
    Behind {
        host: far,
        _router: router,
    }
}

fn service() -> Service {
    let port = ServicePort {
        protocol: Protocol::Tcp,
        port: PORT,
        target: PORT,
        node_port: Some(NODE_PORT),
    };
    Service::new("bulk", &CLUSTER, &[port])
}

fn start<'a>(net: &'a Topology, configuration: &str, pods: &[IpAddr]) -> Gateway<'a> {
    net.manifests.apply(&service());
    net.manifests.endpoints(&service(), pods);
    Gateway::start(&net.gateway, configuration, net.directory())
}

/// Routes of the gateway to single hosts.
fn routes(to: [IpAddr; 2], via: [IpAddr; 2]) -> String {
    let route = |(to, via): (IpAddr, IpAddr)| {
        let length = if to.is_ipv4() { 32 } else { 128 };
        format!("[[routes]]\nto = \"{to}/{length}\"\nvia = \"{via}\"\n")
    };
    to.into_iter().zip(via).map(route).collect()
}

/// A transfer: its direction is in its name.
type Transfer = fn(&Namespace, SocketAddr, u64) -> Result<(), String>;

/// Transfers in both families, in these directions. The one whose packets are too long comes first: who has learned of a
/// narrow path announces small segments from then on.
fn transfer(from: &Namespace, directions: [Transfer; 2]) {
    for address in OUTSIDE {
        let to = SocketAddr::new(address, NODE_PORT);
        for direction in directions {
            direction(from, to, LENGTH).unwrap_or_else(|error| panic!("{to}: {error}"));
        }
    }
}

/// The path MTU that a host has learned towards an address; its device's if none.
fn learned(host: &Namespace, to: IpAddr) -> Option<u16> {
    let shown = host.ip(&format!("{} route get {to}", family(to)));
    let mut words = shown.split_whitespace();
    words.find(|word| *word == "mtu")?;
    words.next()?.parse().ok()
}

#[test]
fn a_pod_learns_of_a_narrow_hop_between_gateway_and_client() {
    let net = Topology::new(Plan::default());
    let narrow = [
        [v4(198, 51, 99, 1), v6(0x5099, 1)],
        [v4(198, 51, 99, 2), v6(0x5099, 2)],
    ];
    let far = behind(&net.client, FAR_CLIENT, narrow);
    let _server = bulk::serve(net.pod(0), PORT);
    let back = routes(FAR_CLIENT, [CLIENT_V4[0], CLIENT_V6[0]]);
    let _gateway = start(&net, &(net.configuration() + &back), &net.pod_addresses(0));
    transfer(&far.host, [bulk::download, bulk::upload]);
    // The router's error about a packet from the gateway has reached the pod that sent it.
    for inside in INSIDE {
        assert_eq!(
            learned(net.pod(0), inside),
            Some(NARROW),
            "towards {inside}"
        );
    }
}

#[test]
fn a_client_learns_of_a_narrow_hop_between_gateway_and_pod() {
    let net = Topology::new(Plan::default());
    let near = Namespace::new("podrouter");
    connect((&near, "eth0"), (net.switch(), "podrouter"), Offloads::Off);
    net.switch().ip("link set podrouter master br0");
    for (address, gateway) in POD_ROUTER.into_iter().zip(INSIDE) {
        near.add_address("eth0", address, length(address));
        near.ip(&format!(
            "{} route add default via {gateway}",
            family(gateway)
        ));
    }
    let narrow = [
        [v4(100, 96, 8, 1), v6(0x9608, 1)],
        [v4(100, 96, 8, 2), v6(0x9608, 2)],
    ];
    let far = behind(&near, FAR_POD, narrow);
    let _server = bulk::serve(&far.host, PORT);
    let there = routes(FAR_POD, POD_ROUTER);
    let _gateway = start(&net, &(net.configuration() + &there), &FAR_POD);
    transfer(&net.client, [bulk::upload, bulk::download]);
    for outside in OUTSIDE {
        assert_eq!(
            learned(&net.client, outside),
            Some(NARROW),
            "towards {outside}"
        );
    }
}

/// The gateway's configuration with a narrow link towards the pods. The pods' own devices stay wide.
fn narrow_link(net: &Topology, more: &str) -> String {
    let configuration = net.configuration();
    let (before, after) = configuration
        .split_once("name = \"pods\"\n")
        .expect("a link called pods");
    format!("{before}name = \"pods\"\nmtu = {NARROW}\n{more}{after}")
}

#[test]
fn a_client_learns_of_a_narrow_link_of_the_gateways_own() {
    let net = Topology::new(Plan::default());
    let _server = bulk::serve(net.pod(0), PORT);
    let gateway = start(&net, &narrow_link(&net, ""), &net.pod_addresses(0));
    for address in OUTSIDE {
        let to = SocketAddr::new(address, NODE_PORT);
        bulk::upload(&net.client, to, LENGTH).unwrap_or_else(|error| panic!("up to {to}: {error}"));
        assert_eq!(
            learned(&net.client, address),
            Some(NARROW),
            "towards {address}"
        );
    }
    assert!(gateway.counters().total("answered") > 0);
}

#[test]
fn with_clamped_segment_sizes_nobody_has_to_learn() {
    let net = Topology::new(Plan::default());
    let _server = bulk::serve(net.pod(0), PORT);
    let configuration = narrow_link(&net, "mss_clamp = \"auto\"\n");
    let _gateway = start(&net, &configuration, &net.pod_addresses(0));
    let inside = Capture::on(net.switch(), "uplink");
    let outside = Capture::on(&net.client, "eth0");
    for (address, headers) in OUTSIDE.into_iter().zip([40, 60]) {
        let to = SocketAddr::new(address, NODE_PORT);
        bulk::upload(&net.client, to, LENGTH).unwrap_or_else(|error| panic!("up to {to}: {error}"));
        assert_eq!(learned(&net.client, address), None, "towards {address}");
        for wire in [&inside, &outside] {
            let seen = wire.find(Duration::from_secs(5), |frame| announced(frame).is_some());
            let size = seen.as_deref().and_then(announced);
            assert_eq!(size, Some(NARROW - headers), "in {}", family(address));
            // What is left of this family's transfer.
            wire.collect(Duration::ZERO);
        }
    }
}

/// The segment size that a frame with a SYN or SYN-ACK announces.
fn announced(frame: &[u8]) -> Option<u16> {
    let segment = match frames::kind(frame) {
        frames::IPV4 if frame.get(23) == Some(&frames::TCP) => frame.get(34..)?,
        frames::IPV6 if frame.get(20) == Some(&frames::TCP) => frame.get(54..)?,
        _ => return None,
    };
    let is_syn = segment.get(13)? & 2 != 0;
    // Linux puts it first.
    match segment.get(20..24)? {
        [2, 4, high, low] if is_syn => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}
