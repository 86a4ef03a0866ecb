//! Service → [`ServiceObject`].

use std::net::IpAddr;

use hugepages::object::{OnEndpointGone, Prefix};
use serde_json::Value;

use crate::model::{
    ObjectName, ServiceObject, ServicePort, ServiceType, SourceRanges, TrafficPolicy,
};

use super::address::{is_host, parse_address, parse_prefix};
use super::meta::{annotation, proxy_labels};
use super::reader::{get, list, map, port, protocol, string, strings};
use super::report::Report;

/// Annotation that says what becomes of established flows whose endpoint is gone.
const ON_ENDPOINT_GONE: &str = "portgate.dev/on-endpoint-gone";

/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// Kubernetes' upper limit of the same: one day.
const MOST_AFFINITY_SECONDS: u64 = 86_400;

/// Longest name of a service port that the region can hold, in bytes; Kubernetes allows the same.
const LONGEST_PORT_NAME: usize = 63;

const NOT_A_HOST: &str = "must be the IP address of a host; the entry is skipped";

pub(super) fn convert(
    name: &ObjectName,
    value: &Value,
    report: &mut Report<'_>,
) -> Option<ServiceObject> {
    let null = Value::Null;
    let spec = value.get("spec").unwrap_or(&null);
    if !spec.is_object() {
        report.field("spec", spec, "must be a map; the object is skipped");
        return None;
    }
    let status = value.get("status").unwrap_or(&null);
    Some(ServiceObject {
        name: name.clone(),
        uid: value
            .pointer("/metadata/uid")
            .and_then(Value::as_str)
            .map(Into::into),
        labels: proxy_labels(value),
        service_type: service_type(spec, report),
        cluster_ips: cluster_ips(spec, report),
        ports: ports(spec, report),
        external_ips: addresses(
            strings(spec, "externalIPs", "spec.externalIPs", report),
            report,
        ),
        ingress_ips: ingress_ips(status, report),
        source_ranges: source_ranges(spec, report),
        affinity_timeout: affinity_timeout(spec, report),
        internal_policy: policy(spec, "internalTrafficPolicy", report),
        external_policy: policy(spec, "externalTrafficPolicy", report),
        health_check_node_port: optional_port(
            spec,
            "healthCheckNodePort",
            &"spec.healthCheckNodePort",
            report,
        ),
        on_endpoint_gone: on_endpoint_gone(value, report),
    })
}

fn service_type(spec: &Value, report: &mut Report<'_>) -> ServiceType {
    match string(spec, "type", "spec.type", report) {
        None | Some("ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => {
            let target = string(spec, "externalName", "spec.externalName", report);
            ServiceType::ExternalName(target.unwrap_or_default().into())
        }
        Some(other) => {
            let rule = "must be ClusterIP, NodePort, LoadBalancer or ExternalName; \
                        it is taken for ClusterIP";
            report.field("spec.type", &other.into(), rule);
            ServiceType::ClusterIp
        }
    }
}

/// `clusterIPs`, or `clusterIP` where an old or hand-written manifest has no list; the first of
/// each family. A headless service (`None`) and one without an address have none.
fn cluster_ips(spec: &Value, report: &mut Report<'_>) -> Vec<IpAddr> {
    let single = string(spec, "clusterIP", "spec.clusterIP", report).map(str::trim);
    if single == Some("None") {
        return Vec::new();
    }
    let mut texts = strings(spec, "clusterIPs", "spec.clusterIPs", report);
    let mut field = "spec.clusterIPs";
    if texts.is_empty() {
        texts.extend(single);
        field = "spec.clusterIP";
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for text in texts {
        if text.is_empty() || text == "None" {
            continue;
        }
        match parse_address(text).filter(|address| is_host(*address)) {
            Some(address) if found.iter().any(|other| same_family(*other, address)) => {
                let rule = "must be the only one of its family; the entry is skipped";
                report.field(field, &text.into(), rule);
            }
            Some(address) => found.push(address),
            None => report.field(field, &text.into(), NOT_A_HOST),
        }
    }
    found
}

fn same_family(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

fn ports(spec: &Value, report: &mut Report<'_>) -> Vec<ServicePort> {
    let mut found: Vec<ServicePort> = Vec::new();
    for (index, entry) in list(spec, "ports", "spec.ports", report).iter().enumerate() {
        let field = |key: &str| format!("spec.ports[{index}].{key}");
        let Ok(number) = port(entry, "port", field("port"), report) else {
            continue;
        };
        let Some(number) = number else {
            report.field(
                field("port"),
                &Value::Null,
                "must be given; the port is skipped",
            );
            continue;
        };
        let Ok(protocol) = protocol(entry, field("protocol"), report) else {
            continue;
        };
        let name = string(entry, "name", field("name"), report).unwrap_or_default();
        if name.len() > LONGEST_PORT_NAME {
            let rule = "must have at most 63 bytes; the port is skipped";
            report.field(field("name"), &name.into(), rule);
            continue;
        }
        if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let rule = "must have no spaces or control characters; the port is skipped";
            report.field(field("name"), &name.into(), rule);
            continue;
        }
        let taken = found.iter().any(|other| {
            other.protocol == protocol && (other.name == name || other.port == number)
        });
        if taken {
            let rule = "must differ in name and number from ports of the same protocol; \
                        the port is skipped";
            report.field(format_args!("spec.ports[{index}]"), entry, rule);
            continue;
        }
        let node_port = optional_port(entry, "nodePort", &field("nodePort"), report);
        found.push(ServicePort {
            name: name.into(),
            protocol,
            port: number,
            node_port,
        });
    }
    found
}

/// A port for which 0 means that there is none.
fn optional_port(
    object: &Value,
    key: &str,
    field: &dyn std::fmt::Display,
    report: &mut Report<'_>,
) -> Option<u16> {
    if get(object, key).and_then(Value::as_u64) == Some(0) {
        return None;
    }
    port(object, key, field, report).ok().flatten()
}

fn addresses(texts: Vec<&str>, report: &mut Report<'_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for text in texts {
        match parse_address(text).filter(|address| is_host(*address)) {
            Some(address) if !found.contains(&address) => found.push(address),
            Some(_) => {}
            None => report.field("spec.externalIPs", &text.into(), NOT_A_HOST),
        }
    }
    found
}

/// Addresses of ingress points that we are to serve: not those without an IP (a host name), and
/// not those whose load balancer wants the traffic for itself (`ipMode: Proxy`).
fn ingress_ips(status: &Value, report: &mut Report<'_>) -> Vec<IpAddr> {
    let field = "status.loadBalancer.ingress";
    let null = Value::Null;
    let balancer = get(status, "loadBalancer").unwrap_or(&null);
    let mut found = Vec::new();
    for (index, entry) in list(balancer, "ingress", field, report).iter().enumerate() {
        let text = string(entry, "ip", format_args!("{field}[{index}].ip"), report);
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            continue;
        };
        match string(
            entry,
            "ipMode",
            format_args!("{field}[{index}].ipMode"),
            report,
        ) {
            None | Some("VIP") => {}
            Some("Proxy") => continue,
            Some(other) => {
                let rule = "must be VIP or Proxy; the entry is skipped";
                report.field(format_args!("{field}[{index}].ipMode"), &other.into(), rule);
                continue;
            }
        }
        match parse_address(text).filter(|address| is_host(*address)) {
            Some(address) if !found.contains(&address) => found.push(address),
            Some(_) => {}
            None => report.field(
                format_args!("{field}[{index}].ip"),
                &text.into(),
                NOT_A_HOST,
            ),
        }
    }
    found
}

fn source_ranges(spec: &Value, report: &mut Report<'_>) -> SourceRanges {
    let field = "spec.loadBalancerSourceRanges";
    let mut ranges = SourceRanges::default();
    for text in strings(spec, "loadBalancerSourceRanges", field, report) {
        let parsed = parse_prefix(text);
        if parsed.is_none() {
            let rule = "must be an IP prefix; the entry is skipped, and admits nobody";
            report.field(field, &text.into(), rule);
        }
        let is_v6 = parsed.map_or(text.contains(':'), |Prefix { address, .. }| {
            address.is_ipv6()
        });
        let family = if is_v6 {
            &mut ranges.v6
        } else {
            &mut ranges.v4
        };
        family.get_or_insert_default().extend(parsed);
    }
    ranges
}

fn affinity_timeout(spec: &Value, report: &mut Report<'_>) -> u32 {
    match string(spec, "sessionAffinity", "spec.sessionAffinity", report) {
        None | Some("None" | "") => return 0,
        Some("ClientIP") => {}
        Some(other) => {
            let rule = "must be None or ClientIP; there is no affinity";
            report.field("spec.sessionAffinity", &other.into(), rule);
            return 0;
        }
    }
    let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    let null = Value::Null;
    let config = map(
        spec,
        "sessionAffinityConfig",
        "spec.sessionAffinityConfig",
        report,
    );
    let client = config.and_then(|config| config.get("clientIP"));
    let Some(value) = get(client.unwrap_or(&null), "timeoutSeconds") else {
        return DEFAULT_AFFINITY_SECONDS;
    };
    match value.as_u64() {
        Some(seconds @ 1..=MOST_AFFINITY_SECONDS) => {
            u32::try_from(seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS)
        }
        _ => {
            report.field(
                field,
                value,
                "must be 1 to 86400 seconds; it is taken for 10800",
            );
            DEFAULT_AFFINITY_SECONDS
        }
    }
}

fn policy(spec: &Value, key: &str, report: &mut Report<'_>) -> TrafficPolicy {
    match string(spec, key, format_args!("spec.{key}"), report) {
        None | Some("Cluster" | "") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            let rule = "must be Cluster or Local; it is taken for Cluster";
            report.field(format_args!("spec.{key}"), &other.into(), rule);
            TrafficPolicy::Cluster
        }
    }
}

fn on_endpoint_gone(value: &Value, report: &mut Report<'_>) -> OnEndpointGone {
    let Some(wish) = annotation(value, ON_ENDPOINT_GONE) else {
        return OnEndpointGone::Keep;
    };
    let parsed = wish.as_str().and_then(|text| match text.trim() {
        "keep" => Some(OnEndpointGone::Keep),
        "reset" => Some(OnEndpointGone::Reset),
        drain => drain
            .strip_prefix("drain=")
            .and_then(|seconds| seconds.parse().ok())
            .map(OnEndpointGone::Drain),
    });
    parsed.unwrap_or_else(|| {
        let rule = "must be keep, drain=<seconds> or reset; it is taken for keep";
        report.field(
            format_args!("metadata.annotations[{ON_ENDPOINT_GONE}]"),
            wish,
            rule,
        );
        OnEndpointGone::Keep
    })
}
