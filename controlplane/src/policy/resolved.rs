//! What a service asks for, and who comes first when several ask for the same.

use std::net::IpAddr;
use std::sync::Arc;

use hugepages::object::{Action, Frontend, FrontendKind, NO_KEY, Object, Protocol, Why};

use crate::model::ObjectName;
use crate::warning::Warning;

/// What one service asks for.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// Services, backend sets and ranges; the same set may be named more than once.
    pub(super) objects: Vec<Object>,
    /// Frontends, which other services may claim too.
    pub(super) claims: Vec<Claim>,
    /// The health check that a load balancer expects of us.
    pub(super) health: Option<HealthCheck>,
    /// Why nothing of it is proxied, if nothing of it ever is.
    pub(super) unproxied: Option<Unproxied>,
    /// Service ports, and backends of all of them.
    pub(super) tally: Tally,
    /// What is not served as written.
    pub(super) warnings: Vec<Warning>,
}

/// A frontend that a service asks for.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) rank: Rank,
    pub(super) frontend: Frontend,
}

/// Who wins when several claim the same frontend: the lowest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// A ClusterIP belongs to its owner, whatever others write into their specs.
    beside_cluster_ip: bool,
    /// Else the first by name.
    pub(super) service: Arc<ObjectName>,
    /// Within a service: load balancer addresses, which may be restricted, before the others.
    kind: u8,
    port: usize,
}

/// A `healthCheckNodePort` to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The TCP port to listen on.
    pub port: u16,
    /// Distinct ready endpoint addresses that count as local.
    pub local_endpoints: usize,
    /// `metadata.uid` of the service.
    pub uid: Option<String>,
}

/// Why a Service of ours is not proxied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unproxied {
    /// `ExternalName`: its name is an alias in DNS for this one.
    ExternalName(String),
    /// It has no ClusterIP: its name leads to the pods themselves.
    Headless,
}

/// Numbers for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Service ports that are proxied.
    pub service_ports: usize,
    /// Endpoints that serve, over all service ports and both families.
    pub endpoints: usize,
    /// Service ports with `internalTrafficPolicy: Local` and usable endpoints elsewhere only.
    pub no_local_internal: usize,
    /// Service ports with `externalTrafficPolicy: Local`, an external address, and usable
    /// endpoints elsewhere only.
    pub no_local_external: usize,
}

impl Tally {
    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            service_ports: self.service_ports + other.service_ports,
            endpoints: self.endpoints + other.endpoints,
            no_local_internal: self.no_local_internal + other.no_local_internal,
            no_local_external: self.no_local_external + other.no_local_external,
        }
    }

    pub(super) const fn minus(self, other: Self) -> Self {
        Self {
            service_ports: self.service_ports - other.service_ports,
            endpoints: self.endpoints - other.endpoints,
            no_local_internal: self.no_local_internal - other.no_local_internal,
            no_local_external: self.no_local_external - other.no_local_external,
        }
    }
}

/// Every other port and protocol of an allocated ClusterIP is refused.
pub(super) fn other_ports(owner: &Arc<ObjectName>, address: IpAddr) -> Claim {
    Claim {
        rank: rank(owner, FrontendKind::ClusterIp, usize::MAX),
        frontend: Frontend {
            address,
            protocol: Protocol::Any,
            port: 0,
            service: NO_KEY,
            kind: FrontendKind::ClusterIp,
            affinity_timeout: 0,
            ranges: NO_KEY,
            actions: [Action::Reject(Why::NoSuchPort); 3],
        },
    }
}

pub(super) fn rank(owner: &Arc<ObjectName>, kind: FrontendKind, port: usize) -> Rank {
    Rank {
        beside_cluster_ip: kind != FrontendKind::ClusterIp,
        service: Arc::clone(owner),
        kind: match kind {
            FrontendKind::ClusterIp => 0,
            FrontendKind::LoadBalancer => 1,
            FrontendKind::ExternalIp => 2,
            FrontendKind::NodePort => 3,
        },
        port,
    }
}
