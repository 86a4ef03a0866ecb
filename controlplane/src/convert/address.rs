//! Addresses and prefixes as people write them.
//!
//! Kubernetes has accepted numbers with leading zeros for years and means them as decimal; a
//! strict parser would refuse them and a C parser would take them for octal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hugepages::object::Prefix;

/// The address that `text` means: blanks around it are ignored, leading zeros are decimal, and an
/// IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is the IPv4 address.
#[must_use]
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.contains(':') {
        parse_v6(text).map(|address| IpAddr::V6(address).to_canonical())
    } else {
        parse_v4(text).map(IpAddr::V4)
    }
}

/// The prefix that `text` means, with host bits cleared. A length is required.
#[must_use]
pub fn parse_prefix(text: &str) -> Option<Prefix> {
    let (address, length) = text.trim().split_once('/')?;
    let length = decimal(length, 128)?;
    let address = if address.contains(':') {
        IpAddr::V6(parse_v6(address)?)
    } else {
        IpAddr::V4(parse_v4(address)?)
    };
    prefix(address, u8::try_from(length).ok()?)
}

/// The prefix of this length that holds `address`; `None` if the family has fewer bits.
#[must_use]
pub fn prefix(address: IpAddr, length: u8) -> Option<Prefix> {
    let network = ipnet::IpNet::new(address, length).ok()?;
    Some(Prefix {
        address: network.network(),
        length,
    })
}

/// Whether `address` can be that of a host: not unspecified, loopback, multicast or broadcast.
#[must_use]
pub fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = u8::try_from(decimal(parts.next()?, 255)?).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// Groups of an IPv6 address are hexadecimal anyway; only an IPv4 tail needs care.
fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    match text.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => format!("{head}:{}", parse_v4(tail)?)
            .parse::<Ipv6Addr>()
            .ok(),
        _ => text.parse().ok(),
    }
}

/// A decimal number up to `most`, leading zeros allowed, nothing but digits.
fn decimal(text: &str, most: u32) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u32 = text.parse().ok()?;
    (number <= most).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<String> {
        parse_address(text).map(|address| address.to_string())
    }

    fn prefix_text(text: &str) -> Option<String> {
        parse_prefix(text).map(|prefix| format!("{}/{}", prefix.address, prefix.length))
    }

    #[test]
    fn leading_zeros_are_decimal_and_blanks_are_trimmed() {
        assert_eq!(address("172.30.0.041").as_deref(), Some("172.30.0.41"));
        assert_eq!(address("198.051.100.004").as_deref(), Some("198.51.100.4"));
        assert_eq!(address(" 192.0.2.1\t").as_deref(), Some("192.0.2.1"));
        assert_eq!(address("2001:0db8::0001").as_deref(), Some("2001:db8::1"));
        assert_eq!(
            prefix_text("203.0.113.000/025").as_deref(),
            Some("203.0.113.0/25")
        );
        assert_eq!(
            prefix_text(" 198.51.100.0/24").as_deref(),
            Some("198.51.100.0/24")
        );
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
        assert_eq!(address("::ffff:010.0.0.08").as_deref(), Some("10.0.0.8"));
        assert_eq!(
            address("64:ff9b::1.2.3.04").as_deref(),
            Some("64:ff9b::102:304")
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.-4",
            "1.2.3.0x4",
            "1..2.3",
            "::1::",
            "fe80::1%eth0",
            "db.example.net",
            "12345",
            "1.2.3.99999999999999999999",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
        for text in [
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/+8",
        ] {
            assert_eq!(prefix_text(text), None, "{text}");
        }
    }

    #[test]
    fn host_bits_of_a_prefix_are_cleared() {
        assert_eq!(prefix_text("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(
            prefix_text("2001:db8::1/32").as_deref(),
            Some("2001:db8::/32")
        );
        assert_eq!(prefix_text("10.1.2.3/0").as_deref(), Some("0.0.0.0/0"));
    }

    #[test]
    fn only_host_addresses_count_as_hosts() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
        ] {
            assert!(!is_host(text.parse().unwrap()), "{text}");
        }
        assert!(is_host("169.254.0.1".parse().unwrap()));
        assert!(is_host("fe80::1".parse().unwrap()));
    }
}
