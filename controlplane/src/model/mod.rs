//! What Kubernetes says, in plain, ordered, comparable types.
//!
//! Nothing here knows the API machinery: [`crate::convert`] fills these types in, [`crate::index`]
//! keeps them, [`crate::policy`] draws conclusions from them.

mod node;
mod service;
mod slice;

use std::fmt;

pub use node::NodeObject;
pub use service::{ServiceObject, ServicePort, ServiceType, SourceRanges, TrafficPolicy};
pub use slice::{Endpoint, SliceObject, SlicePort};

/// Namespace and name of an object; written `namespace/name`. Cluster-wide objects (nodes) have
/// an empty namespace and are written `name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// `metadata.namespace`; empty for nodes.
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
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Service, Self::Slice, Self::Node];

    /// The value of `kind` in manifests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Node => "Node",
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
}

impl ClusterObject {
    /// The object's kind.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Self::Service(_) => ObjectKind::Service,
            Self::Slice(_) => ObjectKind::Slice,
            Self::Node(_) => ObjectKind::Node,
        }
    }

    /// The object's name.
    #[must_use]
    pub const fn name(&self) -> &ObjectName {
        match self {
            Self::Service(service) => &service.name,
            Self::Slice(slice) => &slice.name,
            Self::Node(node) => &node.name,
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
