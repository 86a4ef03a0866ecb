//! Objects for tests.

use std::net::IpAddr;

use hugepages::object::{OnEndpointGone, Protocol};
use settings::Gateway;

use crate::model::{
    Endpoint, ObjectName, ProxyLabels, ServiceObject, ServicePort, ServiceType, SliceObject,
    SlicePort, SourceRanges, TrafficPolicy,
};

/// A gateway that is node `node-a`, 203.0.113.10 and 2001:db8:1::10.
pub(crate) fn gateway() -> Gateway {
    gateway_of(
        r#"
        mode = "node"
        node_name = "node-a"
        addresses = ["203.0.113.10", "203.0.113.11", "2001:db8:1::10"]
        cluster_cidrs = ["10.244.0.0/16", "fd00:10:244::/56"]
        service_cidrs = ["10.96.0.0/12", "fd00:10:96::/112"]
        "#,
    )
}

/// The gateway of this section `[gateway]`.
pub(crate) fn gateway_of(section: &str) -> Gateway {
    settings::load_str(&format!("[gateway]\n{section}"))
        .unwrap()
        .gateway
}

/// Service `test/NAME` of type ClusterIP with TCP port 80 and an address made of its name.
pub(crate) fn service(name: &str) -> ServiceObject {
    let hash = name
        .bytes()
        .fold(0u16, |hash, byte| hash.wrapping_mul(31) + u16::from(byte));
    let [high, low] = hash.to_be_bytes();
    ServiceObject {
        name: ObjectName::new("test", name),
        uid: None,
        labels: ProxyLabels::default(),
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![IpAddr::from([10, 96, high, low])],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        external_ips: Vec::new(),
        ingress_ips: Vec::new(),
        source_ranges: SourceRanges::default(),
        affinity_timeout: 0,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        on_endpoint_gone: OnEndpointGone::Keep,
    }
}

/// A slice of service `test/NAME`: ready endpoints with TCP port 8080 on no node.
pub(crate) fn slice(name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> SliceObject {
    SliceObject {
        name: ObjectName::new("test", format!("{name}-x1")),
        labels: ProxyLabels::default(),
        service: Some(ObjectName::new("test", name)),
        ports: vec![SlicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: addresses.into_iter().map(endpoint).collect(),
        triggered: None,
    }
}

/// A ready endpoint on no node.
pub(crate) fn endpoint(address: IpAddr) -> Endpoint {
    Endpoint {
        address,
        hostname: None,
        node: None,
        ready: true,
        serving: true,
        terminating: false,
        zone_hints: Vec::new(),
        node_hints: Vec::new(),
    }
}
