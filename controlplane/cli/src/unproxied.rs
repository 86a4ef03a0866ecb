//! Services that are listed and not proxied: the region knows nothing of them, the control plane does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use settings::Settings;

use crate::table::Table;

/// How long the control plane, on this host, may take for anything.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the control plane says: a list of `service`, `type` and `name`. `None` if it does not run or
/// does not answer, which is no reason not to show what is installed.
pub(crate) fn ask(settings: &Settings) -> Option<Vec<Value>> {
    let mut address = settings.metrics.listen;
    if address.ip().is_unspecified() {
        let here = match address.ip() {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(here);
    }
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET /unproxied HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let served = head.split(' ').nth(1) == Some("200");
    let Value::Array(found) = serde_json::from_str(body).ok().filter(|_| served)? else {
        return None;
    };
    Some(found)
}

/// Shows them below what is proxied.
pub(crate) fn show(found: &[Value], out: &mut dyn Write) -> std::io::Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["NOT PROXIED", "TYPE", "CLIENTS GO TO"]);
    for entry in found {
        let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
        let leads_to = match entry["name"].as_str() {
            Some(name) => format!("{name} (an alias in DNS)"),
            None => "its pods (their addresses are in DNS)".to_owned(),
        };
        table.push([text("service"), text("type"), leads_to]);
    }
    table.flush(out)
}
