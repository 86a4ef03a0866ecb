//! What the gateway is connected to: links, their addresses, static routes. Fixed while it runs.

use std::net::IpAddr;

use hugepages::object::{Prefix, Route};

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
    /// Own addresses, each with the prefix length of the connected network.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl LinkConfig {
    /// The link's own address to speak to `towards` with: one whose network holds it, else the first
    /// of its family.
    #[must_use]
    pub fn source_for(&self, towards: IpAddr) -> Option<IpAddr> {
        let mut family = self
            .addresses
            .iter()
            .filter(|(own, _)| own.is_ipv4() == towards.is_ipv4());
        let near = family.clone().find(|(own, length)| {
            contains(
                &Prefix {
                    address: *own,
                    length: *length,
                },
                towards,
            )
        });
        near.or_else(|| family.next()).map(|(own, _)| *own)
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
        let mut routes = Routes::default();
        for route in learned {
            if let Some(link) = self.link_towards(route.via) {
                routes.insert(
                    route.to,
                    Target {
                        link,
                        via: Some(route.via),
                    },
                );
            }
        }
        for route in &self.routes {
            let link = route.link.or_else(|| self.link_towards(route.via?));
            if let Some(link) = link {
                routes.insert(
                    route.to,
                    Target {
                        link,
                        via: route.via,
                    },
                );
            }
        }
        for (link, config) in self.links.iter().enumerate() {
            for (address, length) in &config.addresses {
                let to = Prefix {
                    address: *address,
                    length: *length,
                };
                routes.insert(
                    to,
                    Target {
                        link: link as u8,
                        via: None,
                    },
                );
            }
        }
        routes
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
