//! Ethernet II headers with at most one 802.1Q tag, and MAC addresses.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 6 | destination |
//! | 6 | 6 | source |
//! | 12 | 2 | EtherType, or 0x8100 and the tag: |
//! | 14 | 2 | priority (3 bits), drop eligible (1), VLAN id (12) |
//! | 16 | 2 | EtherType of what follows |
//!
//! The network header starts at 14, or at 18 behind a tag: everyone calls that offset `l3`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::field::{get, put_u16};
use crate::parse::{ETHERNET_HEADER as HEADER, VLAN_TAG};

/// Offset of the destination MAC.
pub const DESTINATION: usize = 0;
/// Offset of the source MAC.
pub const SOURCE: usize = 6;
/// Offset of the EtherType.
pub const ETHERTYPE: usize = 12;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The group that carries an IPv6 multicast address: 33:33 and its last 32 bits (RFC 2464, 7).
    #[must_use]
    pub const fn of_group(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }

    /// Whether it names a group (broadcast included): the lowest bit of the first byte.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether it is all ones.
    #[must_use]
    pub const fn is_broadcast(self) -> bool {
        matches!(self, Self::BROADCAST)
    }

    /// Whether it can be the address of one station: no group and not all zeros.
    #[must_use]
    pub const fn is_station(self) -> bool {
        !self.is_multicast() && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// A text that is no MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAMac;

impl fmt::Display for NotAMac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a MAC address is six pairs of hexadecimal digits with colons between")
    }
}

impl std::error::Error for NotAMac {}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut mac = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut mac {
            let pair = pairs.next().ok_or(NotAMac)?;
            // `from_str_radix` alone would take a sign.
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NotAMac);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAMac)?;
        }
        match pairs.next() {
            None => Ok(Self(mac)),
            Some(_) => Err(NotAMac),
        }
    }
}

/// Destination of the frame, if it has one.
#[must_use]
pub fn destination(bytes: &[u8]) -> Option<Mac> {
    get(bytes, DESTINATION).map(Mac)
}

/// Source of the frame, if it has one.
#[must_use]
pub fn source(bytes: &[u8]) -> Option<Mac> {
    get(bytes, SOURCE).map(Mac)
}

/// Writes destination and source; false, and nothing changed, if the frame is shorter than both.
pub fn set_addresses(bytes: &mut [u8], destination: Mac, source: Mac) -> bool {
    let Some(header) = bytes.first_chunk_mut::<12>() else {
        return false;
    };
    let (to, from) = header.split_at_mut(SOURCE);
    to.copy_from_slice(&destination.0);
    from.copy_from_slice(&source.0);
    true
}

/// Exchanges destination and source; false, and nothing changed, if the frame is shorter than both.
pub fn swap(bytes: &mut [u8]) -> bool {
    match (destination(bytes), source(bytes)) {
        (Some(destination), Some(source)) => set_addresses(bytes, source, destination),
        _ => false,
    }
}

/// Where the network header starts behind a header with or without a tag.
#[must_use]
pub const fn l3(vlan: Option<u16>) -> usize {
    match vlan {
        None => HEADER,
        Some(_) => HEADER + VLAN_TAG,
    }
}

/// Writes a whole header, tagged if `vlan` (an id; priority 0) is given; returns where the network
/// header starts, or `None`, with unspecified content, if the frame is shorter than that.
pub fn write_header(
    bytes: &mut [u8],
    destination: Mac,
    source: Mac,
    vlan: Option<u16>,
    ethertype: u16,
) -> Option<usize> {
    set_addresses(bytes, destination, source).then_some(())?;
    if let Some(vlan) = vlan {
        put_u16(bytes, ETHERTYPE, VLAN)?;
        put_u16(bytes, HEADER, vlan & 0x0fff)?;
    }
    let l3 = l3(vlan);
    put_u16(bytes, l3 - 2, ethertype)?;
    Some(l3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn groups_broadcast_and_stations() {
        assert!(Mac::BROADCAST.is_multicast() && Mac::BROADCAST.is_broadcast());
        assert!(Mac([1, 0, 0x5e, 0, 0, 1]).is_multicast());
        assert!(!Mac([1, 0, 0x5e, 0, 0, 1]).is_broadcast());
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_station());
        assert!(!Mac([0; 6]).is_station() && !Mac::BROADCAST.is_station());
        let solicited: Ipv6Addr = "ff02::1:ff28:9c5a".parse().unwrap();
        assert_eq!(Mac::of_group(solicited).to_string(), "33:33:ff:28:9c:5a");
    }

    #[test]
    fn texts_that_are_no_mac() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "+2:00:00:00:00:01",
            "0g:00:00:00:00:01",
            "02:00:00:00:00:01 ",
            "é:00:00:00:00:01",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(NotAMac), "{text}");
        }
        assert_eq!("0A:00:00:00:00:fF".parse(), Ok(Mac([10, 0, 0, 0, 0, 255])));
    }

    #[test]
    fn headers_with_and_without_a_tag() {
        let (to, from) = (Mac([2; 6]), Mac([4; 6]));
        let mut bytes = [0xee; 18];
        assert_eq!(write_header(&mut bytes, to, from, None, IPV6), Some(14));
        assert_eq!(bytes[12..], [0x86, 0xdd, 0xee, 0xee, 0xee, 0xee]);
        assert_eq!(
            write_header(&mut bytes, to, from, Some(0x123), ARP),
            Some(18)
        );
        assert_eq!(bytes[..12], [2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4]);
        assert_eq!(bytes[12..], [0x81, 0, 0x01, 0x23, 0x08, 0x06]);
        assert_eq!(write_header(&mut bytes[..17], to, from, Some(1), ARP), None);
        assert!(swap(&mut bytes));
        assert_eq!(
            (destination(&bytes), source(&bytes)),
            (Some(from), Some(to))
        );
        assert!(!swap(&mut bytes[..11]));
    }

    proptest! {
        #[test]
        fn what_is_displayed_parses(bytes in any::<[u8; 6]>()) {
            prop_assert_eq!(Mac(bytes).to_string().parse(), Ok(Mac(bytes)));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,24}") {
            if let Ok(mac) = text.parse::<Mac>() {
                prop_assert_eq!(mac.to_string(), text.to_lowercase());
            }
        }
    }
}
