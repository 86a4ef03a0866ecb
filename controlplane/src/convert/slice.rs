//! EndpointSlice → [`SliceObject`].

use serde_json::Value;

use crate::model::{Endpoint, ObjectName, SliceObject, SlicePort};

use super::address::{is_host, parse_address};
use super::meta::{SERVICE_NAME_LABEL, annotation, label, proxy_labels};
use super::reader::{boolean, get, list, port, protocol, string};
use super::report::Report;

/// Annotation with the moment at which whatever caused the slice's last change happened.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

pub(super) fn convert(
    name: &ObjectName,
    value: &Value,
    report: &mut Report<'_>,
) -> Option<SliceObject> {
    let is_v6 = match string(value, "addressType", "addressType", report) {
        Some("IPv4") => false,
        Some("IPv6") => true,
        // Names are for clients to resolve; there is nothing to send packets to.
        Some("FQDN") => return None,
        other => {
            let shown = other.map_or(Value::Null, Value::from);
            let rule = "must be IPv4, IPv6 or FQDN; the object is skipped";
            report.field("addressType", &shown, rule);
            return None;
        }
    };
    let labels = proxy_labels(value);
    let service = label(value, SERVICE_NAME_LABEL).filter(|service| !service.is_empty());
    if service.is_none() && !labels.headless {
        report.sentence(format_args!(
            "the label {SERVICE_NAME_LABEL} is missing: it must name a Service of the namespace; the \
             slice is not used"
        ));
    }
    Some(SliceObject {
        name: name.clone(),
        labels,
        service: service.map(|service| ObjectName::new(&*name.namespace, service)),
        ports: ports(value, report),
        endpoints: endpoints(value, is_v6, report),
        triggered: annotation(value, TRIGGER_TIME)
            .and_then(Value::as_str)
            .and_then(crate::time::parse),
    })
}

/// Ports with a number. One without a number means every port, which no proxy can serve.
fn ports(value: &Value, report: &mut Report<'_>) -> Vec<SlicePort> {
    let mut found = Vec::new();
    for (index, entry) in list(value, "ports", "ports", report).iter().enumerate() {
        let field = |key: &str| format!("ports[{index}].{key}");
        let Ok(Some(number)) = port(entry, "port", field("port"), report) else {
            continue;
        };
        let Ok(protocol) = protocol(entry, field("protocol"), report) else {
            continue;
        };
        let name = string(entry, "name", field("name"), report).unwrap_or_default();
        found.push(SlicePort {
            name: name.into(),
            protocol,
            port: number,
        });
    }
    found
}

fn endpoints(value: &Value, is_v6: bool, report: &mut Report<'_>) -> Vec<Endpoint> {
    let entries = list(value, "endpoints", "endpoints", report);
    let mut found = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let field = format_args!("endpoints[{index}].addresses");
        let null = Value::Null;
        // The addresses of one endpoint are interchangeable: the first is enough.
        let first = list(entry, "addresses", field, report)
            .first()
            .unwrap_or(&null);
        let address = first
            .as_str()
            .and_then(parse_address)
            .filter(|address| is_host(*address) && address.is_ipv6() == is_v6);
        let Some(address) = address else {
            let rule = "must start with the IP address of a host, of the slice's addressType; \
                        the endpoint is skipped";
            report.field(format_args!("endpoints[{index}].addresses[0]"), first, rule);
            continue;
        };
        found.push(endpoint(index, entry, address, report));
    }
    found
}

fn endpoint(
    index: usize,
    entry: &Value,
    address: std::net::IpAddr,
    report: &mut Report<'_>,
) -> Endpoint {
    let null = Value::Null;
    let field = |key: &str| format!("endpoints[{index}].{key}");
    let conditions = match get(entry, "conditions") {
        Some(conditions) if !conditions.is_object() => {
            report.field(
                field("conditions"),
                conditions,
                "must be a map; it is ignored",
            );
            &null
        }
        conditions => conditions.unwrap_or(&null),
    };
    let condition = |key: &str, report: &mut Report<'_>| {
        get(conditions, key)?;
        boolean(conditions, key, field(&format!("conditions.{key}")), report)
    };
    let ready = condition("ready", report).unwrap_or(true);
    let hints = get(entry, "hints").unwrap_or(&null);
    Endpoint {
        address,
        hostname: string(
            entry,
            "hostname",
            format_args!("endpoints[{index}].hostname"),
            report,
        )
        .map(Into::into),
        node: string(
            entry,
            "nodeName",
            format_args!("endpoints[{index}].nodeName"),
            report,
        )
        .map(Into::into),
        ready,
        serving: condition("serving", report).unwrap_or(ready),
        terminating: condition("terminating", report).unwrap_or(false),
        zone_hints: hint_names(hints, "forZones", index, report),
        node_hints: hint_names(hints, "forNodes", index, report),
    }
}

fn hint_names(hints: &Value, key: &str, index: usize, report: &mut Report<'_>) -> Vec<String> {
    let field = format_args!("endpoints[{index}].hints.{key}");
    if get(hints, key).is_none() {
        return Vec::new();
    }
    list(hints, key, field, report)
        .iter()
        .filter_map(|hint| string(hint, "name", field, report))
        .map(Into::into)
        .collect()
}
