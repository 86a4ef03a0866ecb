//! The service snapshot: what workers decide by, immutable, one generation after the other.
//!
//! Built on the main core from installed objects ([`crate::install`]), shared by `Arc`. Frontends are
//! spread over shards, so that a change copies the shards it touches and the list of shards,
//! not every frontend.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hugepages::object::{
    Backend, FrontendKind, Key, OnEndpointGone, Prefix, Protocol, SourceClass, Why,
};

use crate::family::{Family, SPREAD, V4, V6, mix};
use crate::maglev::Maglev;
use crate::ranges::Ranges;
use crate::route::Routes;

/// Number of shards: with 100,000 frontends a change copies about 100 entries and 1,024 pointers.
const SHARDS: usize = 1024;

/// What all workers decide by.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The control plane's generation number.
    pub generation: u64,
    /// Prefixes with a meaning.
    pub networks: Arc<Networks>,
    /// Routes: connected, static and learned.
    pub routes: Arc<Routes>,
    /// Counts changes of `routes` (12 bits, wrapping): flows carry it to notice.
    pub route_generation: u16,
    frontends: Vec<Arc<Shard>>,
}

/// A service port, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Key.
    pub key: Key,
    /// Slot of its counters.
    pub slot: u32,
    /// `namespace/name`.
    pub name: String,
    /// Name of the port, or empty.
    pub port_name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// What to do with flows whose endpoint is gone.
    pub on_endpoint_gone: OnEndpointGone,
}

/// Backends and the way to choose among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSet {
    /// The backends, sorted.
    pub members: Vec<Backend>,
    /// Choice by hash.
    pub maglev: Maglev,
}

/// What a frontend does with a new flow of one source class; [`hugepages::object::Action`] resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Choose a backend.
    Translate {
        /// From these.
        set: Arc<ResolvedSet>,
        /// Rewrite the source too.
        masquerade: bool,
    },
    /// Refuse.
    Reject(Why),
    /// Say nothing.
    Drop(Why),
}

/// A frontend, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// Its address.
    pub address: IpAddr,
    /// Its protocol; `Any` for all others of an allocated address.
    pub protocol: Protocol,
    /// Its port; 0 with `Any`.
    pub port: u16,
    /// Which kind of address.
    pub kind: FrontendKind,
    /// Its service; `None` only with `Any`.
    pub service: Option<Arc<ServiceEntry>>,
    /// Seconds of ClientIP affinity; 0 = none.
    pub affinity_timeout: u32,
    /// Sources allowed; `None` = all.
    pub ranges: Option<Arc<Vec<Prefix>>>,
    /// By [`SourceClass`].
    pub actions: [Action; 3],
}

/// Prefixes with a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks {
    /// Pods live here.
    pub pods: Vec<Prefix>,
    /// ClusterIPs come from here.
    pub services: Vec<Prefix>,
    /// The gateway's own addresses.
    pub own: Vec<IpAddr>,
    /// Addresses to masquerade with, instead of the egress link's.
    pub snat: Vec<IpAddr>,
    /// All of this by address, in bits.
    v4: Ranges<u32, u8>,
    v6: Ranges<u128, u8>,
}

/// One of [`Networks::own`].
const OWN: u8 = 1;
/// In one of [`Networks::pods`].
const POD: u8 = 2;
/// In one of [`Networks::services`].
const SERVICE: u8 = 4;
/// Nothing that is received comes from here.
const NO_SOURCE: u8 = 8;

/// Addresses that no host can have as a source (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5).
const IMPOSSIBLE: [(IpAddr, u8); 6] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V4(Ipv4Addr::LOCALHOST), 8),
    // Multicast, reserved, broadcast.
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

impl Default for Networks {
    fn default() -> Self {
        Self::new([const { Vec::new() }; 2], &[], Vec::new(), Vec::new())
    }
}

impl Networks {
    /// Pods' and services' prefixes; the links' addresses, all other addresses of the gateway, and those to
    /// masquerade with.
    #[must_use]
    pub fn new(
        [pods, services]: [Vec<Prefix>; 2],
        links: &[IpAddr],
        others: Vec<IpAddr>,
        mut snat: Vec<IpAddr>,
    ) -> Self {
        let mut own = others;
        own.extend(links);
        own.sort_unstable();
        own.dedup();
        snat.sort_unstable();
        let host = |address: &IpAddr| Prefix {
            address: *address,
            length: if address.is_ipv4() { 32 } else { 128 },
        };
        let impossible = IMPOSSIBLE.map(|(address, length)| Prefix { address, length });
        let hosts: Vec<(Prefix, u8)> = own
            .iter()
            .map(|address| (host(address), OWN))
            // A frame from a link's own address has come back, or lies.
            .chain(links.iter().map(|address| (host(address), NO_SOURCE)))
            .chain(impossible.into_iter().map(|prefix| (prefix, NO_SOURCE)))
            .collect();
        let all = || {
            let pods = pods.iter().map(|prefix| (prefix, POD));
            let services = services.iter().map(|prefix| (prefix, SERVICE));
            let hosts = hosts.iter().map(|(prefix, bits)| (prefix, *bits));
            pods.chain(services).chain(hosts)
        };
        Self {
            v4: Ranges::united(all()),
            v6: Ranges::united(all()),
            pods,
            services,
            own,
            snat,
        }
    }

    /// What kind of source this is.
    #[must_use]
    pub fn class(&self, source: IpAddr) -> SourceClass {
        self.place(source).class()
    }

    /// Whether ClusterIPs are allocated around this address.
    #[must_use]
    pub fn is_service(&self, address: IpAddr) -> bool {
        self.place(address).is_service()
    }

    /// Everything about an address.
    #[inline]
    pub(crate) fn of<F: Family>(&self, address: F::Address) -> Meaning {
        Meaning(F::ranges(&self.v4, &self.v6).get(address))
    }

    fn place(&self, address: IpAddr) -> Meaning {
        match address {
            IpAddr::V4(address) => self.of::<V4>(address.to_bits()),
            IpAddr::V6(address) => self.of::<V6>(address.to_bits()),
        }
    }
}

/// What an address means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meaning(u8);

impl Meaning {
    /// What kind of source it is.
    #[inline]
    pub(crate) fn class(self) -> SourceClass {
        if self.is_own() {
            SourceClass::Node
        } else if self.0 & POD != 0 {
            SourceClass::Pod
        } else {
            SourceClass::Outside
        }
    }

    /// Whether it is one of the gateway's.
    #[inline]
    pub(crate) fn is_own(self) -> bool {
        self.0 & OWN != 0
    }

    /// Whether ClusterIPs are allocated around it.
    #[inline]
    pub(crate) fn is_service(self) -> bool {
        self.0 & SERVICE != 0
    }

    /// Whether what is received can come from it.
    #[inline]
    pub(crate) fn may_send(self) -> bool {
        self.0 & NO_SOURCE == 0
    }
}

/// Where a frontend is found: address, protocol and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    address: u128,
    /// Port (16 bits), protocol (8), family (8).
    rest: u32,
}

impl Place {
    #[inline(always)]
    fn new<F: Family>(address: F::Address, protocol: Protocol, port: u16) -> Self {
        let rest = u32::from(port) << 16 | (protocol as u32) << 8 | F::LINES as u32;
        Self {
            address: F::widen(address),
            rest,
        }
    }

    fn of(address: IpAddr, protocol: Protocol, port: u16) -> Self {
        match address {
            IpAddr::V4(address) => Self::new::<V4>(address.to_bits(), protocol, port),
            IpAddr::V6(address) => Self::new::<V6>(address.to_bits(), protocol, port),
        }
    }

    /// Frontends come from the control plane, not from packets: no need for a hash that withstands attacks.
    #[inline(always)]
    fn hash(self) -> u64 {
        let bits = (self.address as u64) ^ ((self.address >> 64) as u64).rotate_left(32);
        mix(bits ^ SPREAD, u64::from(self.rest) ^ SPREAD.rotate_left(32))
    }

    #[inline(always)]
    fn shard(self) -> usize {
        // The map inside uses the lowest and the highest bits.
        (self.hash() >> 24) as usize % SHARDS
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64((*self).hash());
    }
}

/// Takes the one hash that it is given.
#[derive(Debug, Default, Clone, Copy)]
struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Shard = HashMap<Place, Arc<Frontend>, BuildHasherDefault<Given>>;

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            generation: 0,
            networks: Arc::default(),
            routes: Arc::default(),
            route_generation: 0,
            frontends: vec![Arc::default(); SHARDS],
        }
    }
}

impl Snapshot {
    /// The frontend for packets to this address, protocol and port: its own, else the one that
    /// stands for the whole address.
    #[must_use]
    #[inline]
    pub fn frontend<F: Family>(
        &self,
        address: F::Address,
        protocol: u8,
        port: u16,
    ) -> Option<&Arc<Frontend>> {
        Protocol::from_u8(protocol)
            .filter(|protocol| *protocol != Protocol::Any)
            .and_then(|protocol| self.exact(Place::new::<F>(address, protocol, port)))
            .or_else(|| self.exact(Place::new::<F>(address, Protocol::Any, 0)))
    }

    /// Every frontend, in no order.
    pub fn frontends(&self) -> impl Iterator<Item = &Arc<Frontend>> {
        self.frontends.iter().flat_map(|shard| shard.values())
    }

    /// Puts or replaces a frontend.
    pub(crate) fn put(&mut self, frontend: Arc<Frontend>) {
        let place = Place::of(frontend.address, frontend.protocol, frontend.port);
        Arc::make_mut(&mut self.frontends[place.shard()]).insert(place, frontend);
    }

    /// Removes the frontend of this address, protocol and port.
    pub(crate) fn remove(&mut self, address: IpAddr, protocol: Protocol, port: u16) {
        let place = Place::of(address, protocol, port);
        let shard = &mut self.frontends[place.shard()];
        if shard.contains_key(&place) {
            Arc::make_mut(shard).remove(&place);
        }
    }

    #[inline]
    fn exact(&self, place: Place) -> Option<&Arc<Frontend>> {
        self.frontends[place.shard()].get(&place)
    }
}
