//! What the control plane on this host says over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use settings::Settings;

/// How long it may take for anything.
const PATIENCE: Duration = Duration::from_millis(500);

/// Body of its answer to a GET for `path`. `None` if it does not run or does not answer: what the region tells
/// can be shown all the same.
pub(crate) fn get(settings: &Settings, path: &str) -> Option<String> {
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
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let is_served = head.split(' ').nth(1) == Some("200");
    is_served.then(|| body.to_owned())
}
