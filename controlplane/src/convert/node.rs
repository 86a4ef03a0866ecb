//! Node → [`NodeObject`].

use std::net::IpAddr;

use hugepages::object::Prefix;
use serde_json::Value;

use crate::model::{NodeObject, ObjectName};

use super::address::{is_host, parse_address, parse_prefix};
use super::meta::label;
use super::reader::{get, list, string, strings};
use super::report::Report;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Taint that the cluster autoscaler puts on a node it is about to remove.
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

pub(super) fn convert(name: &ObjectName, value: &Value, report: &mut Report<'_>) -> NodeObject {
    let null = Value::Null;
    let spec = get(value, "spec").unwrap_or(&null);
    let status = get(value, "status").unwrap_or(&null);
    let doomed = list(spec, "taints", "spec.taints", report)
        .iter()
        .any(|taint| taint.get("key").and_then(Value::as_str) == Some(AUTOSCALER_TAINT));
    NodeObject {
        name: name.clone(),
        zone: label(value, ZONE_LABEL)
            .filter(|zone| !zone.is_empty())
            .map(Into::into),
        internal_ips: internal_ips(status, report),
        pod_cidrs: pod_cidrs(spec, report),
        leaving: doomed
            || value
                .pointer("/metadata/deletionTimestamp")
                .is_some_and(|v| !v.is_null()),
    }
}

fn internal_ips(status: &Value, report: &mut Report<'_>) -> Vec<IpAddr> {
    let field = "status.addresses";
    let mut found = Vec::new();
    for (index, entry) in list(status, "addresses", field, report).iter().enumerate() {
        if entry.get("type").and_then(Value::as_str) != Some("InternalIP") {
            continue;
        }
        let field = format_args!("{field}[{index}].address");
        let Some(text) = string(entry, "address", field, report) else {
            continue;
        };
        match parse_address(text).filter(|address| is_host(*address)) {
            Some(address) => found.push(address),
            None => {
                let rule = "must be the IP address of a host; it is skipped";
                report.field(field, &text.into(), rule);
            }
        }
    }
    found
}

fn pod_cidrs(spec: &Value, report: &mut Report<'_>) -> Vec<Prefix> {
    let mut texts = strings(spec, "podCIDRs", "spec.podCIDRs", report);
    if texts.is_empty() {
        texts.extend(string(spec, "podCIDR", "spec.podCIDR", report).filter(|t| !t.is_empty()));
    }
    let mut found = Vec::new();
    for text in texts {
        match parse_prefix(text) {
            Some(prefix) => found.push(prefix),
            None => {
                let rule = "must be an IP prefix; it is skipped";
                report.field("spec.podCIDRs", &text.into(), rule);
            }
        }
    }
    found
}
