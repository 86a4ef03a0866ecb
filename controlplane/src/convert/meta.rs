//! Labels and annotations.

use serde_json::Value;

use crate::model::ProxyLabels;

/// Label that makes a service headless for proxies.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Label that hands a service to another proxy.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Label of a slice that names its service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

pub(super) fn label<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get("metadata")?.get("labels")?.get(key)?.as_str()
}

pub(super) fn annotation<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get("metadata")?.get("annotations")?.get(key)
}

pub(super) fn proxy_labels(value: &Value) -> ProxyLabels {
    ProxyLabels {
        headless: label(value, HEADLESS_LABEL).is_some(),
        proxy_name: label(value, PROXY_NAME_LABEL).map(Into::into),
    }
}
