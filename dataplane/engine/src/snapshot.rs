//! The service snapshot: what workers decide by, immutable, one generation after the other.
//!
//! Built on the main core from installed objects ([`crate::install`]), shared by `Arc`. Frontends are
//! spread over shards, so that a change copies the shards it touches and the list of shards,
//! not every frontend.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use hugepages::object::{
    Backend, FrontendKind, Key, OnEndpointGone, Prefix, Protocol, SourceClass, Why, frontend_key,
};

use crate::maglev::Maglev;
use crate::route::{Routes, contains};

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Pods live here.
    pub pods: Vec<Prefix>,
    /// ClusterIPs come from here.
    pub services: Vec<Prefix>,
    /// The gateway's own addresses.
    pub own: Vec<IpAddr>,
    /// Addresses to masquerade with, instead of the egress link's.
    pub snat: Vec<IpAddr>,
}

impl Networks {
    /// What kind of source this is.
    #[must_use]
    pub fn class(&self, source: IpAddr) -> SourceClass {
        if self.own.contains(&source) {
            SourceClass::Node
        } else if self.pods.iter().any(|prefix| contains(prefix, source)) {
            SourceClass::Pod
        } else {
            SourceClass::Outside
        }
    }

    /// Whether ClusterIPs are allocated around this address.
    #[must_use]
    pub fn is_service(&self, address: IpAddr) -> bool {
        self.services.iter().any(|prefix| contains(prefix, address))
    }
}

/// Keys are hashes already.
#[derive(Debug, Default, Clone, Copy)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type Shard = HashMap<Key, Arc<Frontend>, BuildHasherDefault<KeyHasher>>;

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
    pub fn frontend(&self, address: IpAddr, protocol: u8, port: u16) -> Option<&Arc<Frontend>> {
        Protocol::from_u8(protocol)
            .filter(|protocol| *protocol != Protocol::Any)
            .and_then(|protocol| self.exact(address, protocol, port))
            .or_else(|| self.exact(address, Protocol::Any, 0))
    }

    /// Every frontend, in no order.
    pub fn frontends(&self) -> impl Iterator<Item = &Arc<Frontend>> {
        self.frontends.iter().flat_map(|shard| shard.values())
    }

    /// Puts or replaces a frontend.
    pub(crate) fn put(&mut self, key: Key, frontend: Arc<Frontend>) {
        Arc::make_mut(&mut self.frontends[shard_of(key)]).insert(key, frontend);
    }

    /// Removes a frontend.
    pub(crate) fn remove(&mut self, key: Key) {
        let shard = &mut self.frontends[shard_of(key)];
        if shard.contains_key(&key) {
            Arc::make_mut(shard).remove(&key);
        }
    }

    fn exact(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<&Arc<Frontend>> {
        let key = frontend_key(address, protocol, port);
        let frontend = self.frontends[shard_of(key)].get(&key)?;
        // Keys are hashes: another address with the same key is not this frontend.
        let same =
            frontend.address == address && frontend.protocol == protocol && frontend.port == port;
        same.then_some(frontend)
    }
}

const fn shard_of(key: Key) -> usize {
    // The map inside uses the low bits.
    (key >> 32) as usize % SHARDS
}
