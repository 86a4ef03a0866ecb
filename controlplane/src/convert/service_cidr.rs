//! ServiceCIDR → [`ServiceCidrObject`].

use serde_json::Value;

use crate::model::{ObjectName, ServiceCidrObject};

use super::address::parse_prefix;
use super::reader::{get, strings};
use super::report::Report;

pub(super) fn convert(
    name: &ObjectName,
    value: &Value,
    report: &mut Report<'_>,
) -> ServiceCidrObject {
    let null = Value::Null;
    let spec = get(value, "spec").unwrap_or(&null);
    let mut cidrs = Vec::new();
    for text in strings(spec, "cidrs", "spec.cidrs", report) {
        match parse_prefix(text) {
            Some(prefix) => cidrs.push(prefix),
            None => {
                let rule = "must be an IP prefix; it is skipped";
                report.field("spec.cidrs", &text.into(), rule);
            }
        }
    }
    ServiceCidrObject {
        name: name.clone(),
        cidrs,
    }
}
