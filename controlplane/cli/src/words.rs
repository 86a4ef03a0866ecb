//! One name for each thing, in tables and in JSON.

use std::net::SocketAddr;

use engine::Reason;
use hugepages::object::{Backend, FrontendKind, Protocol, SourceClass, Why};

/// Every kind of source, by its number.
pub(crate) const CLASSES: [SourceClass; 3] =
    [SourceClass::Pod, SourceClass::Node, SourceClass::Outside];

/// The address of a backend: `ip:port` or `[ip]:port`.
pub(crate) fn endpoint(backend: &Backend) -> String {
    SocketAddr::new(backend.address, backend.port).to_string()
}

/// The kind of a frontend as Kubernetes' users write it.
pub(crate) const fn kind_title(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "ClusterIP",
        FrontendKind::NodePort => "NodePort",
        FrontendKind::LoadBalancer => "LoadBalancer",
        FrontendKind::ExternalIp => "ExternalIP",
    }
}

/// The kind of a frontend in JSON.
pub(crate) const fn kind_name(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "clusterip",
        FrontendKind::NodePort => "nodeport",
        FrontendKind::LoadBalancer => "loadbalancer",
        FrontendKind::ExternalIp => "externalip",
    }
}

/// A kind of source in JSON.
pub(crate) const fn class_name(class: SourceClass) -> &'static str {
    match class {
        SourceClass::Pod => "pod",
        SourceClass::Node => "node",
        SourceClass::Outside => "outside",
    }
}

/// The reason under which the data plane counts what a frontend does not translate.
pub(crate) const fn reason(why: Why) -> Reason {
    match why {
        Why::NoEndpoint => Reason::NoEndpoint,
        Why::NoLocalEndpoint => Reason::NoLocalEndpoint,
        Why::NoSuchPort => Reason::NoSuchPort,
        Why::NotServedHere => Reason::NotServedHere,
    }
}

/// A protocol by its IANA number, as this command writes it.
pub(crate) fn protocol_name(number: u8) -> String {
    Protocol::from_u8(number).map_or_else(|| number.to_string(), |p| p.name().to_owned())
}

/// Where the command-line and JSON name of a service's port goes: `http`, or nothing.
pub(crate) fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// “1 link”, “2 links”.
pub(crate) fn counted(count: impl TryInto<u64>, what: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
