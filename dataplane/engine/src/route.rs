//! Longest-prefix routes: a hash map for each prefix length in use, longest first.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use hugepages::object::Prefix;

use crate::family::SPREAD;

/// Where packets for a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Egress link.
    pub link: u8,
    /// Next hop; `None` = the destination itself is on the link.
    pub via: Option<IpAddr>,
}

/// Routes of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    v4: Vec<(u8, Targets<u32>)>,
    v6: Vec<(u8, Targets<u128>)>,
}

/// Targets by the leading bits of their prefix.
type Targets<K> = HashMap<K, Target, BuildHasherDefault<PrefixHasher>>;

/// Routes come from the control plane, not from packets: no need for a hash that withstands attacks
/// (the standard one costs 150 ns of each new flow).
#[derive(Debug, Default, Clone, Copy)]
struct PrefixHasher(u64);

impl Hasher for PrefixHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(SPREAD);
        }
    }

    #[inline]
    fn write_u32(&mut self, bits: u32) {
        // The map looks at the highest and the lowest bits.
        let product = (u64::from(bits) + 1).wrapping_mul(SPREAD);
        self.0 = product ^ product >> 32;
    }

    #[inline]
    fn write_u128(&mut self, bits: u128) {
        let product = u128::from(bits as u64 ^ SPREAD)
            * u128::from((bits >> 64) as u64 ^ SPREAD.rotate_left(32));
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Routes {
    /// Adds a route; one with the same prefix is replaced.
    pub fn insert(&mut self, to: Prefix, target: Target) {
        match to.address {
            IpAddr::V4(address) => {
                let bits = leading4(address.to_bits(), to.length);
                targets_of(&mut self.v4, to.length).insert(bits, target);
            }
            IpAddr::V6(address) => {
                let bits = leading6(address.to_bits(), to.length);
                targets_of(&mut self.v6, to.length).insert(bits, target);
            }
        }
    }

    /// The route of the longest prefix that holds `address`.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Target> {
        match address {
            IpAddr::V4(address) => self.v4.iter().find_map(|(length, targets)| {
                targets.get(&leading4(address.to_bits(), *length)).copied()
            }),
            IpAddr::V6(address) => self.v6.iter().find_map(|(length, targets)| {
                targets.get(&leading6(address.to_bits(), *length)).copied()
            }),
        }
    }
}

/// Whether `prefix` holds `address`.
#[must_use]
pub fn contains(prefix: &Prefix, address: IpAddr) -> bool {
    let length = prefix.length;
    match (prefix.address, address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => {
            leading4(prefix.to_bits() ^ address.to_bits(), length) == 0
        }
        (IpAddr::V6(prefix), IpAddr::V6(address)) => {
            leading6(prefix.to_bits() ^ address.to_bits(), length) == 0
        }
        _ => false,
    }
}

/// The targets of prefixes of this length, among all lengths, longest first.
fn targets_of<K>(lengths: &mut Vec<(u8, Targets<K>)>, length: u8) -> &mut Targets<K> {
    let at = lengths.partition_point(|(other, _)| *other > length);
    if lengths.get(at).is_none_or(|(other, _)| *other != length) {
        lengths.insert(at, (length, Targets::default()));
    }
    &mut lengths[at].1
}

/// The leading `length` bits of an IPv4 address, in the low bits.
#[inline]
fn leading4(bits: u32, length: u8) -> u32 {
    bits.checked_shr(u32::from(32 - length.min(32)))
        .unwrap_or(0)
}

/// The same for IPv6.
#[inline]
fn leading6(bits: u128, length: u8) -> u128 {
    bits.checked_shr(u32::from(128 - length.min(128)))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix {
            address: address.parse().unwrap(),
            length: length.parse().unwrap(),
        }
    }

    fn target(link: u8) -> Target {
        Target { link, via: None }
    }

    #[test]
    fn the_longest_prefix_wins_in_its_family() {
        let mut routes = Routes::default();
        for (link, to) in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3/32",
            "::/0",
        ]
        .iter()
        .enumerate()
        {
            routes.insert(prefix(to), target(link as u8));
        }
        let link = |address: &str| routes.lookup(address.parse().unwrap()).map(|t| t.link);
        assert_eq!(link("192.0.2.1"), Some(0));
        assert_eq!(link("10.9.9.9"), Some(1));
        assert_eq!(link("10.1.9.9"), Some(2));
        assert_eq!(link("10.1.2.3"), Some(3));
        assert_eq!(link("2001:db8::1"), Some(4));
        assert_eq!(Routes::default().lookup("10.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn a_prefix_holds_its_own_addresses_and_none_of_the_other_family() {
        assert!(contains(
            &prefix("10.0.0.0/8"),
            "10.255.255.255".parse().unwrap()
        ));
        assert!(!contains(
            &prefix("10.0.0.0/8"),
            "11.0.0.0".parse().unwrap()
        ));
        assert!(contains(&prefix("0.0.0.0/0"), "1.2.3.4".parse().unwrap()));
        assert!(!contains(&prefix("0.0.0.0/0"), "::1".parse().unwrap()));
        assert!(contains(&prefix("::/0"), "::1".parse().unwrap()));
    }
}
