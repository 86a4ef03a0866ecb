//! What the gateway is connected to: links, their addresses, static routes. Fixed while it runs.

use std::net::IpAddr;

use hugepages::object::{Prefix, Route};

use crate::family::{Family, V4, V6};
use crate::ranges::Address;
use crate::route::{Routes, Target, contains};

/// One link, as the packet path needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Name, for messages.
    pub name: String,
    /// Source of every frame sent, destination of every frame accepted.
    pub mac: [u8; 6],
    /// VLAN id of every frame on the link.
    pub vlan: Option<u16>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// What segment sizes TCP connections through the link may agree upon.
    pub mss_clamp: MssClamp,
    /// Own addresses, each with the prefix length of the connected network.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// What segment size a TCP connection may agree upon at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MssClamp {
    /// Any.
    #[default]
    Off,
    /// What fits the smaller MTU of the two links that the connection passes.
    Auto,
    /// So many bytes.
    Size(u16),
}

impl LinkConfig {
    /// The link's own address to speak to `towards` with: one whose network holds it, else the first
    /// of its family.
    #[must_use]
    pub fn source_for(&self, towards: IpAddr) -> Option<IpAddr> {
        match towards {
            IpAddr::V4(to) => self.source::<V4>(to.to_bits()).map(V4::address),
            IpAddr::V6(to) => self.source::<V6>(to.to_bits()).map(V6::address),
        }
    }

    /// [`LinkConfig::source_for`] with numbers.
    #[inline]
    pub(crate) fn source<F: Family>(&self, towards: F::Address) -> Option<F::Address> {
        let mut first = None;
        for (own, length) in &self.addresses {
            let Some(own) = F::number(*own) else {
                continue;
            };
            if own.shares(towards, *length) {
                return Some(own);
            }
            first = first.or(Some(own));
        }
        first
    }

    /// Whether `address` lies on one of the link's connected networks.
    #[must_use]
    pub fn is_connected(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(own, length)| {
            contains(
                &Prefix {
                    address: *own,
                    length: *length,
                },
                address,
            )
        })
    }
}

/// A route from the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticRoute {
    /// Destination.
    pub to: Prefix,
    /// Next hop; `None` = on the link itself.
    pub via: Option<IpAddr>,
    /// Link; `None` = the one whose connected network holds `via`.
    pub link: Option<u8>,
}

/// Links and static routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Links, by index.
    pub links: Vec<LinkConfig>,
    /// Static routes.
    pub routes: Vec<StaticRoute>,
}

impl Topology {
    /// The route table: connected networks win over static routes, those over learned ones, for
    /// the same prefix. Routes whose next hop is on no connected network are left out.
    #[must_use]
    pub fn routes(&self, learned: impl Iterator<Item = Route>) -> Routes {
        let learned = learned.filter_map(|route| {
            let link = self.link_towards(route.via)?;
            let via = Some(route.via);
            Some((route.to, Target { link, via }))
        });
        let fixed = self.routes.iter().filter_map(|route| {
            let link = route.link.or_else(|| self.link_towards(route.via?))?;
            let via = route.via;
            Some((route.to, Target { link, via }))
        });
        let connected = self.links.iter().zip(0..).flat_map(|(config, link)| {
            config.addresses.iter().map(move |(address, length)| {
                let (address, length) = (*address, *length);
                (Prefix { address, length }, Target { link, via: None })
            })
        });
        // The later of two to the same prefix counts.
        let routes: Vec<_> = learned.chain(fixed).chain(connected).collect();
        Routes::new(&routes)
    }

    /// Every address of every link.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.links
            .iter()
            .flat_map(|link| link.addresses.iter().map(|(address, _)| *address))
    }

    fn link_towards(&self, address: IpAddr) -> Option<u8> {
        self.links
            .iter()
            .position(|link| link.is_connected(address))
            .map(|at| at as u8)
    }
}
