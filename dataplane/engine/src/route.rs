//! Longest-prefix routes.

use std::collections::HashMap;
use std::net::IpAddr;

use hugepages::object::Prefix;

use crate::family::{Family, V4, V6};
use crate::ranges::{Address, Ranges};

/// Where packets for a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// Egress link.
    pub link: u8,
    /// Next hop; `None` = the destination itself is on the link.
    pub via: Option<IpAddr>,
}

/// Routes of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// All different targets.
    targets: Vec<Target>,
    /// One more than the target's index by destination; 0 = no route.
    v4: Ranges<u32, u16>,
    v6: Ranges<u128, u16>,
}

impl Routes {
    /// Routes to these prefixes; of two to the same one the later counts.
    #[must_use]
    pub fn new(routes: &[(Prefix, Target)]) -> Self {
        let mut targets: Vec<Target> = Vec::new();
        let mut numbers = HashMap::new();
        let numbered: Vec<(&Prefix, u16)> = routes
            .iter()
            .map(|(to, target)| {
                let number = *numbers.entry(*target).or_insert_with(|| {
                    targets.push(*target);
                    // 65,535 different next hops are past what a neighbour table holds.
                    u16::try_from(targets.len()).unwrap_or(0)
                });
                (to, number)
            })
            .collect();
        Self {
            targets,
            v4: Ranges::nested(numbered.iter().copied()),
            v6: Ranges::nested(numbered.iter().copied()),
        }
    }

    /// The route of the longest prefix that holds `address`.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Target> {
        let (_, target) = match address {
            IpAddr::V4(address) => self.towards::<V4>(address.to_bits())?,
            IpAddr::V6(address) => self.towards::<V6>(address.to_bits())?,
        };
        Some(*target)
    }

    /// The same, with the target's number among all.
    #[inline]
    pub(crate) fn towards<F: Family>(&self, address: F::Address) -> Option<(usize, &Target)> {
        let number = usize::from(F::ranges(&self.v4, &self.v6).get(address)).checked_sub(1)?;
        Some((number, self.targets.get(number)?))
    }
}

/// Whether `prefix` holds `address`.
#[must_use]
pub fn contains(prefix: &Prefix, address: IpAddr) -> bool {
    match (prefix.address, address) {
        (IpAddr::V4(own), IpAddr::V4(address)) => {
            own.to_bits().shares(address.to_bits(), prefix.length)
        }
        (IpAddr::V6(own), IpAddr::V6(address)) => {
            own.to_bits().shares(address.to_bits(), prefix.length)
        }
        _ => false,
    }
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
        let prefixes = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3/32",
            "::/0",
        ];
        let numbered = prefixes.iter().zip(0..);
        let routes: Vec<_> = numbered
            .map(|(to, link)| (prefix(to), target(link)))
            .collect();
        let routes = Routes::new(&routes);
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
