//! Links and routes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::value::{
    address_with_length, cidr, is_link_local, number, unicast_address, why_not_unicast, wrong,
};
use crate::error::Error;
use crate::{FanOut, Link, MssClamp, Route, raw};

/// Smallest IPv6 MTU: RFC 8200, section 5.
const MIN_MTU_V6: u16 = 1280;

pub(super) fn links(typed: &[raw::Link]) -> Result<Vec<Link>, Error> {
    let mut links: Vec<Link> = Vec::with_capacity(typed.len());
    for (i, entry) in typed.iter().enumerate() {
        let link = link(&format!("links[{i}]"), entry, &links)?;
        links.push(link);
    }
    Ok(links)
}

fn link(at: &str, typed: &raw::Link, before: &[Link]) -> Result<Link, Error> {
    let device = typed
        .device
        .parse()
        .map_err(|rule| wrong(&format!("{at}.device"), typed.device.as_str(), rule))?;
    if before.iter().any(|link| link.device == device) {
        let rule = "be a device that no other link has";
        return Err(wrong(&format!("{at}.device"), typed.device.as_str(), rule));
    }
    let addresses = link_addresses(at, typed, before)?;
    let mtu = number(&format!("{at}.mtu"), typed.mtu, 1500, 68..=9000)?;
    if mtu < MIN_MTU_V6 && addresses.iter().any(|net| net.addr().is_ipv6()) {
        let rule = format!("be at least {MIN_MTU_V6} on a link with an IPv6 address");
        return Err(wrong(&format!("{at}.mtu"), mtu, &rule));
    }
    let vlan = match typed.vlan {
        Some(vlan) => Some(number(&format!("{at}.vlan"), Some(vlan), 0, 1..=4094)?),
        None => None,
    };
    Ok(Link {
        name: link_name(at, &typed.name, before)?,
        device,
        addresses,
        mac: typed.mac.as_deref().map(|text| mac(at, text)).transpose()?,
        vlan,
        mtu,
        mss_clamp: mss_clamp(at, typed.mss_clamp.as_deref())?,
        fan_out: fan_out(at, typed.fan_out.as_deref())?,
        kernel_interface: kernel_interface(at, typed, before)?,
    })
}

fn kernel_interface(at: &str, typed: &raw::Link, before: &[Link]) -> Result<Option<String>, Error> {
    let Some(name) = &typed.kernel_interface else {
        return Ok(None);
    };
    let key = format!("{at}.kernel_interface");
    let refuse = |rule: &str| Err(wrong(&key, name.as_str(), rule));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !(1..=15).contains(&name.len()) || !name.bytes().all(allowed) || name.starts_with('.') {
        return refuse("be an interface's name: 1 to 15 letters, digits, '_', '.' or '-'");
    }
    if before
        .iter()
        .any(|link| link.kernel_interface.as_ref() == Some(name))
    {
        return refuse("be an interface that no other link has");
    }
    if typed.device.ends_with(&format!(":{name}")) {
        return refuse("be another interface than the link's device");
    }
    if typed.vlan.is_some() {
        return refuse("be left out on a link with a vlan: the kernel's frames get no tag");
    }
    Ok(Some(name.clone()))
}

fn fan_out(at: &str, typed: Option<&str>) -> Result<FanOut, Error> {
    match typed {
        None | Some("off") => Ok(FanOut::Off),
        Some("auto") => Ok(FanOut::Auto),
        Some("even") => Ok(FanOut::Even),
        Some(text) => {
            let rule = "be \"off\", \"auto\" or \"even\"";
            Err(wrong(&format!("{at}.fan_out"), text, rule))
        }
    }
}

/// Below 88 bytes are the smallest sizes that some hosts take for an attack (Linux's `tcp_min_snd_mss` is 48).
fn mss_clamp(at: &str, typed: Option<&str>) -> Result<MssClamp, Error> {
    match typed {
        None | Some("off") => Ok(MssClamp::Off),
        Some("auto") => Ok(MssClamp::Auto),
        Some(text) => text
            .parse()
            .ok()
            .filter(|size| (88..=8960).contains(size))
            .map(MssClamp::Size)
            .ok_or_else(|| {
                let rule = "be \"off\", \"auto\" or \"88\" to \"8960\" bytes";
                wrong(&format!("{at}.mss_clamp"), text, rule)
            }),
    }
}

fn link_name(at: &str, name: &str, before: &[Link]) -> Result<String, Error> {
    let key = format!("{at}.name");
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !(1..=15).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(wrong(
            &key,
            name,
            "be 1 to 15 letters, digits, '_', '.' or '-'",
        ));
    }
    if before.iter().any(|link| link.name == name) {
        return Err(wrong(&key, name, "be a name that no other link has"));
    }
    Ok(name.to_owned())
}

fn link_addresses(at: &str, typed: &raw::Link, before: &[Link]) -> Result<Vec<IpNet>, Error> {
    let mut addresses: Vec<IpNet> = Vec::new();
    for (i, text) in typed.addresses.iter().flat_map(|list| &list.0).enumerate() {
        let key = format!("{at}.addresses[{i}]");
        let net = address_with_length(&key, text)?;
        if let Some(why) = why_not_host(net) {
            return Err(wrong(
                &key,
                text.as_str(),
                &format!("hold a host address, not {why}"),
            ));
        }
        let mut others = before
            .iter()
            .flat_map(|link| &link.addresses)
            .chain(&addresses);
        let twice = others.any(|other| other.addr() == net.addr());
        if twice && !is_link_local(net.addr()) {
            return Err(wrong(
                &key,
                text.as_str(),
                "be an address that no link has yet",
            ));
        }
        addresses.push(net);
    }
    Ok(addresses)
}

/// What keeps the address from being a host's in its own network, if anything does.
fn why_not_host(net: IpNet) -> Option<&'static str> {
    why_not_unicast(net.addr()).or(match net {
        // RFC 3021: a /31 has neither network nor broadcast address.
        IpNet::V4(v4) if v4.prefix_len() >= 31 => None,
        IpNet::V4(v4) if v4.addr() == v4.network() => Some("the network's own"),
        IpNet::V4(v4) if v4.addr() == v4.broadcast() => Some("the network's broadcast address"),
        // RFC 4291, section 2.6.1, and RFC 6164 for /127.
        IpNet::V6(v6) if v6.prefix_len() < 127 && v6.addr() == v6.network() => {
            Some("the subnet-router anycast address")
        }
        _ => None,
    })
}

/// A unicast MAC address, six pairs of hexadecimal digits.
fn mac(at: &str, text: &str) -> Result<[u8; 6], Error> {
    let octets = || {
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().filter(|pair| pair.len() == 2)?;
            // `from_str_radix` would take "+a".
            pair.bytes()
                .all(|byte| byte.is_ascii_hexdigit())
                .then_some(())?;
            *octet = u8::from_str_radix(pair, 16).ok()?;
        }
        pairs.next().is_none().then_some(octets)
    };
    octets()
        .filter(|octets| octets[0] & 1 == 0 && *octets != [0; 6])
        .ok_or_else(|| {
            let rule = "be a unicast MAC address such as 02:00:00:00:00:01";
            wrong(&format!("{at}.mac"), text, rule)
        })
}

pub(super) fn routes(typed: &[raw::Route], links: &[Link]) -> Result<Vec<Route>, Error> {
    let mut routes: Vec<Route> = Vec::with_capacity(typed.len());
    for (i, entry) in typed.iter().enumerate() {
        let at = format!("routes[{i}]");
        let route = route(&at, entry, links)?;
        if routes.iter().any(|before| before.to == route.to) {
            let rule = "be a destination that no other route has";
            return Err(wrong(&format!("{at}.to"), entry.to.as_str(), rule));
        }
        routes.push(route);
    }
    Ok(routes)
}

fn route(at: &str, typed: &raw::Route, links: &[Link]) -> Result<Route, Error> {
    let to = cidr(&format!("{at}.to"), &typed.to)?;
    let link = match &typed.link {
        Some(name) => Some(
            links
                .iter()
                .find(|link| link.name == *name)
                .ok_or_else(|| {
                    let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
                    let rule = format!("be the name of a link ({})", names.join(", "));
                    wrong(&format!("{at}.link"), name.as_str(), &rule)
                })?,
        ),
        None => None,
    };
    let via = match &typed.via {
        Some(text) => Some(via(&format!("{at}.via"), text, to, link, links)?),
        None if link.is_none() => {
            return Err(Error::Missing {
                key: format!("{at}.via"),
                rule: "a route needs a next hop (via), a link, or both".to_owned(),
            });
        }
        None => None,
    };
    Ok(Route {
        to,
        via,
        link: typed.link.clone(),
    })
}

/// The next hop: of the destination's family, a neighbour, and not the gateway itself.
fn via(
    key: &str,
    text: &str,
    to: IpNet,
    link: Option<&Link>,
    links: &[Link],
) -> Result<IpAddr, Error> {
    let via = unicast_address(key, text)?;
    if via.is_ipv4() != to.addr().is_ipv4() {
        let rule = format!("be of the same address family as the destination {to}");
        return Err(wrong(key, text, &rule));
    }
    let candidates = || {
        links
            .iter()
            .filter(|each| link.is_none_or(|link| link.name == each.name))
    };
    let networks = || candidates().flat_map(|link| &link.addresses);
    if networks().any(|net| net.addr() == via) {
        return Err(wrong(
            key,
            text,
            "be another host's address, not the gateway's own",
        ));
    }
    // RFC 4291, section 2.5.6: the same link-local address may be a neighbour on every link.
    if via.is_ipv6() && is_link_local(via) {
        let rule = "stand beside the name of a link, for it is a link-local address";
        return link.map(|_| via).ok_or_else(|| wrong(key, text, rule));
    }
    if networks().any(|net| net.contains(&via)) {
        return Ok(via);
    }
    let rule = match link {
        Some(link) => format!("lie in a network of the addresses of link {:?}", link.name),
        None => "lie in a network of some link's addresses".to_owned(),
    };
    Err(wrong(key, text, &rule))
}
