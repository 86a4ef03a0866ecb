//! Packets to ask about.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value};

use crate::failure::Failure;

/// The first packet of a flow to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    /// Text or number that the answer repeats; `null` for a question from the command line.
    pub(super) id: Value,
    /// IANA protocol number.
    pub(super) protocol: u8,
    /// Source.
    pub(super) from: SocketAddr,
    /// Destination, of the same family.
    pub(super) to: SocketAddr,
}

/// Reads a file with a packet a line; empty lines do not count. A wrong line is an error that names
/// file, line and field, and no packet is answered then.
pub(super) fn read(path: &Path) -> Result<Vec<Question>, Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|cause| Failure::Wrong(format!("cannot read the packets {shown}: {cause}")))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            parse(line).map_err(|wrong| Failure::Wrong(format!("{shown}:{}: {wrong}", at + 1)))
        })
        .collect()
}

fn parse(line: &str) -> Result<Question, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| {
        // The place is in terms of this one line.
        let what = error.to_string();
        let what = what.split(" at line").next().unwrap_or_default();
        format!("not JSON at column {}: {what}", error.column())
    })?;
    let Value::Object(fields) = value else {
        return Err(
            "must be a JSON object such as {\"id\": \"a\", \"protocol\": \"tcp\", \
                    \"from\": \"192.0.2.1:40000\", \"to\": \"192.0.2.2:80\"}"
                .to_owned(),
        );
    };
    let id = match field(&fields, "id")? {
        id @ (Value::String(_) | Value::Number(_)) => id.clone(),
        other => return Err(wrong("id", other, "be text or a number")),
    };
    let protocol = match field(&fields, "protocol")?.as_str() {
        Some("tcp") => packet::parse::TCP,
        Some("udp") => packet::parse::UDP,
        Some("sctp") => packet::parse::SCTP,
        _ => {
            return Err(wrong(
                "protocol",
                &fields["protocol"],
                "be tcp, udp or sctp",
            ));
        }
    };
    let (from, to) = (address(&fields, "from")?, address(&fields, "to")?);
    if from.is_ipv4() != to.is_ipv4() {
        let rule = format!("be of the same address family as `from`, {from}");
        return Err(wrong("to", &fields["to"], &rule));
    }
    Ok(Question {
        id,
        protocol,
        from,
        to,
    })
}

fn address(fields: &Map<String, Value>, name: &str) -> Result<SocketAddr, String> {
    let value = field(fields, name)?;
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        let rule = "be an address and a port such as 192.0.2.1:80 or [2001:db8::1]:80";
        wrong(name, value, rule)
    })
}

fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a Value, String> {
    let missing = || format!("`{name}` is missing; a packet has id, protocol, from and to");
    fields.get(name).ok_or_else(missing)
}

fn wrong(name: &str, value: &Value, rule: &str) -> String {
    format!("`{name}` is {value}; it must {rule}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_question() {
        let line = r#"{"id": 7, "protocol": "sctp", "from": "[fd00::1]:5", "to": "[fd00::2]:80",
                       "note": "more fields are fine"}"#;
        let expected = Question {
            id: 7.into(),
            protocol: 132,
            from: "[fd00::1]:5".parse().unwrap(),
            to: "[fd00::2]:80".parse().unwrap(),
        };
        assert_eq!(parse(line), Ok(expected));
    }

    #[test]
    fn a_wrong_line_is_said_by_field() {
        let good = r#"{"id":"a","protocol":"tcp","from":"192.0.2.1:1","to":"192.0.2.2:80"}"#;
        parse(good).unwrap();
        let said = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            parse(&good.replace(from, to)).unwrap_err()
        };
        let cases = [
            ("\"id\"", "\"name\"", "`id` is missing"),
            ("\"a\"", "[]", "`id` is []"),
            (
                "\"tcp\"",
                "\"icmp\"",
                "`protocol` is \"icmp\"; it must be tcp, udp or sctp",
            ),
            ("192.0.2.1:1", "192.0.2.1", "`from` is \"192.0.2.1\""),
            (
                "192.0.2.2:80",
                "192.0.2.2:80000",
                "`to` is \"192.0.2.2:80000\"",
            ),
            ("192.0.2.2:80", "[fd00::1]:80", "same address family"),
            ("\"to\":\"192.0.2.2:80\"", "\"to\":80", "`to` is 80"),
            ("}", "", "not JSON at column"),
        ];
        for (from, to, expected) in cases {
            let said = said(from, to);
            assert!(said.contains(expected) && !said.contains('\n'), "{said}");
        }
        assert!(parse("[]").unwrap_err().contains("JSON object"));
    }
}
