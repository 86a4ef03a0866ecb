//! Kubernetes objects as JSON values → [`crate::model`].
//!
//! Lenient in one direction only: what cannot be understood is left out with one warning that
//! names kind, namespace/name, field, value and rule, and everything else is kept. One bad object
//! never spoils a list, and one bad field never spoils an object that makes sense without it.

mod address;
mod meta;
mod node;
mod reader;
mod report;
mod service;
mod service_cidr;
mod slice;

use serde_json::Value;

use crate::model::{ClusterObject, ObjectKind, ObjectName};
use crate::warning::Warning;
use report::Report;

pub use address::{is_host, parse_address, parse_prefix, prefix};
pub use meta::{HEADLESS_LABEL, PROXY_NAME_LABEL, SERVICE_NAME_LABEL};

/// Longest `namespace/name` of a Service that the region can hold, in bytes; Kubernetes allows less.
/// Names of other kinds, which may be longer, do not get there.
const LONGEST_NAME: usize = 255;

/// Deepest nesting of Lists inside Lists that is followed.
const DEEPEST_LIST: usize = 8;

/// Converts a document: one object or a List of them. Kinds that a gateway has no use for are
/// passed over in silence.
pub fn document(value: &Value, objects: &mut Vec<ClusterObject>, warnings: &mut Vec<Warning>) {
    member(value, None, DEEPEST_LIST, objects, warnings);
}

/// Converts one object of a known kind. `Err` means that it has no usable name; `Ok((name, None))`
/// that the object is not served (the warnings say why, unless it is a slice of names).
///
/// # Errors
///
/// A warning, when `metadata.name` is missing or no string.
pub fn object(
    kind: ObjectKind,
    value: &Value,
    warnings: &mut Vec<Warning>,
) -> Result<(ObjectName, Option<ClusterObject>), Warning> {
    let name = object_name(kind, value)?;
    let mut report = Report::about(kind, &name, warnings);
    let converted = match kind {
        ObjectKind::Service => {
            service::convert(&name, value, &mut report).map(ClusterObject::Service)
        }
        ObjectKind::Slice => slice::convert(&name, value, &mut report).map(ClusterObject::Slice),
        ObjectKind::Node => Some(ClusterObject::Node(node::convert(
            &name,
            value,
            &mut report,
        ))),
        ObjectKind::ServiceCidr => Some(ClusterObject::ServiceCidr(service_cidr::convert(
            &name,
            value,
            &mut report,
        ))),
    };
    drop(report);
    Ok((name, converted))
}

/// The name of an object of this kind.
///
/// # Errors
///
/// A warning, when `metadata.name` is missing or no string, when one of the two could not be told from other text in a
/// line of a log or a listing, or when a service's are too long for a record.
pub fn object_name(kind: ObjectKind, value: &Value) -> Result<ObjectName, Warning> {
    let text = |key: &str| value.pointer(key).and_then(Value::as_str);
    let Some(name) = text("/metadata/name").filter(|name| !name.is_empty()) else {
        return Err(Warning {
            subject: format!("{} without a name", kind.name()),
            message: format!(
                "metadata.name is {}: must be a string; the object is skipped",
                report::shown(value.pointer("/metadata/name").unwrap_or(&Value::Null))
            ),
        });
    };
    let namespace = if kind.is_cluster_wide() {
        ""
    } else {
        text("/metadata/namespace")
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or("default")
    };
    // Kubernetes has stricter rules for each kind; this much holds for all.
    for (key, text) in [("name", name), ("namespace", namespace)] {
        if text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            let shown = report::shown(&Value::from(text));
            return Err(Warning {
                subject: format!("{} with an impossible name", kind.name()),
                message: format!(
                    "metadata.{key} is {shown}: must have no spaces, slashes or control \
                     characters; the object is skipped"
                ),
            });
        }
    }
    let name = ObjectName::new(namespace, name);
    let length = name.namespace.len() + 1 + name.name.len();
    if kind == ObjectKind::Service && length > LONGEST_NAME {
        return Err(Warning {
            subject: format!("{} {name}", kind.name()),
            message: format!(
                "namespace and name have {length} bytes: at most {LONGEST_NAME} are allowed; \
                 the object is skipped"
            ),
        });
    }
    Ok(name)
}

fn member(
    value: &Value,
    list_kind: Option<ObjectKind>,
    depth: usize,
    objects: &mut Vec<ClusterObject>,
    warnings: &mut Vec<Warning>,
) {
    let kind = value.get("kind").and_then(Value::as_str);
    let group = value.get("apiVersion").and_then(Value::as_str).map(group);
    if let Some(of) = kind.and_then(|kind| kind.strip_suffix("List"))
        && let Some(Value::Array(items)) = value.get("items")
        && depth > 0
    {
        let of = known_kind(of, group);
        for item in items {
            member(item, of, depth - 1, objects, warnings);
        }
        return;
    }
    let known = match kind {
        Some(kind) => known_kind(kind, group),
        None => list_kind,
    };
    match known {
        Some(known) => match object(known, value, warnings) {
            Ok((_, converted)) => objects.extend(converted),
            Err(warning) => warnings.push(warning),
        },
        None if kind.is_none() => warnings.push(Warning {
            subject: "document".into(),
            message: format!(
                "kind is missing in {}: must name a Kubernetes kind; it is skipped",
                report::shown(value)
            ),
        }),
        None => {}
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The kind of this name, if its API group (when given) is the one we mean: other groups have
/// Services and Nodes of their own.
fn known_kind(kind: &str, group: Option<&str>) -> Option<ObjectKind> {
    let (known, home) = match kind {
        "Service" => (ObjectKind::Service, ""),
        "EndpointSlice" => (ObjectKind::Slice, "discovery.k8s.io"),
        "Node" => (ObjectKind::Node, ""),
        "ServiceCIDR" => (ObjectKind::ServiceCidr, "networking.k8s.io"),
        _ => return None,
    };
    group.is_none_or(|group| group == home).then_some(known)
}

#[cfg(test)]
mod tests;
