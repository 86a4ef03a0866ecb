//! Which network interfaces a machine cannot do without: that of the default route, and that of whoever asks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::Root;

/// Flags of routes (linux/route.h).
const UP: u32 = 0x1;
const GATEWAY: u32 = 0x2;
const REJECT: u32 = 0x200;

/// Why an interface must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Packets to everywhere else leave by it.
    DefaultRoute,
    /// The session from which this program was started comes in by it.
    Session,
}

/// The two ends of a remote session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    client: IpAddr,
    server: IpAddr,
    /// Interface that a link-local address names.
    zone: Option<String>,
}

impl Session {
    /// Reads what sshd puts into SSH_CONNECTION: client's address and port, server's address and port.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<_> = text.split_whitespace().collect();
        let [client, _, server, ..] = fields[..] else {
            return None;
        };
        let (client, client_zone) = address(client)?;
        let (server, server_zone) = address(server)?;
        Some(Self {
            client,
            server,
            zone: client_zone.or(server_zone),
        })
    }
}

/// The interfaces that must stay and why, with those beneath them (a bridge's ports, a VLAN's device).
#[must_use]
pub fn needed(root: &Root, session: Option<&Session>) -> BTreeSet<(String, Use)> {
    let routes = routes(root);
    let mut needed = BTreeSet::new();
    for route in routes.iter().filter(|route| route.length == 0) {
        add(root, &mut needed, &route.interface, Use::DefaultRoute);
    }
    if let Some(session) = session {
        let own = own_v6(root, session.server);
        let onlink = routes.iter().filter(|route| !route.via);
        // The way in by the server's own network, the way out by the route to the client.
        let ways = [
            best(onlink, session.server),
            best(routes.iter(), session.client),
        ];
        let ways = ways
            .into_iter()
            .flatten()
            .map(|route| route.interface.clone());
        for interface in ways.chain(own).chain(session.zone.clone()) {
            add(root, &mut needed, &interface, Use::Session);
        }
    }
    needed
}

fn add(root: &Root, needed: &mut BTreeSet<(String, Use)>, interface: &str, why: Use) {
    if interface == "lo" || !needed.insert((interface.to_owned(), why)) {
        return;
    }
    for name in root.names(&format!("/sys/class/net/{interface}")) {
        if let Some(lower) = name.strip_prefix("lower_") {
            add(root, needed, lower, why);
        }
    }
}

/// One entry of the main table.
#[derive(Debug)]
struct Route {
    to: IpAddr,
    length: u8,
    via: bool,
    interface: String,
}

fn routes(root: &Root) -> Vec<Route> {
    let v4 = root.text("/proc/net/route").unwrap_or_default();
    let v6 = root.text("/proc/net/ipv6_route").unwrap_or_default();
    let v4 = v4.lines().filter_map(route_v4);
    v4.chain(v6.lines().filter_map(route_v6)).collect()
}

/// `eth0 00000000 0100A8C0 0003 0 0 0 00000000 ...`: addresses are in the machine's byte order.
fn route_v4(line: &str) -> Option<Route> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [interface, to, _, flags, _, _, _, mask, ..] = fields[..] else {
        return None;
    };
    let hex = |text| u32::from_str_radix(text, 16).ok();
    let flags = hex(flags)?;
    (flags & UP != 0 && flags & REJECT == 0).then_some(())?;
    Some(Route {
        to: Ipv4Addr::from(hex(to)?.to_ne_bytes()).into(),
        length: hex(mask)?.count_ones() as u8,
        via: flags & GATEWAY != 0,
        interface: interface.to_owned(),
    })
}

/// Destination and length, source and length, next hop, metric, counts, flags, interface; all in hexadecimal.
fn route_v6(line: &str) -> Option<Route> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [to, length, _, _, _, _, _, _, flags, interface] = fields[..] else {
        return None;
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    (flags & UP != 0 && flags & REJECT == 0).then_some(())?;
    Some(Route {
        to: Ipv6Addr::from(u128::from_str_radix(to, 16).ok()?).into(),
        length: u8::from_str_radix(length, 16).ok()?,
        via: flags & GATEWAY != 0,
        interface: interface.to_owned(),
    })
}

fn best<'a>(routes: impl Iterator<Item = &'a Route>, to: IpAddr) -> Option<&'a Route> {
    let leading = routes.filter(|route| leads_to(route, to) && route.interface != "lo");
    leading.max_by_key(|route| route.length)
}

fn leads_to(route: &Route, to: IpAddr) -> bool {
    let (bits, width) = match (route.to, to) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
        _ => return false,
    };
    route.length == 0 || bits >> (width - u32::from(route.length).min(width)) == 0
}

/// The interface that has this IPv6 address: `/proc/net/if_inet6`.
fn own_v6(root: &Root, address: IpAddr) -> Option<String> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let wanted = format!("{:032x}", address.to_bits());
    let text = root.text("/proc/net/if_inet6")?;
    let line = text.lines().find(|line| line.starts_with(&wanted))?;
    line.split_whitespace().last().map(str::to_owned)
}

/// An address, and the interface that stands behind its `%`.
fn address(text: &str) -> Option<(IpAddr, Option<String>)> {
    let (text, zone) = match text.split_once('%') {
        Some((text, zone)) => (text, Some(zone.to_owned())),
        None => (text, None),
    };
    Some((text.parse::<IpAddr>().ok()?.to_canonical(), zone))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    /// Default by eth0, 10.2.0.0/16 on eth1, 10.9.0.0/16 by a router on eth1, IPv6 default by br0.
    fn machine() -> Fake {
        let fake = Fake::new();
        fake.file(
            "/proc/net/route",
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
             eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n\
             eth1 0000020A 00000000 0001 0 0 0 0000FFFF 0 0 0\n\
             eth1 0000090A 0100020A 0003 0 0 0 0000FFFF 0 0 0\n",
        );
        fake.file(
            "/proc/net/ipv6_route",
            "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
             fe800000000000000000000000000001 00000400 00000001 00000000 00000003 br0\n\
             00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
             00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n",
        );
        fake.file("/sys/class/net/br0/lower_eth3/x", "");
        fake
    }

    fn names(fake: &Fake, session: Option<&str>, why: Use) -> Vec<String> {
        let session = session.map(|text| Session::parse(text).unwrap());
        let needed = needed(&fake.root(), session.as_ref());
        needed
            .into_iter()
            .filter(|(_, found)| *found == why)
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn default_routes_of_both_families_and_what_lies_beneath_them_are_needed() {
        assert_eq!(
            names(&machine(), None, Use::DefaultRoute),
            ["br0", "eth0", "eth3"]
        );
    }

    #[test]
    fn a_session_needs_the_way_in_and_the_way_back() {
        let fake = machine();
        let session = |text| names(&fake, Some(text), Use::Session);
        assert_eq!(session("10.2.3.4 5 10.2.0.1 22"), ["eth1"]);
        assert_eq!(session("10.9.3.4 5 10.2.0.1 22"), ["eth1"]);
        assert_eq!(session("::ffff:10.2.3.4 5 ::ffff:10.2.0.1 22"), ["eth1"]);
        assert_eq!(session("8.8.8.8 5 10.2.0.1 22"), ["eth0", "eth1"]);
        assert_eq!(
            session("fe80::1%eth1 5 fe80::2%eth1 22"),
            ["br0", "eth1", "eth3"]
        );
    }

    #[test]
    fn an_own_ipv6_address_names_its_interface() {
        let fake = Fake::new();
        fake.file(
            "/proc/net/if_inet6",
            "20010db8000000000000000000000010 03 40 00 80     eth5\n",
        );
        let needed = names(&fake, Some("2001:db8::1 5 2001:db8::10 22"), Use::Session);
        assert_eq!(needed, ["eth5"]);
    }

    #[test]
    fn what_is_no_connection_is_no_session() {
        for text in ["", "a b c d", "10.0.0.1 5"] {
            assert_eq!(Session::parse(text), None, "{text}");
        }
    }
}
