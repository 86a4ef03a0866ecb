//! Nodes: zone, addresses and pod networks.

use std::net::IpAddr;

use hugepages::object::Prefix;

use super::ObjectName;

/// A Node, as far as a gateway cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeObject {
    /// `metadata.name`, without a namespace.
    pub name: ObjectName,
    /// Label `topology.kubernetes.io/zone`; `None` when absent or empty.
    pub zone: Option<String>,
    /// `status.addresses` of type `InternalIP`, in order.
    pub internal_ips: Vec<IpAddr>,
    /// `spec.podCIDRs`, or `spec.podCIDR` alone.
    pub pod_cidrs: Vec<Prefix>,
    /// The node is being deleted, or carries the taint `ToBeDeletedByClusterAutoscaler`: load
    /// balancers should stop sending to it.
    pub leaving: bool,
}
