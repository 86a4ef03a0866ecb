//! ServiceCIDRs.

use hugepages::object::Prefix;

use super::ObjectName;

/// A ServiceCIDR: networks out of which Services get their ClusterIPs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCidrObject {
    /// `metadata.name`, without a namespace.
    pub name: ObjectName,
    /// `spec.cidrs`, at most one of each family.
    pub cidrs: Vec<Prefix>,
}
