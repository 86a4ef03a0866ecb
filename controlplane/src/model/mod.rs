//! What Kubernetes says, in plain, ordered, comparable types.
//!
//! Nothing here knows the API machinery: [`crate::convert`] fills these types in, [`crate::index`]
//! keeps them, [`crate::policy`] draws conclusions from them.

mod node;
mod service;
mod service_cidr;
mod slice;

use std::fmt;

pub use node::NodeObject;
pub use service::{ServiceObject, ServicePort, ServiceType, SourceRanges, TrafficPolicy};
pub use service_cidr::ServiceCidrObject;
pub use slice::{Endpoint, SliceObject, SlicePort};

/// Namespace and name of an object; written `namespace/name`. Cluster-wide objects (nodes,
/// networks of services) have an empty namespace and are written `name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// `metadata.namespace`; empty for what is cluster-wide.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectName {
    /// The name `namespace/name`.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            formatter.write_str(&self.name)
        } else {
            write!(formatter, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The kinds of objects that matter to a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// core/v1 `Service`.
    Service,
    /// discovery.k8s.io/v1 `EndpointSlice`.
    Slice,
    /// core/v1 `Node`.
    Node,
    /// networking.k8s.io/v1 `ServiceCIDR`.
    ServiceCidr,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Service, Self::Slice, Self::Node, Self::ServiceCidr];

    /// Whether nothing may be installed before the kind has been listed. Of the networks of
    /// Services a gateway can be told by its settings instead, so it does without permission to
    /// read them.
    #[must_use]
    pub const fn is_needed(self) -> bool {
        !matches!(self, Self::ServiceCidr)
    }

    /// Whether objects of this kind have no namespace.
    #[must_use]
    pub const fn is_cluster_wide(self) -> bool {
        matches!(self, Self::Node | Self::ServiceCidr)
    }

    /// The value of `kind` in manifests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }
}

/// One object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterObject {
    /// A Service.
    Service(ServiceObject),
    /// An EndpointSlice.
    Slice(SliceObject),
    /// A Node.
    Node(NodeObject),
    /// A ServiceCIDR.
    ServiceCidr(ServiceCidrObject),
}

impl ClusterObject {
    /// The object's kind.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Self::Service(_) => ObjectKind::Service,
            Self::Slice(_) => ObjectKind::Slice,
            Self::Node(_) => ObjectKind::Node,
            Self::ServiceCidr(_) => ObjectKind::ServiceCidr,
        }
    }

    /// The object's name.
    #[must_use]
    pub const fn name(&self) -> &ObjectName {
        match self {
            Self::Service(service) => &service.name,
            Self::Slice(slice) => &slice.name,
            Self::Node(node) => &node.name,
            Self::ServiceCidr(networks) => &networks.name,
        }
    }
}

/// The labels by which a proxy tells its objects from those of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyLabels {
    /// Label `service.kubernetes.io/headless` is present, whatever its value.
    pub headless: bool,
    /// Label `service.kubernetes.io/service-proxy-name`.
    pub proxy_name: Option<String>,
}
