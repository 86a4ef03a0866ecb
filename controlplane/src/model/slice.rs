//! EndpointSlices.

use std::net::IpAddr;
use std::time::SystemTime;

use hugepages::object::Protocol;

use super::{ObjectName, ProxyLabels};

/// An EndpointSlice of addresses (slices of names are never kept).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceObject {
    /// `metadata.namespace` and `metadata.name`.
    pub name: ObjectName,
    /// Labels that say whose slice this is.
    pub labels: ProxyLabels,
    /// Namespace and label `kubernetes.io/service-name`; `None` for a slice that belongs to no
    /// service.
    pub service: Option<ObjectName>,
    /// `ports` with a number.
    pub ports: Vec<SlicePort>,
    /// `endpoints` with an address of the slice's family.
    pub endpoints: Vec<Endpoint>,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`.
    pub triggered: Option<SystemTime>,
}

/// One of `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// `name`, empty when absent.
    pub name: String,
    /// `protocol`, TCP when absent.
    pub protocol: Protocol,
    /// `port`, never 0.
    pub port: u16,
}

/// One of `endpoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The first of `addresses`; the others stand for the same pod.
    pub address: IpAddr,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `nodeName`.
    pub node: Option<String>,
    /// `conditions.ready`, true when absent.
    pub ready: bool,
    /// `conditions.serving`, the value of `ready` when absent.
    pub serving: bool,
    /// `conditions.terminating`, false when absent.
    pub terminating: bool,
    /// `hints.forZones[].name`.
    pub zone_hints: Vec<String>,
    /// `hints.forNodes[].name`.
    pub node_hints: Vec<String>,
}
