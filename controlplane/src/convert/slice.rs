//! EndpointSlice → [`SliceObject`].

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::model::{Endpoint, ObjectName, SliceObject, SlicePort};

use super::reader::{boolean, get, list, port, protocol, string};
use super::report::Report;
use super::{SERVICE_NAME_LABEL, annotation, is_host, label, parse_address, proxy_labels};

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
    Some(SliceObject {
        name: name.clone(),
        labels: proxy_labels(value),
        service: label(value, SERVICE_NAME_LABEL)
            .filter(|service| !service.is_empty())
            .map(|service| ObjectName::new(&*name.namespace, service)),
        ports: ports(value, report),
        endpoints: endpoints(value, is_v6, report),
        triggered: annotation(value, TRIGGER_TIME)
            .and_then(Value::as_str)
            .and_then(parse_time),
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

/// An RFC 3339 time, as Kubernetes writes it (UTC or with an offset); years 1970–9999.
fn parse_time(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let zone_start = rest.find(['Z', 'z', '+', '-'])?;
    let fraction: f64 = match rest.get(..zone_start)? {
        "" => 0.0,
        digits => format!("0{digits}").parse().ok()?,
    };
    let offset = match rest.get(zone_start..)? {
        "Z" | "z" => 0,
        zone => {
            let minutes =
                zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
            if zone.starts_with('-') {
                -minutes * 60
            } else {
                minutes * 60
            }
        }
    };
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    let whole = Duration::from_secs(u64::try_from(seconds).ok()?);
    Some(SystemTime::UNIX_EPOCH + whole + Duration::from_secs_f64(fraction))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counting years from March so that the
/// leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let from_march = (month + 9) % 12;
    let year = year - i64::from(from_march >= 10);
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(text: &str) -> Option<f64> {
        let since = parse_time(text)?.duration_since(SystemTime::UNIX_EPOCH);
        since.ok().map(|since| since.as_secs_f64())
    }

    #[test]
    fn trigger_times_are_read_with_fraction_and_offset() {
        assert_eq!(unix("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(unix("2000-02-29T12:00:00Z"), Some(951_825_600.0));
        assert_eq!(unix("2026-01-01T00:00:00.25Z"), Some(1_767_225_600.25));
        assert_eq!(unix("2026-01-01T02:00:00+02:00"), Some(1_767_225_600.0));
        assert_eq!(unix("2025-12-31T19:00:00-05:00"), Some(1_767_225_600.0));
        for text in ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00"] {
            assert_eq!(unix(text), None, "{text}");
        }
    }
}
