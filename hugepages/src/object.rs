//! What the control plane tells the data plane: flat, self-contained objects.
//!
//! Everything that depends on Kubernetes has been resolved before an object exists: it says which
//! address and port lead to which backends for which kind of source, and nothing about why. An
//! object is identified by [`ObjectId`]; keys are hashes of the identity (never counters), so a
//! restarted control plane arrives at the same ids and a replay of an unchanged world is a replay
//! of identical objects. Sets and ranges are named by their content and therefore never change:
//! a changed set is another set.
//!
//! Objects travel and are stored as fixed-size records: see [`crate::record`].

use std::net::IpAddr;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// 64-bit key of an object inside its [`Kind`].
pub type Key = u64;

/// The key that means "none".
pub const NO_KEY: Key = 0;

/// What an object is about. The number is part of the record format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// [`Service`].
    Service = 1,
    /// [`BackendSet`].
    BackendSet = 2,
    /// [`Ranges`].
    Ranges = 3,
    /// [`Frontend`].
    Frontend = 4,
    /// [`Network`].
    Network = 5,
    /// [`Route`].
    Route = 6,
}

impl Kind {
    /// Every kind, in the order in which a full replay sends them.
    pub const ALL: [Self; 6] = [
        Self::Service,
        Self::BackendSet,
        Self::Ranges,
        Self::Frontend,
        Self::Network,
        Self::Route,
    ];

    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Service),
            2 => Some(Self::BackendSet),
            3 => Some(Self::Ranges),
            4 => Some(Self::Frontend),
            5 => Some(Self::Network),
            6 => Some(Self::Route),
            _ => None,
        }
    }
}

/// Identity of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// What it is about.
    pub kind: Kind,
    /// Its key inside the kind.
    pub key: Key,
}

/// One object of the installed (or wanted) state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A service port: name and what is needed for its flows as a whole.
    Service(Service),
    /// An immutable, ordered list of backends.
    BackendSet(BackendSet),
    /// An immutable list of source prefixes.
    Ranges(Ranges),
    /// An address and port that clients use.
    Frontend(Frontend),
    /// A prefix with a meaning (pods, services, the gateway itself).
    Network(Network),
    /// A route that the control plane learned (a Node's podCIDR).
    Route(Route),
}

impl Object {
    /// The object's identity.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        let (kind, key) = match self {
            Self::Service(service) => (Kind::Service, service.key),
            Self::BackendSet(set) => (Kind::BackendSet, set.key),
            Self::Ranges(ranges) => (Kind::Ranges, ranges.key),
            Self::Frontend(frontend) => (Kind::Frontend, frontend.key()),
            Self::Network(network) => (Kind::Network, network.key()),
            Self::Route(route) => (Kind::Route, route.key()),
        };
        ObjectId { kind, key }
    }
}

/// Transport protocol by its IANA number; `Any` (0) only in frontends that stand for every port
/// of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// Every protocol and port of the address that no other frontend names.
    Any = 0,
    /// TCP, RFC 9293.
    Tcp = 6,
    /// UDP, RFC 768.
    Udp = 17,
    /// SCTP, RFC 9260.
    Sctp = 132,
}

impl Protocol {
    /// The protocol with this IANA number (0 = `Any`), if it is one that services use.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Any),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Lower-case name, as `portgate explain` and Kubernetes' `protocol` (upper-case there) use it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// What becomes of a service's established flows when their endpoint is gone
/// (annotation `portgate.dev/on-endpoint-gone`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEndpointGone {
    /// Leave TCP and SCTP flows alone (what kube-proxy does; the default).
    Keep,
    /// Leave them alone for this many seconds, then reset.
    Drain(u32),
    /// Reset both sides at once.
    Reset,
}

/// One service port: the unit that counters, affinity and UDP clean-up refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// [`service_key`] of the name, port name and protocol.
    pub key: Key,
    /// `namespace/name`, at most 255 bytes.
    pub name: String,
    /// Name of the service port, empty when it has none; at most 63 bytes.
    pub port_name: String,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Endpoints that may keep their UDP flows: all serving ones of this family-independent port,
    /// whether selected by a policy or not (rules R01–R12). Key of a [`BackendSet`] or [`NO_KEY`].
    pub serving: Key,
    /// Policy for flows whose endpoint is gone.
    pub on_endpoint_gone: OnEndpointGone,
}

/// Key of a service port.
#[must_use]
pub fn service_key(namespace_name: &str, port_name: &str, protocol: Protocol) -> Key {
    let mut hash = Xxh3::new();
    hash.update(namespace_name.as_bytes());
    hash.update(&[0]);
    hash.update(port_name.as_bytes());
    hash.update(&[0, protocol as u8]);
    nonzero(hash.digest())
}

/// An endpoint: where a flow is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Address of the pod (or whatever stands behind the service).
    pub address: IpAddr,
    /// Port at that address.
    pub port: u16,
}

/// An immutable list of backends, each once, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendSet {
    /// Hash of the members: see [`BackendSet::new`].
    pub key: Key,
    /// The backends; never empty.
    pub members: Vec<Backend>,
}

impl BackendSet {
    /// The set of these backends: sorted, each once, named by its content.
    #[must_use]
    pub fn new(mut members: Vec<Backend>) -> Self {
        members.sort_unstable();
        members.dedup();
        Self {
            key: set_key(&members),
            members,
        }
    }
}

/// Key of a set of these members, which are sorted, each once.
pub(crate) fn set_key(members: &[Backend]) -> Key {
    hash_each(members, |member| {
        let mut bytes = [0; 19];
        bytes[..17].copy_from_slice(&address_bytes(member.address));
        bytes[17..].copy_from_slice(&member.port.to_be_bytes());
        bytes
    })
}

/// Hash of these bytes of all elements, one after the other. A set may have 100,000: they are hashed by the
/// kilobyte, since each call costs more than the bytes do.
fn hash_each<T, const N: usize>(elements: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Key {
    const TOGETHER: usize = 64;
    let mut hash = Xxh3::new();
    let mut buffer = Vec::with_capacity(TOGETHER * N);
    for elements in elements.chunks(TOGETHER) {
        buffer.clear();
        for element in elements {
            buffer.extend_from_slice(&bytes(element));
        }
        hash.update(&buffer);
    }
    nonzero(hash.digest())
}

/// A prefix: address with host bits cleared and its length in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Network address; bits past `length` are zero.
    pub address: IpAddr,
    /// Number of leading bits that count: 0–32 or 0–128.
    pub length: u8,
}

/// An immutable list of source prefixes (loadBalancerSourceRanges).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    /// Hash of the content.
    pub key: Key,
    /// The prefixes; an empty list matches nothing.
    pub prefixes: Vec<Prefix>,
}

impl Ranges {
    /// The list of these prefixes: sorted, each once, named by its content.
    #[must_use]
    pub fn new(mut prefixes: Vec<Prefix>) -> Self {
        prefixes.sort_unstable();
        prefixes.dedup();
        Self {
            key: ranges_key(&prefixes),
            prefixes,
        }
    }
}

/// Key of a list of these prefixes, which are sorted, each once.
pub(crate) fn ranges_key(prefixes: &[Prefix]) -> Key {
    hash_each(prefixes, |prefix| {
        let mut bytes = [0; 18];
        bytes[..17].copy_from_slice(&address_bytes(prefix.address));
        bytes[17] = prefix.length;
        bytes
    })
}

/// Which kind of service address a frontend is; for people and metrics, decisions do not need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp = 1,
    /// `spec.ports[].nodePort` on one of the gateway's addresses.
    NodePort = 2,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer = 3,
    /// `spec.externalIPs`.
    ExternalIp = 4,
}

/// Where a packet comes from, as far as Service rules care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SourceClass {
    /// Inside a pod network ([`NetworkRole::Pods`]).
    Pod = 0,
    /// One of the gateway's (node's) own addresses ([`NetworkRole::Own`]).
    Node = 1,
    /// Everything else.
    Outside = 2,
}

/// What a frontend does with a new flow of one source class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Choose a backend of `set`; rewrite the source too when `masquerade` (a hairpin — the chosen
    /// backend is the client — is always masqueraded, the engine sees to it).
    Translate {
        /// Key of a [`BackendSet`].
        set: Key,
        /// Rewrite the source to the gateway's address.
        masquerade: bool,
    },
    /// Refuse: TCP RST or ICMP port unreachable.
    Reject(Why),
    /// Say nothing.
    Drop(Why),
}

/// Why a frontend does not translate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Why {
    /// No usable endpoint anywhere.
    NoEndpoint = 1,
    /// Traffic policy Local and no usable endpoint here, but some elsewhere.
    NoLocalEndpoint = 2,
    /// An allocated service address, but no such port or protocol.
    NoSuchPort = 3,
    /// A service address that this gateway is set not to serve (`internalTrafficPolicy: Local` in
    /// edge mode without a node name).
    NotServedHere = 4,
}

/// An address and port that clients use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// The service's address.
    pub address: IpAddr,
    /// Protocol; `Any` with port 0 stands for all ports of an allocated address.
    pub protocol: Protocol,
    /// Port in host byte order; 0 only with `Any`.
    pub port: u16,
    /// Key of the [`Service`]; [`NO_KEY`] only with `Any`.
    pub service: Key,
    /// Which kind of address this is.
    pub kind: FrontendKind,
    /// sessionAffinity ClientIP: seconds since the last new connection; 0 = none.
    pub affinity_timeout: u32,
    /// Sources allowed at all (others are dropped, before anything else): key of a [`Ranges`] or
    /// [`NO_KEY`] for everyone.
    pub ranges: Key,
    /// What to do with a new flow, indexed by [`SourceClass`].
    pub actions: [Action; 3],
}

impl Frontend {
    /// Identity: address, protocol and port.
    #[must_use]
    pub fn key(&self) -> Key {
        frontend_key(self.address, self.protocol, self.port)
    }
}

/// Key of the frontend at this address, protocol and port.
#[must_use]
pub fn frontend_key(address: IpAddr, protocol: Protocol, port: u16) -> Key {
    let mut bytes = [0; 20];
    bytes[..17].copy_from_slice(&address_bytes(address));
    bytes[17] = protocol as u8;
    bytes[18..].copy_from_slice(&port.to_be_bytes());
    nonzero(xxh3_64(&bytes))
}

/// Meaning of a [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum NetworkRole {
    /// Pods live here (cluster_cidrs): sources are [`SourceClass::Pod`].
    Pods = 1,
    /// ClusterIPs are allocated from here: an address without a frontend is dropped.
    Services = 2,
    /// The gateway's own address (host prefix): sources are [`SourceClass::Node`].
    Own = 3,
    /// An address for masquerading (host prefix), used instead of the link's own.
    Snat = 4,
}

/// A prefix with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// What it means.
    pub role: NetworkRole,
    /// The prefix.
    pub prefix: Prefix,
}

impl Network {
    /// Identity: role and prefix.
    #[must_use]
    pub fn key(&self) -> Key {
        prefix_key(self.role as u8, self.prefix)
    }
}

/// A route learned from the cluster: packets for `to` go by way of `via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Destination.
    pub to: Prefix,
    /// Next hop of the same family; it must lie on a connected network.
    pub via: IpAddr,
}

impl Route {
    /// Identity: the destination.
    #[must_use]
    pub fn key(&self) -> Key {
        prefix_key(0xff, self.to)
    }
}

fn prefix_key(tag: u8, prefix: Prefix) -> Key {
    let mut bytes = [0; 19];
    bytes[..17].copy_from_slice(&address_bytes(prefix.address));
    bytes[17] = prefix.length;
    bytes[18] = tag;
    nonzero(xxh3_64(&bytes))
}

/// Family number (4 or 6) and 16 address bytes, IPv4 in the first four.
fn address_bytes(address: IpAddr) -> [u8; 17] {
    let mut bytes = [0; 17];
    match address {
        IpAddr::V4(v4) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            bytes[0] = 6;
            bytes[1..].copy_from_slice(&v6.octets());
        }
    }
    bytes
}

const fn nonzero(hash: u64) -> Key {
    if hash == NO_KEY { 1 } else { hash }
}
