//! Services.

use std::net::IpAddr;

use hugepages::object::{OnEndpointGone, Prefix, Protocol};

use super::{ObjectName, ProxyLabels};

/// A Service, as far as a gateway cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceObject {
    /// `metadata.namespace` and `metadata.name`.
    pub name: ObjectName,
    /// `metadata.uid`; `None` in a manifest that was never in a cluster.
    pub uid: Option<String>,
    /// Labels that say whose service this is.
    pub labels: ProxyLabels,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `spec.clusterIPs` (or `spec.clusterIP`), at most one of each family; empty for headless
    /// services and those without an address.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ports`, each name and protocol once.
    pub ports: Vec<ServicePort>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` that the proxy serves: those of `ipMode` VIP or none.
    pub ingress_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: SourceRanges,
    /// Seconds of `sessionAffinity: ClientIP`; 0 = no affinity.
    pub affinity_timeout: u32,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// Annotation `portgate.dev/on-endpoint-gone`.
    pub on_endpoint_gone: OnEndpointGone,
}

/// `spec.type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceType {
    /// `ClusterIP`, the default.
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    LoadBalancer,
    /// `ExternalName`, with `spec.externalName`: never proxied.
    ExternalName(String),
}

impl ServiceType {
    /// The value as Kubernetes writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName(_) => "ExternalName",
        }
    }
}

/// One of `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`, empty when absent.
    pub name: String,
    /// `protocol`, TCP when absent.
    pub protocol: Protocol,
    /// `port`, never 0.
    pub port: u16,
    /// `nodePort`, never 0.
    pub node_port: Option<u16>,
}

/// `loadBalancerSourceRanges`, by family. A family without any entry is open to everyone; one
/// whose entries were all unreadable is closed to everyone, because it was meant to be restricted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceRanges {
    /// IPv4 prefixes; `None` = no restriction.
    pub v4: Option<Vec<Prefix>>,
    /// IPv6 prefixes; `None` = no restriction.
    pub v6: Option<Vec<Prefix>>,
}

impl SourceRanges {
    /// The prefixes that apply to an address of this family; `None` = no restriction.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<&[Prefix]> {
        match address {
            IpAddr::V4(_) => self.v4.as_deref(),
            IpAddr::V6(_) => self.v6.as_deref(),
        }
    }
}

/// `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficPolicy {
    /// Any endpoint.
    #[default]
    Cluster,
    /// Endpoints of this node alone.
    Local,
}
