//! Field readers: what a JSON value means, or a warning.
//!
//! Kubernetes treats an absent field and `null` alike; so does every reader here. A field of the
//! wrong type is reported once and then counts as absent.

use std::fmt::Display;

use serde_json::{Map, Value};

use hugepages::object::Protocol;

use super::report::Report;

/// The value of `key`, unless it is absent or null.
pub(super) fn get<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// A string.
pub(super) fn string<'a>(
    object: &'a Value,
    key: &str,
    field: impl Display,
    report: &mut Report<'_>,
) -> Option<&'a str> {
    let value = get(object, key)?;
    let text = value.as_str();
    if text.is_none() {
        report.field(field, value, "must be a string; it is ignored");
    }
    text
}

/// A boolean.
pub(super) fn boolean(
    object: &Value,
    key: &str,
    field: impl Display,
    report: &mut Report<'_>,
) -> Option<bool> {
    let value = get(object, key)?;
    let flag = value.as_bool();
    if flag.is_none() {
        report.field(field, value, "must be true or false; it is ignored");
    }
    flag
}

/// The items of a list; empty when absent.
pub(super) fn list<'a>(
    object: &'a Value,
    key: &str,
    field: impl Display,
    report: &mut Report<'_>,
) -> &'a [Value] {
    match get(object, key) {
        None => &[],
        Some(Value::Array(items)) => items,
        Some(value) => {
            report.field(field, value, "must be a list; it is ignored");
            &[]
        }
    }
}

/// The items of a list of strings; others are reported and left out.
pub(super) fn strings<'a>(
    object: &'a Value,
    key: &str,
    field: &str,
    report: &mut Report<'_>,
) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (index, item) in list(object, key, field, report).iter().enumerate() {
        match item.as_str() {
            Some(text) => found.push(text),
            None => report.field(
                format_args!("{field}[{index}]"),
                item,
                "must be a string; the entry is skipped",
            ),
        }
    }
    found
}

/// A map; absent and malformed ones are `None`.
pub(super) fn map<'a>(
    object: &'a Value,
    key: &str,
    field: impl Display,
    report: &mut Report<'_>,
) -> Option<&'a Map<String, Value>> {
    let value = get(object, key)?;
    let entries = value.as_object();
    if entries.is_none() {
        report.field(field, value, "must be a map; it is ignored");
    }
    entries
}

/// A port number, 1–65535. `Err` when there is a value that is none (already reported).
pub(super) fn port(
    object: &Value,
    key: &str,
    field: impl Display,
    report: &mut Report<'_>,
) -> Result<Option<u16>, ()> {
    let Some(value) = get(object, key) else {
        return Ok(None);
    };
    match value.as_u64().and_then(|number| u16::try_from(number).ok()) {
        Some(number) if number > 0 => Ok(Some(number)),
        _ => {
            report.field(
                field,
                value,
                "must be a number from 1 to 65535; it is skipped",
            );
            Err(())
        }
    }
}

/// A protocol, TCP when absent. `Err` when there is a value that is none (already reported).
pub(super) fn protocol(
    object: &Value,
    field: impl Display,
    report: &mut Report<'_>,
) -> Result<Protocol, ()> {
    match get(object, "protocol").map(|value| (value, value.as_str())) {
        None | Some((_, Some("TCP"))) => Ok(Protocol::Tcp),
        Some((_, Some("UDP"))) => Ok(Protocol::Udp),
        Some((_, Some("SCTP"))) => Ok(Protocol::Sctp),
        Some((value, _)) => {
            report.field(
                field,
                value,
                "must be TCP, UDP or SCTP; the port is skipped",
            );
            Err(())
        }
    }
}
